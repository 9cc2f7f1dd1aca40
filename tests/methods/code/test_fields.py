"""Fields of one width: as a loop over bits writes them, and nothing believed that the bytes do not hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.core.errors import BadInput, Damaged
from paredown.methods.code.fields import CHUNK, LARGEST, Reader, Writer, believable, pack, unpack, whole, width_of


@given(st.integers(0, 64), st.lists(st.integers(0, 2**64 - 1), max_size=40))
@settings(max_examples=200, deadline=None)
def test_fields_lie_as_a_loop_writes_them(width: int, numbers: list[int]) -> None:
    values = np.array(numbers, dtype=np.uint64)
    bits = "".join(format(n & ((1 << width) - 1), f"0{width}b") if width else "" for n in numbers)
    bits = bits.ljust(-(-len(bits) // 8) * 8, "0")
    assert pack(values, width) == bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
    assert unpack(pack(values, width), width, len(values)).tolist() == [n & ((1 << width) - 1) for n in numbers]


@pytest.mark.parametrize("width", [1, 3, 7, 13])
def test_many_fields_go_in_pieces(width: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**width, 2 * CHUNK + 5)
    data = pack(values, width)
    assert len(data) == -(-values.size * width // 8)
    np.testing.assert_array_equal(unpack(data, width, values.size), values)


@given(st.integers(0, 2**64 - 1))
@settings(max_examples=100, deadline=None)
def test_numbers_come_back(value: int) -> None:
    writer = Writer()
    writer.number(value)
    assert len(writer.out) == max(1, -(-value.bit_length() // 7)) and Reader(bytes(writer.out)).number() == value


@given(st.lists(st.integers(-(2**63), 2**63 - 1).filter(bool), max_size=20))
@settings(max_examples=150, deadline=None)
def test_values_of_the_whole_range_come_back(numbers: list[int]) -> None:
    values = np.array(numbers, dtype=np.int64)
    for nonzero in (False, True):
        writer = Writer()
        writer.values(values, nonzero)
        reader = Reader(bytes(writer.out))
        assert reader.values(len(values), nonzero).tolist() == numbers
        reader.end()


def test_signs_alone_take_one_bit() -> None:
    writer = Writer()
    writer.values(np.array([1, -1] * 40), nonzero=True)
    assert len(writer.out) == 2 + 10


def test_what_is_no_array_of_integers_is_bad_input() -> None:
    for wrong in (np.zeros(3), np.array([2**63], dtype=np.uint64), np.array(["a"]), np.array([1j])):
        with pytest.raises(BadInput):
            whole(wrong)
    with pytest.raises(BadInput, match="too many"):
        whole(np.broadcast_to(np.int8(0), LARGEST + 1))
    assert whole(np.array([[True, False]])).tolist() == [[1, 0]]


def test_a_claim_that_the_bytes_do_not_hold_is_damage() -> None:
    with pytest.raises(Damaged):
        Reader(b"12").fields(3, 10**12)
    with pytest.raises(Damaged):
        Reader(b"12").fields(0, LARGEST + 1)
    with pytest.raises(Damaged):
        Reader(b"\xff" * 20).number()
    with pytest.raises(Damaged):
        Reader(b"\x80").number()
    with pytest.raises(Damaged, match="the most"):
        Reader(b"\x05").number(4)
    with pytest.raises(Damaged, match="nothing reads"):
        Reader(b"1").end()
    for size in (-1, LARGEST + 1):
        with pytest.raises(Damaged):
            believable(size)


def test_widths() -> None:
    assert [width_of(n) for n in (0, 1, 2, 3, 4, 255, 256)] == [0, 1, 2, 2, 3, 8, 9]
