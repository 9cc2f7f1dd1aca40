"""Learning-rate policies in closed form."""

import itertools
import math

import pytest

from paredown.core.plan import SCHEDULES
from paredown.train.schedule import factor


@pytest.mark.parametrize("t", [0.1, 0.25, 0.5, 0.9, 1.0])
def test_closed_forms(t: float) -> None:
    assert factor("constant", t, 0.0) == 1
    assert factor("linear", t, 0.0) == pytest.approx(1 - t)
    assert factor("cosine", t, 0.0) == pytest.approx(math.cos(math.pi * t / 2) ** 2)
    rest = (t - 0.1) / 0.9
    assert factor("linear", t, 0.1) == pytest.approx(1 - rest)
    assert factor("cosine", t, 0.1) == pytest.approx((1 + math.cos(math.pi * rest)) / 2)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_warm_up_is_linear_to_the_peak(schedule: str) -> None:
    assert [factor(schedule, t, 0.2) for t in (0.05, 0.1, 0.15)] == pytest.approx([0.25, 0.5, 0.75])
    assert factor(schedule, 0.2, 0.2) == 1 and 0 < factor(schedule, 0.0, 0.2) < 0.01


def test_onecycle() -> None:
    """Smith and Topin: from 1/25 to the peak over 30 %, then to zero; the warm-up has no say."""
    for warmup in (0.0, 0.5):
        found = [factor("onecycle", t, warmup) for t in (0, 0.15, 0.3, 0.65, 1)]
        assert found == pytest.approx([1 / 25, (1 + 1 / 25) / 2, 1, 0.5, 0])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_never_below_zero_or_above_the_peak(schedule: str) -> None:
    for warmup in (0.0, 0.05, 0.9):
        values = [factor(schedule, i / 1000, warmup) for i in range(1001)]
        assert min(values) >= 0 and max(values) <= 1
        assert max(values) > 0.99
        jumps = [abs(a - b) for a, b in itertools.pairwise(values)]
        assert max(jumps) < 0.03
