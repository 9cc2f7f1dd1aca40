"""The cycle model against a loop that counts, and the coding of sparse weights."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from paredown.core.errors import BadInput, Damaged
from paredown.cost.devices import Array, device
from paredown.cost.nvdla import cycles, decode, encode, latency, utilisation
from paredown.cost.tiny import convolution, depthwise, moving, tiny


@given(
    st.integers(1, 20), st.integers(1, 20), st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)
)
def test_cycles_are_what_a_loop_counts(c: int, k: int, kernel: int, side: int, per_c: int, per_k: int) -> None:
    layer = convolution("x", (c, k), (side, side), (kernel, kernel))
    loops = itertools.product(range(0, c, per_c), range(0, k, per_k), range(kernel**2), range(side**2))
    assert cycles(layer, Array(channels=per_c, kernels=per_k)) == sum(1 for _ in loops)


def test_a_first_layer_uses_three_of_64_channels() -> None:
    full = device("nvdla-full").array
    assert full == Array(channels=64, kernels=16, weight_compression=True)
    assert utilisation(convolution("stem", (3, 16), (56, 56), (7, 7)), full) == pytest.approx(3 / 64)
    assert utilisation(convolution("body", (64, 64), (56, 56), (3, 3)), full) == 1
    assert utilisation(depthwise("dw", 64, (56, 56)), full) == pytest.approx(1 / 64 / 16)


def test_latency_needs_an_array_and_a_clock() -> None:
    found = latency(tiny("ic"), device("nvdla-small"), clock_hz=1e9)
    total = sum(cycles(layer, Array(channels=8, kernels=8)) for layer in tiny("ic"))
    assert found.value == pytest.approx(total / 1e6) and "nvdla-small" in found.model
    with pytest.raises(BadInput, match="no clock_hz"):
        latency(tiny("ic"), device("nvdla-small"))
    with pytest.raises(BadInput, match="has no array"):
        latency(tiny("ic"), device("nvidia_t4"))


def test_layers_without_macs_take_no_cycles() -> None:
    assert cycles(moving("pool", "pooling", 100, 1), Array(channels=8, kernels=8)) == 0


@given(
    arrays(np.int8, st.tuples(st.integers(1, 40), st.integers(1, 9)), elements=st.sampled_from([0, 0, 0, 1, -128, 127]))
)
def test_masks_round_trip(weights: np.ndarray) -> None:
    coded = encode(weights)
    assert np.array_equal(decode(coded), weights)
    assert coded.total_bytes == np.count_nonzero(weights) + -(-weights.size // 8) + 4 * -(-len(weights) // 16)


def test_damage_is_seen() -> None:
    coded = encode(np.array([[1, 0, 3]], np.int8))
    with pytest.raises(Damaged, match="disagree"):
        decode(type(coded)(coded.values[:-1], coded.mask, coded.groups, coded.shape))
    with pytest.raises(Damaged, match="does not cover"):
        decode(type(coded)(coded.values, b"", coded.groups, coded.shape))
