"""Run-length coding: round trips, sizes by hand, and damage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from paredown.core.errors import Damaged
from paredown.cost.rlc import decode, encode, expected_ratio

SPARSE = arrays(np.int16, st.integers(0, 300), elements=st.sampled_from([0, 0, 0, 0, 1, -1, 32767, -32768]))


@given(SPARSE)
def test_round_trip(values: np.ndarray) -> None:
    code = encode(values)
    assert len(code) % 8 == 0
    assert np.array_equal(decode(code, len(values)), values)


def test_three_pairs_fill_a_word() -> None:
    assert len(encode(np.array([1, 2, 3]))) == 8
    assert len(encode(np.array([1, 2, 3, 4]))) == 16
    assert int.from_bytes(encode(np.array([0, 0, 5])), "little") == 1 << 63 | 5 << 5 | 2


@pytest.mark.parametrize("zeros, pairs", [(31, 1), (32, 2), (63, 2), (64, 3)])
def test_long_runs_are_cut_every_32_zeros(zeros: int, pairs: int) -> None:
    code = encode(np.array([0] * zeros + [9]))
    assert len(code) == 8 * -(-pairs // 3)
    word = int.from_bytes(code, "little")
    assert [word >> (21 * slot) & 31 for slot in range(pairs - 1)] == [31] * (pairs - 1)


@pytest.mark.parametrize("density", [0.05, 0.3, 0.6])
def test_expected_size_is_the_size_of_random_maps(density: float) -> None:
    draw = np.random.default_rng(0)
    values = (draw.random(30_000) < density) * draw.integers(1, 99, 30_000)
    assert len(encode(values)) / (2 * len(values)) == pytest.approx(expected_ratio(density), rel=0.02)


def test_dense_maps_are_moved_plain_and_empty_ones_cost_little() -> None:
    assert expected_ratio(1.0) == 1.0
    assert expected_ratio(0.0) == pytest.approx(len(encode(np.zeros(32 * 300))) / (2 * 32 * 300))


def test_damage_is_seen() -> None:
    code = encode(np.array([1, 0, 2, 0, 3, 4]))
    with pytest.raises(Damaged, match="64-bit words"):
        decode(code[:-1], 6)
    with pytest.raises(Damaged, match="flag"):
        decode(code + code, 6)
    with pytest.raises(Damaged, match="where 600 are expected"):
        decode(code, 600)
