"""Rounding of floats as torch's quantizers do it, and sums as floats and as the integer reference's codes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.graph import integers
from paredown.kernels.codes import Levels, numbers
from paredown.kernels.library import built
from paredown.kernels.product import Weight, Window, convolve
from paredown.kernels.real import real, requantized, rounded

pytestmark = pytest.mark.skipif(not built(), reason="the low-bit kernels are not built: there was no C compiler")


@pytest.mark.parametrize("levels", [(0, 0, 1), (0, 0, 15), (3, 0, 15), (0, -8, 7), (128, 0, 255), (-3, -8, 7)])
@pytest.mark.parametrize("step", [0.1, 2.0, 0.37])
def test_inputs_are_rounded_as_torch_rounds_them(step: float, levels: tuple[int, int, int]) -> None:
    zero, least, most = levels
    draw = torch.Generator().manual_seed(0)
    ties = torch.arange(-300, 300) * 0.5 * step
    x = torch.cat([torch.randn(1000, generator=draw) * 3, ties, torch.tensor([np.inf, -np.inf, np.nan])])
    theirs = torch.fake_quantize_per_tensor_affine(x, step, zero, least, most)
    ours = rounded(x.numpy()[None], step, levels)[0].astype(np.float32)
    torch.testing.assert_close(torch.from_numpy((ours + least - zero) * np.float32(step)), theirs)


@given(st.integers(1, 3), st.integers(1, 19), st.integers(1, 90), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_channels_go_last_and_come_back(samples: int, channels: int, places: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    x = draw.integers(0, 256, (samples, channels, places))
    raw = rounded(x.astype(np.float32) * np.float32(0.25), 0.25, (0, 0, 255))
    assert (raw == x.transpose(0, 2, 1)).all()
    factor, bias = draw.random(channels).astype(np.float32), draw.random(channels).astype(np.float32)
    total = draw.integers(-(2**31), 2**31, (samples, places, channels), dtype=np.int32)
    wanted = total.astype(np.float32) * factor + bias
    assert (real(total, factor, bias) == wanted.transpose(0, 2, 1)).all()


@given(st.sampled_from([1, 2, 4]), st.sampled_from([2, 4, 8]), st.integers(0, 9999))
@settings(max_examples=60, deadline=None)
def test_codes_to_codes_is_the_integer_reference(bits: int, input_bits: int, seed: int) -> None:
    """With a bias, zero points, a factor for each output: every code of `graph.integers.conv2d`."""
    draw = np.random.default_rng(seed)
    w = draw.choice(numbers(bits, False), (9, 5, 3, 3))
    zero, out_zero = int(draw.integers(0, 2**input_bits)), int(draw.integers(0, 256))
    x = draw.integers(0, 2**input_bits, (2, 5, 6, 7)).astype(np.uint8)
    factor = (draw.random(9) / 8 + 1e-3).astype(np.float32)
    layer = integers.IntegerLayer(
        w, factor, draw.integers(-99, 99, 9).astype(np.int32), (zero, out_zero), codes=np.uint8
    )
    wanted = integers.conv2d(x, layer, (1, 2), (1, 1))
    weight = Weight(w, bits, Levels(input_bits, zero=zero))
    total = convolve(np.ascontiguousarray(x.transpose(0, 2, 3, 1)), weight, Window((1, 2), (1, 1))) + layer.bias
    assert (requantized(total, factor, (out_zero, 0, 255)).transpose(0, 3, 1, 2) == wanted).all()
