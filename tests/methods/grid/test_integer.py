"""Integers times a step."""

import pytest
import torch

from contracts.grid import GridContract
from paredown.core.errors import BadInput
from paredown.methods.grid.integer import Integer


class TestInteger(GridContract):
    def part(self) -> Integer:
        return Integer(4)


class TestIntegerPerTensor(GridContract):
    def part(self) -> Integer:
        return Integer(3, "tensor")


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_no_value_moves_by_more_than_half_a_step(bits: int, granularity: str) -> None:
    weight = torch.randn((6, 4, 3, 3), generator=torch.Generator().manual_seed(bits))
    slot = Integer(bits, granularity).fit(weight)
    assert ((slot() - weight).abs() <= slot.step / 2 * (1 + 1e-3)).all()
    assert slot.codes.abs().max() == 2 ** (bits - 1) - 1
    assert slot.step.numel() == (6 if granularity == "channel" else 1)


def test_a_channel_has_its_own_step() -> None:
    """Ranges 100 times apart: the small channel is lost per tensor and kept per channel."""
    weight = torch.randn((2, 50), generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [100.0]])
    errors = [float((Integer(8, g).fit(weight)() - weight)[0].norm() / weight[0].norm()) for g in ("channel", "tensor")]
    assert errors[0] < 0.01 and errors[1] > 0.1


def test_settings_outside_their_range_are_refused() -> None:
    for wrong in ({"bits": 1}, {"bits": 17}, {"granularity": "row"}):
        with pytest.raises(BadInput, match=next(iter(wrong))):
            Integer(**wrong)


class TestAsymmetric(GridContract):
    def part(self) -> Integer:
        return Integer(4, symmetric=False)


class TestAsymmetricPerTensor(GridContract):
    def part(self) -> Integer:
        return Integer(8, "tensor", False)


@pytest.mark.parametrize("bits", [2, 4, 8, 12])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_an_asymmetric_range_is_used_to_both_ends(bits: int, granularity: str) -> None:
    """Weights from −1 to 3: the step is the range over 2^bits − 1, zero is a code, no value moves by more than one step."""
    weight = torch.rand((6, 40), generator=torch.Generator().manual_seed(bits)) * 4 - 1
    weight[:, 0], weight[:, 1], weight[:, 2] = -1, 3, 0
    slot = Integer(bits, granularity, False).fit(weight)
    assert slot.step.shape == slot.zero.shape == (6 if granularity == "channel" else 1, 1)
    torch.testing.assert_close(slot.step, torch.full_like(slot.step, 4 / (2**bits - 1)))
    assert slot.codes.min() == 0 and slot.codes.max() == 2**bits - 1
    assert (slot()[:, 2] == 0).all() and ((slot() - weight).abs() <= slot.step * (1 + 1e-5)).all()
    assert slot.stored_bits() == 240 * bits + slot.step.numel() * (32 + bits)


def test_a_range_on_one_side_is_worth_a_bit() -> None:
    weight = torch.rand((6, 50), generator=torch.Generator().manual_seed(0))
    errors = [float((Integer(b, symmetric=s).fit(weight)() - weight).norm()) for b, s in ((4, False), (5, True))]
    assert errors[0] == pytest.approx(errors[1], rel=0.15)
