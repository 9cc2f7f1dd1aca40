"""The relative index: the paper's example, zeros stored where a gap is too long, and the bytes that follow from it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.codec import CodecContract
from paredown.core.errors import Damaged
from paredown.methods.code.relative_index import RelativeIndex, absolute, padding_fraction, relative

COLUMN = np.array([0, 0, 1, 2] + [0] * 18 + [3])


class TestRelativeIndex(CodecContract):
    def part(self) -> RelativeIndex:
        return RelativeIndex()

    def arrays(self) -> dict[str, np.ndarray]:
        """A sparse source stands for the peaked one: where few entries are 0 an index costs more than it saves."""
        peaked = super().arrays()["peaked"]
        return super().arrays() | {"peaked": peaked * (np.random.default_rng(2).random(peaked.size) < 0.1)}


def test_eies_example() -> None:
    """Han et al. 2016, section III-B: [0,0,1,2,0×18,3] is v = [1,2,0,3], z = [2,0,15,2] at 4 bits."""
    v, z = relative(COLUMN, 4)
    assert v.tolist() == [1, 2, 0, 3] and z.tolist() == [2, 0, 15, 2]
    assert padding_fraction(v) == 0.25 and padding_fraction(v[:0]) == 0
    np.testing.assert_array_equal(absolute(v, z, COLUMN.size), COLUMN)


def test_deep_compressions_example() -> None:
    """Figure 2 there: entries at 1, 4 and 15; at 3 bits the span of 11 takes a filler zero at 12, 8 after the last."""
    values = np.zeros(16, int)
    values[[1, 4, 15]] = 34, 9, 17
    v, z = relative(values, 3)
    assert v.tolist() == [34, 9, 0, 17] and (z + 1).tolist() == [2, 3, 8, 3]


def loop(values: list[int], bits: int) -> list[tuple[int, int]]:
    """Return the entries as a machine would write them, one zero after another."""
    found, zeros = [], 0
    for value in values:
        if value:
            found.append((value, zeros))
            zeros = 0
        else:
            zeros += 1
            if zeros == 1 << bits and any(values):
                found.append((0, zeros - 1))
                zeros = 0
    while found and found[-1][0] == 0:
        found.pop()
    return found


sparse = st.lists(st.sampled_from([0] * 15 + [1, -5]), max_size=300)


@given(sparse, st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_it_is_the_loop_over_entries(values: list[int], bits: int) -> None:
    array = np.array(values, dtype=np.int64)
    v, z = relative(array, bits)
    assert list(zip(v.tolist(), z.tolist(), strict=True)) == loop(values, bits)
    np.testing.assert_array_equal(absolute(v, z, array.size), array)


def test_fewer_bits_pad_more_and_the_bytes_are_the_formula() -> None:
    draw = np.random.default_rng(0)
    values = draw.integers(1, 16, 20_000) * (draw.random(20_000) < 0.05)
    shares = [padding_fraction(relative(values, bits)[0]) for bits in range(1, 9)]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0.8 and shares[7] == 0
    for bits in (3, 5, 8):
        entries = len(relative(values, bits)[0])
        wanted = -(-entries * bits // 8) + entries * 4 / 8
        assert wanted <= len(RelativeIndex(bits).encode(values)) <= wanted + 8


def test_the_papers_widths_go_by_the_kind_of_layer() -> None:
    values = np.arange(16) % 2
    assert RelativeIndex().encode(values.reshape(4, 4)) == RelativeIndex(5).encode(values)
    assert RelativeIndex().encode(values.reshape(2, 2, 2, 2)) == RelativeIndex(8).encode(values)


def test_gaps_beyond_the_end_are_damage() -> None:
    with pytest.raises(Damaged, match="entry 22 of 20"):
        absolute(*relative(COLUMN, 4), 20)
    with pytest.raises(Damaged):
        RelativeIndex().decode(RelativeIndex().encode(COLUMN), 20)
