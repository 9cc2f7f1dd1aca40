"""Calibration: the sheet's histograms (A-S4-31, part E 4), and what one pass sees."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.nets import inputs_for, small_conv
from paredown.core.errors import BadInput
from paredown.graph.activations import observe
from paredown.graph.ranges import (
    BINS,
    METHODS,
    calibrate,
    chosen,
    histogram,
    least_divergence,
    least_squares,
    percentile,
    seen,
)

EXPONENTIAL = torch.tensor([round(1e6 * math.exp(-i / 64)) for i in range(2048)])
HALF_NORMAL = torch.tensor([round(1e6 * math.exp(-(((i + 0.5) / 256) ** 2) / 2)) for i in range(2048)])


@pytest.mark.parametrize(
    ("counts", "fractional", "kept", "divergence"),
    [
        (EXPONENTIAL, True, 703, 3.556e-4),
        (EXPONENTIAL, False, 767, 2.627e-4),
        (HALF_NORMAL, True, 1228, None),
        (HALF_NORMAL, False, 1279, None),
    ],
)
def test_kl_chooses_what_the_sheet_says(counts: torch.Tensor, fractional: bool, kept: int, divergence: float) -> None:
    found = least_divergence(counts, fractional=fractional)
    assert found[0] == kept
    assert divergence is None or found[1] == pytest.approx(divergence, rel=1e-3)


def test_kl_keeps_all_of_a_uniform_histogram_and_of_a_short_one() -> None:
    assert least_divergence(torch.full((2048,), 1000.0))[0] == 2048
    assert least_divergence(torch.tensor([5.0, 0, 3]))[0] == 3


@pytest.mark.parametrize(("method", "bits"), [("kl", 8), ("kl", 4), ("percentile", 8), ("mse", 4)])
def test_a_lonely_outlier_is_cut(method: str, bits: int) -> None:
    for seed in range(3):
        x = torch.cat([torch.randn(20000, generator=torch.Generator().manual_seed(seed)), torch.tensor([40.0])])
        low, high = chosen(seen(x), method, bits)
        assert 2 < -low < 5 and 2 < high < 5
        assert chosen(seen(x), "min-max", bits)[1] == 40


@given(st.integers(0, 99), st.floats(1e-6, 1e6), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_counts_are_exact_however_the_values_come(seed: int, size: float, parts: int) -> None:
    x = torch.randn(600, generator=torch.Generator().manual_seed(seed)).exp() * size
    x[::3] *= -1
    first, *rest = x.sort().values.chunk(parts)
    grown = histogram(first)
    for more in rest:
        grown = grown.with_values(more)
    bins = (x.double() / grown.width).floor().long() + BINS
    assert torch.equal(grown.counts, torch.bincount(bins, minlength=2 * BINS).double())
    assert math.frexp(grown.width)[0] == 0.5 and len(grown.sizes()) > BINS // 2


def test_percentiles_are_those_of_the_values() -> None:
    x = torch.randn(50000, generator=torch.Generator().manual_seed(0))
    x[0] = 100
    found = histogram(x)
    for share in (0.9, 0.99, 0.999):
        low, high = percentile(found, share)
        assert (x > high).sum() <= (1 - share) * 50000 < (x > high - 2 * found.width).sum()
        assert (x < low).sum() <= (1 - share) * 50000 < (x < low + 2 * found.width).sum()


def test_least_squares_is_the_best_of_its_candidates() -> None:
    x = torch.randn(20000, generator=torch.Generator().manual_seed(1)).relu()
    value = seen(x)
    low, high = least_squares(value.histogram, value.extremes, 4)

    def error(most: float) -> float:
        step = most / 15
        return float(((x / step).round().clamp(0, 15) * step - x).square().mean())

    assert low == 0 and error(high) < 0.9 * error(float(x.max()))
    assert error(high) < 1.01 * min(error(float(x.max()) * k / 50) for k in range(5, 51))


def test_the_moving_average_by_hand() -> None:
    value = seen(torch.tensor([-1.0, 2.0])).with_values(torch.tensor([0.0, 4.0])).with_values(torch.tensor([-3.0, 1.0]))
    assert value.average == pytest.approx((-0.9 * 0.9 - 0.3, (0.9 * 2 + 0.4) * 0.9 + 0.1))
    assert value.extremes == (-3, 4) and value.histogram.counts.sum() == 6


def test_one_pass_sees_what_feeds_the_layers() -> None:
    net, (x,) = small_conv(), inputs_for(small_conv(), 50)
    found = calibrate(net, x, batch=16)
    wanted = observe(net, x)
    assert found.keys() == wanted.keys() and len(found) == 5
    for name, value in found.items():
        assert value.extremes == pytest.approx(wanted[name][:2], rel=1e-5, abs=1e-6)
        for method in METHODS:
            low, high = chosen(value, method, 8)
            assert min(value.extremes[0], 0) <= low < high <= value.extremes[1] and high > 0


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(BadInput, match="finite"):
        seen(torch.tensor([1.0, float("nan")]))
