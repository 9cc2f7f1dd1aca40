"""The control: importance by lot."""

import pytest
import torch

from contracts.nets import small_conv
from contracts.score import ScoreContract
from paredown.core.work import Work
from paredown.graph.groups import groups
from paredown.methods.score.random_channels import RandomChannels


class TestRandomChannels(ScoreContract):
    finds_dead = False

    def part(self) -> RandomChannels:
        return RandomChannels()


def test_the_draw_follows_the_seed_and_the_group() -> None:
    net = small_conv()
    found = [group for group in groups(net) if len(group)]
    first, other = ([RandomChannels().importance(net, g, Work(seed=seed)) for g in found] for seed in (1, 2))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert not torch.equal(first[0][: len(first[1])], first[1][: len(first[0])])
    assert torch.equal(first[1], RandomChannels().importance(net, found[1], Work(seed=1))), "whatever was scored before"


def test_every_channel_is_as_likely_to_go() -> None:
    """Over 400 seeds each of 8 channels is the lowest 50 times, give or take four deviations (6.6 each)."""
    net = small_conv()
    group = groups(net)[0]
    lowest = torch.tensor(
        [int(RandomChannels().importance(net, group, Work(seed=seed)).argmin()) for seed in range(400)]
    )
    counts = torch.bincount(lowest, minlength=len(group))
    assert counts.sum() == 400 and float((counts - 50).abs().max()) == pytest.approx(0, abs=27)
