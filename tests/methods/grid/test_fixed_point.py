"""FixedPoint point: integers times a power of two."""

import math

import pytest
import torch

from contracts.grid import GridContract
from paredown.methods.grid.fixed_point import FixedPoint, best_fraction


class TestFixedPoint(GridContract):
    def part(self) -> FixedPoint:
        return FixedPoint(8)


class TestFixedPointWithAFraction(GridContract):
    def part(self) -> FixedPoint:
        return FixedPoint(6, 3)


@pytest.mark.parametrize("bits", [2, 3, 8, 16])
@pytest.mark.parametrize("largest", [1e-6, 0.3, 0.99, 1.0, 1.01, 127.0, 127.4, 127.6, 1e6])
def test_the_fraction_is_the_most_that_holds_the_largest(bits: int, largest: float) -> None:
    fraction, high = best_fraction(largest, bits), 2 ** (bits - 1) - 1
    assert round(largest * 2.0**fraction) <= high < round(largest * 2.0 ** (fraction + 1))


def test_the_step_is_a_power_of_two_and_values_are_the_nearest() -> None:
    weight = torch.randn((5, 7), generator=torch.Generator().manual_seed(1)) * 3
    slot = FixedPoint(8).fit(weight)
    assert math.frexp(float(slot.step))[0] == 0.5 and slot.step.dim() == 0
    assert ((slot() - weight).abs() <= slot.step / 2).all()


def test_what_is_beyond_saturates() -> None:
    slot = FixedPoint(4, 2).fit(torch.tensor([[0.3, 5.0, -5.0, 1.5]]))
    assert slot().tolist() == [[0.25, 1.75, -1.75, 1.5]]


def test_a_product_of_fixed_point_numbers_needs_only_shifts() -> None:
    """(a · 2^−f)(b · 2^−g) = ab · 2^−(f+g), exactly."""
    draw = torch.Generator().manual_seed(0)
    a, b = (FixedPoint(8, f).fit(torch.randn((4, 4), generator=draw)) for f in (5, 6))
    whole = a.codes.long() * b.codes.long()
    assert torch.equal((a() * b()).double(), whole * 2.0**-11)
