"""Packed codes: what comes back, how many bytes they take, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.core.errors import BadInput
from paredown.kernels.codes import (
    WIDTHS,
    Levels,
    in_codes,
    in_planes,
    kind_of,
    numbers,
    pack,
    patterns_of,
    planes_of,
    unpack,
)
from paredown.kernels.library import built, path_number, paths

needs_kernels = pytest.mark.skipif(not built(), reason="the low-bit kernels are not built: there was no C compiler")


@given(st.sampled_from(WIDTHS), st.booleans(), st.integers(1, 6), st.integers(1, 70), st.integers(0, 999))
@settings(max_examples=80, deadline=None)
def test_what_was_packed_comes_back(bits: int, odd: bool, rows: int, size: int, seed: int) -> None:
    codes = np.random.default_rng(seed).choice(numbers(bits, odd), (rows, size))
    packed = pack(codes, bits, odd)
    assert packed.shape == (rows, -(-size * bits // 8))
    assert (unpack(packed, bits, size, odd) == codes).all()


def test_the_layout_of_a_byte() -> None:
    assert pack(np.array([[1, -1, -1, 1, 1]]), 1).tolist() == [[0b11001]]
    assert pack(np.array([[1, -2, 0, -1, 1]]), 2).tolist() == [[0b11_00_10_01, 0b01]]
    assert pack(np.array([[7, -8, -1]]), 4).tolist() == [[0x87, 0x0F]]
    assert pack(np.array([[3, -3, 1, -1]]), 2, odd=True).tolist() == [[0b01_10_00_11]]


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_weight_takes_its_bits_and_no_more(bits: int) -> None:
    """One bit is 32 times smaller than floats (XNOR-Net, section 4.1)."""
    codes = patterns_of(np.full((64, 9 * 256), 1), bits).reshape(64, 9, 256)
    size = codes.size * bits // 8
    assert in_planes(codes, bits, "twos").nbytes == in_codes(codes.reshape(64, -1), bits).nbytes == size
    assert pack(codes.reshape(64, -1).astype(int) if bits > 1 else codes.reshape(64, -1) * 2 - 1, bits).nbytes == size
    assert codes.size * 4 == size * 32 // bits


def test_what_the_planes_are() -> None:
    assert kind_of(np.array([1, -1]), 1, False) == kind_of(np.array([3, -1]), 2, True) == "signs"
    assert kind_of(np.array([1, 0, -1]), 2, False) == "ternary"
    assert kind_of(np.array([1, -2]), 2, False) == kind_of(np.array([1, 0]), 4, False) == "twos"


@pytest.mark.parametrize(
    ("codes", "bits", "message"),
    [
        ([[0, 1]], 1, "weight codes from 0 to 1 do not fit 1 bits"),
        ([[2, 1]], 2, "do not fit 2 bits"),
        ([[1, 1]], 3, "weights of 3 bits are not packed; allowed: 1, 2, 4"),
        ([1, 1], 2, "codes of 1 dimensions are not packed"),
    ],
)
def test_other_weights_are_refused(codes: list, bits: int, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        pack(np.array(codes), bits)


def test_levels() -> None:
    assert (
        Levels(4, zero=3).affine == (1, 3)
        and Levels(4, signed=True).affine == (1, 8)
        and Levels(1, signed=True).affine == (2, 1)
    )
    assert (
        Levels(8, zero=200).largest == 200
        and Levels(8, signed=True).largest == 128
        and Levels(1, signed=True).largest == 1
    )
    assert Levels(1, signed=True).raw(np.array([-1, 1])).tolist() == [0, 1]
    assert Levels(4, signed=True).raw(np.array([-8, 7])).tolist() == [0, 15]
    assert Levels(8).raw(np.array([0, 255])).tolist() == [0, 255]
    for levels, code in ((Levels(1, signed=True), 0), (Levels(2), 4), (Levels(2), -1), (Levels(4, signed=True), 8)):
        with pytest.raises(BadInput, match="do not fit"):
            levels.raw(np.array([code]))
    with pytest.raises(BadInput, match="inputs of 3 bits"):
        Levels(3)
    with pytest.raises(BadInput, match="zero point 0, not 5"):
        Levels(4, signed=True, zero=5)


@needs_kernels
@given(st.integers(1, 8), st.integers(1, 4), st.integers(1, 80), st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_planes_of_inputs_on_every_path(bits: int, rows: int, channels: int, seed: int) -> None:
    raw = np.random.default_rng(seed).integers(0, 2**bits, (rows, channels + 3), dtype=np.uint8)
    part = raw[:, 3:]
    filled = np.pad(part, ((0, 0), (0, -channels % 32))).reshape(rows, -1, 32).astype(np.uint32)
    wanted = np.stack([((filled >> j & 1) << np.arange(32, dtype=np.uint32)).sum(2) for j in range(bits)], 2)
    for path in paths():
        assert (planes_of(part, bits, path_number(path)) == wanted).all(), path
