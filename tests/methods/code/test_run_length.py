"""Run lengths: what a loop counts, the width that is cheapest, and never much more than the bitmask."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.codec import CodecContract
from paredown.core.errors import Damaged
from paredown.methods.code.bitmask import Bitmask
from paredown.methods.code.run_length import WIDTHS, RunLength, best_width, places, runs


class TestRunLength(CodecContract):
    def part(self) -> RunLength:
        return RunLength()


def test_a_run_that_does_not_fit_takes_another_field() -> None:
    values = np.array([0, 0, 5] + [0] * 7 + [1, 2] + [0] * 9)
    assert runs(values, 2).tolist() == [2, 3, 3, 1, 0]
    assert runs(values, 3).tolist() == [2, 7, 0, 0]
    assert places(runs(values, 2), 2).tolist() == places(runs(values, 3), 3).tolist() == [2, 10, 11]


def test_one_bit_is_the_bitmask() -> None:
    values = np.array([0, 3, 0, 0, 1, 1])
    assert runs(values, 1).tolist() == (values == 0).tolist()


@given(st.lists(st.sampled_from([0] * 20 + [1, -5]), max_size=400), st.sampled_from(WIDTHS))
@settings(max_examples=200, deadline=None)
def test_the_runs_say_where_the_values_are(values: list[int], width: int) -> None:
    array = np.array(values, dtype=np.int64)
    found = runs(array, width)
    assert places(found, width).tolist() == np.flatnonzero(array).tolist()
    assert found.size == 0 or 0 <= found.min() <= found.max() < 1 << width
    best = best_width(array)
    assert all(best * len(runs(array, best)) <= w * len(runs(array, w)) for w in WIDTHS)


@pytest.mark.parametrize(("share", "widths"), [(0.6, (1, 2)), (0.1, (4, 5)), (0.001, (10, 11, 12))])
def test_the_sparser_the_wider(share: float, widths: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).random(50_000) < share
    assert best_width(values) in widths


@given(st.integers(0, 2**32), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_it_is_never_much_longer_than_the_bitmask(seed: int, share: float) -> None:
    draw = np.random.default_rng(seed)
    values = draw.integers(-7, 8, 500) * (draw.random(500) < share)
    assert len(RunLength().encode(values)) <= len(Bitmask().encode(values)) + 3


def test_runs_beyond_the_end_are_damage() -> None:
    data = RunLength().encode(np.array([0, 0, 0, 0, 9]))
    with pytest.raises(Damaged, match="entry 4 of 4"):
        RunLength().decode(data, 4)
    with pytest.raises(Damaged):
        RunLength().decode(b"\0" + data[1:], 5)
