"""Between floats and codes: inputs are rounded to raw codes, sums become floats or the next layer's codes."""

import ctypes
import math

import numpy as np

from paredown.kernels.library import address, library

_LONGS, _INTS = ctypes.c_int64 * 3, ctypes.c_int32 * 3


def rounded(x: np.ndarray, step: float, levels: tuple[int, int, int]) -> np.ndarray:
    """Return clamp(round(x / step) + zero, least, most) − least as uint8 [samples, …places, channels].

    x: float32 [samples, channels, …places], or [samples, channels]. levels: (zero, least, most), least ≤ zero ≤ most < least + 256.
    As torch's `fake_quantize_per_tensor_affine`: times the step's reciprocal in float32, ties to even, NaN to the least.
    """
    x = np.ascontiguousarray(x, np.float32)
    channels, places = x.shape[1], x.shape[2:]
    codes = np.empty((len(x), *places, channels), np.uint8)
    shape = (len(x), channels, math.prod(places)) if places else (1, 1, x.size)
    inverse = float(np.float32(1) / np.float32(step))
    library().quantize(address(x), address(codes), _LONGS(*shape), inverse, _INTS(*levels))
    return codes


def real(total: np.ndarray, factor: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return float32(total) · factor + bias, float32 [samples, outputs, …places], of sums int32 [samples, …places, outputs].

    factor, bias: float32 [outputs].
    """
    samples, *places, outputs = total.shape
    y = np.empty((samples, outputs, *places), np.float32)
    shape = _LONGS(samples, outputs, math.prod(places))
    library().to_real(address(total), address(y), shape, address(factor), address(bias))
    return y


def requantized(total: np.ndarray, factor: np.ndarray, levels: tuple[int, int, int]) -> np.ndarray:
    """Return clamp(round(float32(total) · factor) + zero, least, most), uint8 […, outputs], of sums int32 […, outputs].

    factor: float32 [outputs]. levels: (zero, least, most) with 0 ≤ least ≤ zero ≤ most ≤ 255. Ties to even: what
    `graph.integers` calls rounding by float.
    """
    y = np.empty(total.shape, np.uint8)
    shape = _LONGS(math.prod(total.shape[:-1]), total.shape[-1])
    library().to_codes(address(total), address(y), shape, address(factor), _INTS(*levels))
    return y
