"""All weights that leave with a channel."""

import pytest
import torch

from contracts.nets import small_conv, small_mlp
from contracts.score import ScoreContract
from paredown.core.work import Work
from paredown.graph.groups import groups
from paredown.methods.score.group_norm import GroupNorm, relative


class TestGroupNorm(ScoreContract):
    def part(self) -> GroupNorm:
        return GroupNorm()


def test_makers_and_readers_count() -> None:
    net = small_mlp()
    group = groups(net)[0]
    made, read = net.slot("0.weight")().detach(), net.slot("2.weight")().detach()
    sums = (made.square().sum(1) + read.square().sum(0)).double()
    torch.testing.assert_close(GroupNorm().importance(net, group, Work()), sums / sums.mean(), rtol=1e-5, atol=1e-6)


def test_scales_of_norms_count() -> None:
    net = small_conv()
    group = groups(net)[0]
    before = GroupNorm().importance(net, group, Work())
    net.slot("n1.weight").value.data[3] += 10
    after = GroupNorm().importance(net, group, Work())
    assert after[3] > 2 * before[3] and after.argmax() == 3


def test_scores_are_shares_of_the_mean() -> None:
    assert relative(torch.tensor([1.0, 2.0, 3.0])).tolist() == [0.5, 1.0, 1.5]
    assert relative(torch.zeros(3)).tolist() == [0, 0, 0]
    for group in groups(small_conv()):
        if len(group):
            assert float(GroupNorm().importance(small_conv(), group, Work()).mean()) == pytest.approx(1)


def test_a_channel_that_nobody_reads_ranks_lower() -> None:
    """What magnitude of the filters alone cannot see: channel 5's filter is the largest, but nothing reads it."""
    net = small_mlp()
    group = groups(net)[0]
    net.slot("0.weight").value.data = torch.ones(32, 64) * 0.01
    net.slot("0.weight").value.data[5] = 0.02
    net.slot("2.weight").value.data = torch.ones(16, 32)
    net.slot("2.weight").value.data[:, 5] = 0.0
    assert int(GroupNorm().importance(net, group, Work()).argmin()) == 5
