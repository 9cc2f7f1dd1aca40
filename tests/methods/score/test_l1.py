"""Sums of absolute weights."""

import torch

from contracts.score import ScoreContract
from paredown.core.work import Work
from paredown.graph.groups import groups
from paredown.methods.score.l1 import L1, l1


class TestL1(ScoreContract):
    def part(self) -> L1:
        return L1()


def test_the_sum() -> None:
    assert l1([torch.tensor([3.0, -2.0]), torch.tensor([1.0, -5.0])]).tolist() == [5, 6]


def test_tied_layers_are_summed() -> None:
    net = TestL1().net()
    group = groups(net)[0]
    wanted = sum(net.slot(slot)().abs().flatten(1).sum(1) for slot, _ in group.makers)
    assert len(group.makers) == 3
    torch.testing.assert_close(L1().importance(net, group, Work()), wanted.detach())
