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
