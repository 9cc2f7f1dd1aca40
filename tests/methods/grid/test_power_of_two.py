"""Powers of two as a grid."""

import pytest
import torch

from contracts.grid import GridContract
from paredown.methods.grid.power_of_two import PowerOfTwo, highest_power


class TestPowerOfTwo(GridContract):
    def part(self) -> PowerOfTwo:
        return PowerOfTwo(4)


@pytest.mark.parametrize(
    ("largest", "power"), [(1.0, 0), (1.49, 0), (1.5, 1), (2.9, 1), (3.0, 2), (0.74, -1), (0.0, 0)]
)
def test_the_highest_power_is_the_nearest_one(largest: float, power: int) -> None:
    assert highest_power(largest) == power


@pytest.mark.parametrize("bits", range(2, 9))
def test_values_are_signed_powers_and_zero_and_the_nearest_of_them(bits: int) -> None:
    weight = torch.randn((40, 40), generator=torch.Generator().manual_seed(bits))
    near = PowerOfTwo(bits).fit(weight)()
    mantissa, exponent = torch.frexp(near)
    assert ((mantissa.abs() == 0.5) | (near == 0)).all()
    top = highest_power(float(weight.abs().max()))
    table = torch.tensor([0.0] + [s * 2.0 ** (top - k) for k in range(2 ** (bits - 1) - 1) for s in (1, -1)])
    least = (weight[..., None] - table).abs().amin(-1)
    torch.testing.assert_close((near - weight).abs(), least, rtol=0, atol=1e-7)
    assert len(near.unique()) <= 2**bits - 1 and int(exponent[near != 0].max()) - 1 <= top


def test_a_product_is_a_shift() -> None:
    weight = torch.tensor([[3.0, -0.26, 0.5, 1.4]])
    powers = PowerOfTwo(4).fit(weight)()
    assert powers.tolist() == [[4, -0.25, 0.5, 1]]
    x = torch.arange(-128, 128)[:, None]
    shifts = torch.tensor([2, -2, -1, 0])
    shifted = torch.where(shifts >= 0, (x * 4) << shifts.clamp(min=0), (x * 4) >> (-shifts).clamp(min=0))
    assert torch.equal(x * 4 * powers.abs(), shifted.float())
