"""The bitmask: one bit an entry and no more than its values need."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.codec import CodecContract
from paredown.core.errors import Damaged
from paredown.methods.code.bitmask import Bitmask, masked_bits


class TestBitmask(CodecContract):
    def part(self) -> Bitmask:
        return Bitmask()


@given(st.integers(1, 2000), st.floats(0, 1), st.integers(1, 8))
@settings(max_examples=100, deadline=None)
def test_the_bytes_are_the_formula(size: int, share: float, width: int) -> None:
    draw = np.random.default_rng(size)
    values = draw.integers(1, 2**width + 1, size) * (draw.random(size) < share)
    values[0], values[-1] = 1, 2**width  # the whole range, if there is room for it
    bits = masked_bits(size, int(np.count_nonzero(values)), width if size > 1 else 0)
    assert bits / 8 <= len(Bitmask().encode(values)) <= bits / 8 + 4 + 2


def test_three_values_take_a_bit_and_a_sign() -> None:
    values = np.random.default_rng(0).integers(-1, 2, 8000)
    assert len(Bitmask().encode(values)) == 1000 + -(-np.count_nonzero(values) // 8) + 2


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\0\0\0", b"\xff\0\x40"])
def test_what_is_no_mask_and_values_is_damage(data: bytes) -> None:
    with pytest.raises(Damaged):
        Bitmask().decode(data, 8)
    assert Bitmask().decode(b"\xff\x0a\0", 8).tolist() == [5] * 8
