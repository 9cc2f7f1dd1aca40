"""Linear quantization: the lecture's example, and what the map promises (A-S0-15, A-S4-24, -27; part E 12)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.core.errors import BadInput
from paredown.graph.blocks import from_blocks, in_blocks
from paredown.graph.linear import affine, signed, symmetric, unsigned


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_lectures_example() -> None:
    found = affine(torch.tensor(-1.08), torch.tensor(2.12), signed(2))
    assert float(found.step) == pytest.approx(1.0667, abs=5e-5) and float(found.zero) == -1
    weight = torch.tensor([2.09, -0.98, 1.48, 0.09])
    assert found.encode(weight).tolist() == [1, -2, 0, -1]
    assert found.decode(found.encode(weight)).tolist() == pytest.approx([2.1333, -1.0667, 1.0667, 0], abs=1e-4)


@given(st.integers(1, 10), st.floats(-50, 50), st.floats(-50, 50), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_zero_is_exact_and_no_value_of_the_range_moves_by_more_than_a_step(
    bits: int, a: float, b: float, seed: int
) -> None:
    low, high = min(a, b, 0), max(a, b, 0)
    if high - low < 1e-6:
        return
    found = affine(torch.tensor(low).double(), torch.tensor(high).double(), unsigned(bits))
    assert float(found.rounded(torch.zeros(1).double())) == 0 and found.zero == found.zero.round()
    x = torch.rand(100, generator=torch.Generator().manual_seed(seed)).double() * (high - low) + low
    error = (found.rounded(x) - x).abs()
    inside = (x / found.step + found.zero >= found.low) & (x / found.step + found.zero <= found.high)
    assert (error <= found.step * (1 + 1e-9)).all() and (error[inside] <= found.step / 2 * (1 + 1e-9)).all()


def test_asymmetric_is_better_where_no_value_is_negative() -> None:
    """A-S4-27, on ReLU data at the same width."""
    x = draw(5000).relu()
    for bits in (2, 4, 8):
        lop = affine(x.min(), x.max(), unsigned(bits)).rounded(x)
        even = symmetric(x.abs().max(), bits).rounded(x)
        assert (lop - x).square().mean() < 0.5 * (even - x).square().mean()


def test_a_finer_granularity_is_never_much_worse_and_far_better_on_uneven_channels() -> None:
    weight = draw(8, 32) * torch.logspace(-2, 0, 8)[:, None]
    errors = []
    for view in (weight.view(1, 1, -1), in_blocks(weight, 0), in_blocks(weight, 8)):
        least, most = view.amin(2, keepdim=True), view.amax(2, keepdim=True)
        near = affine(least, most, signed(4)).rounded(view)
        back = near.view_as(weight) if near.shape[0] == 1 else from_blocks(near, weight.shape)
        errors.append(float(((back - weight).flatten(1).norm(dim=1) / weight.norm(dim=1)).mean()))
    assert errors[0] > 4 * errors[1] > 4 * errors[2] * 1.2


def test_empty_ranges_and_widths() -> None:
    none = torch.zeros(3)
    assert (affine(none, none, unsigned(8)).step == 1).all() and (symmetric(none, 8).step == 1).all()
    assert symmetric(torch.tensor(127.0), 8).high == 127 and signed(8) == (-128, 127) and unsigned(8) == (0, 255)
    assert float(symmetric(torch.tensor(7.0), 4).zero) == 0
    with pytest.raises(BadInput, match="1 bits"):
        symmetric(torch.tensor(1.0), 1)
