"""Small floating point as a grid."""

import pytest
import torch

from contracts.grid import GridContract
from paredown.core.errors import BadInput
from paredown.graph.blocks import Blocked
from paredown.graph.number import FLOATS, rounded
from paredown.methods.grid.minifloat import NAMES, Minifloat


class TestFp8(GridContract):
    def part(self) -> Minifloat:
        return Minifloat()


class TestFp4(GridContract):
    def part(self) -> Minifloat:
        return Minifloat("fp4_e2m1")


class TestHalf(GridContract):
    def part(self) -> Minifloat:
        return Minifloat("bf16", "none")


@pytest.mark.parametrize("name", NAMES)
def test_codes_are_the_formats_bit_patterns(name: str) -> None:
    weight = torch.randn((4, 3, 3, 3), generator=torch.Generator().manual_seed(0))
    slot, number = Minifloat(name, "none").fit(weight), FLOATS[name]
    assert torch.equal(slot.codes.long(), number.encode(weight)) and slot.bits == number.bits
    assert torch.equal(slot(), rounded(weight, number))
    assert isinstance(slot, Blocked) and slot.stored_bits() == weight.numel() * number.bits


@pytest.mark.parametrize("name", [n for n in NAMES if FLOATS[n].bits <= 8])
def test_the_largest_weight_gets_the_largest_value(name: str) -> None:
    weight = torch.randn((4, 9), generator=torch.Generator().manual_seed(0)) * 1e-3
    slot, number = Minifloat(name).fit(weight), FLOATS[name]
    step = float(weight.abs().max()) / number.largest
    assert float(slot().abs().max()) == pytest.approx(float(weight.abs().max()), rel=1e-6)
    torch.testing.assert_close(slot(), (rounded(weight.double() / step, number) * step).float(), rtol=1e-6, atol=0)
    assert torch.isfinite(slot()).all() and slot.step.shape == (1, 1)


def test_a_half_precision_network_loses_what_half_precision_loses() -> None:
    slot = Minifloat("fp16").fit(torch.tensor([[2.0**-27, 1 + 2.0**-12, 70000.0]]))
    assert slot().tolist() == [[0, 1, 65504]] and slot.stored_bits() == 3 * 16


def test_unknown_formats_are_refused() -> None:
    with pytest.raises(BadInput, match="number"):
        Minifloat("fp8")
