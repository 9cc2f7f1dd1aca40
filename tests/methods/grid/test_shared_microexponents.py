"""MX with shared microexponents (A-S4-28; part F 9): by its definition, weight by weight."""

import math

import pytest
import torch

from contracts.grid import GridContract
from paredown.methods.grid.shared_microexponents import MANTISSA, SharedMicroexponents, exponent_of, pair_exponents


class TestMx9(GridContract):
    def part(self) -> SharedMicroexponents:
        return SharedMicroexponents(9)


class TestMx4(GridContract):
    def part(self) -> SharedMicroexponents:
        return SharedMicroexponents(4)


def by_definition(row: list[float], mantissa: int) -> list[float]:
    """Return the row rounded one value at a time."""
    found = []
    for at, value in enumerate(row):
        block = row[at // 16 * 16 : at // 16 * 16 + 16]
        pair = row[at // 2 * 2 : at // 2 * 2 + 2]
        shared = math.frexp(max(map(abs, block)))[1] - 1
        own = shared if max(map(abs, pair)) >= 2.0**shared else shared - 1
        step = 2.0 ** (own - mantissa + 1)
        found.append(math.copysign(min(round(abs(value) / step), 2**mantissa - 1) * step, value))
    return found


@pytest.mark.parametrize("bits", MANTISSA)
def test_it_is_the_definition(bits: int) -> None:
    weight = torch.randn((5, 40), generator=torch.Generator().manual_seed(bits))
    wanted = torch.tensor([by_definition(row, MANTISSA[bits]) for row in weight.tolist()])
    assert torch.equal(SharedMicroexponents(bits).fit(weight)(), wanted)


@pytest.mark.parametrize("bits", MANTISSA)
def test_the_average_width_is_its_name(bits: int) -> None:
    slot = SharedMicroexponents(bits).fit(torch.randn((3, 64)))
    assert slot.stored_bits() == bits * 3 * 64


def test_steps_are_powers_of_two_and_a_pair_is_at_most_one_lower() -> None:
    weight = torch.randn((4, 64), generator=torch.Generator().manual_seed(0))
    assert (torch.frexp(SharedMicroexponents(6).fit(weight).step).mantissa == 0.5).all()
    exponents = pair_exponents(weight).view(4, 4, 8)
    assert (exponents.amax(2) - exponents.amin(2) <= 1).all() and len(exponents.unique()) > 2


def test_exponents_at_the_edges() -> None:
    x = torch.tensor([0.0, 1.0, 1.999, 2.0, 0.4999, 2.0**-126, 3e38])
    assert exponent_of(x).tolist() == [-127, 0, 0, 1, -2, -126, 127]


def test_more_bits_are_better() -> None:
    weight = torch.randn((16, 64), generator=torch.Generator().manual_seed(0))
    errors = [float((SharedMicroexponents(b).fit(weight)() - weight).norm()) for b in (9, 6, 4)]
    assert errors[0] * 4 < errors[1] and errors[1] * 2 < errors[2]
