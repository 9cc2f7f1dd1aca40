"""Integers with a step for each group."""

import torch

from contracts.grid import GridContract
from paredown.methods.grid.group import Group
from paredown.methods.grid.integer import Integer


class TestGroup(GridContract):
    def part(self) -> Group:
        return Group(4, 5)


def test_a_finer_step_is_never_worse() -> None:
    """A-S4-28: error per tensor ≥ per channel ≥ per group, on weights whose ranges differ."""
    for seed in range(3):
        draw = torch.Generator().manual_seed(seed)
        weight = torch.randn((8, 64), generator=draw) * torch.randn((8, 64), generator=draw).exp()
        grids = (Integer(4, "tensor"), Integer(4, "channel"), Group(4, 32), Group(4, 8))
        errors = [float((grid.fit(weight)() - weight).square().sum()) for grid in grids]
        assert errors == sorted(errors, reverse=True) and errors[0] > 2 * errors[-1]


def test_groups_follow_the_input_channels() -> None:
    """With groups of 4 = the input channels, each output channel and kernel position has its own step."""
    weight = torch.randn((3, 4, 2, 2), generator=torch.Generator().manual_seed(0))
    slot = Group(8, 4).fit(weight)
    assert slot.step.shape == (3, 4)
    wanted = weight.abs().amax(1).flatten(1) / 127
    torch.testing.assert_close(slot.step, wanted, rtol=1e-3, atol=0)
    assert slot.stored_bits() == 48 * 8 + 12 * 16
    assert torch.equal(slot.step, slot.step.half().float())


class TestAsymmetricGroup(GridContract):
    def part(self) -> Group:
        return Group(4, 5, False)


def test_a_group_has_a_zero_point_of_its_own() -> None:
    """Groups of positive and of negative weights use all their codes, where symmetric ones use half."""
    weight = torch.rand((4, 16), generator=torch.Generator().manual_seed(0)) + 0.01
    weight[:, 8:] *= -1
    slot = Group(4, 8, False).fit(weight)
    assert slot.zero.tolist() == [[0, 15]] * 4 and slot.step.shape == (4, 2)
    assert torch.equal(slot.step, slot.step.half().float())
    assert slot.stored_bits() == 64 * 4 + 8 * (16 + 4)
    errors = [float((Group(4, 8, s).fit(weight)() - weight).norm()) for s in (True, False)]
    assert errors[1] < 0.65 * errors[0]
