"""Integer-only inference of convolutions and linear layers, in numpy: the reference that runtimes are held to.

Codes in, codes out: int8 or uint8 products are summed in int32, the bias is int32 with the step S_x · S_w, and the sum is
brought to the output's step by one factor S_x · S_w / S_y for each channel (Jacob et al. 2018, sections 2.2 to 2.4).
"""

import math
from dataclasses import dataclass

import numpy as np

from paredown.core.errors import BadInput

Pair = tuple[int, int]


def fixed_multiplier(real: float) -> Pair:
    """Return (M0 · 2^31, n) with real ≈ M0 · 2^−n and M0 in [0.5, 1): a 32-bit multiplication and a right shift.

    n is negative for a factor of one and more. Raises BadInput for a factor that is not positive and finite.
    """
    if not 0 < real < math.inf:
        raise BadInput(f"the factor {real} is not positive and finite")
    fraction, exponent = math.frexp(real)
    whole = round(fraction * 2**31)
    return (2**30, -exponent - 1) if whole == 2**31 else (whole, -exponent)


def by_fixed_point(total: np.ndarray, whole: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return total · (whole · 2^−31) · 2^−shift in integers alone, rounded as gemmlowp rounds: to nearest, twice.

    The doubled product's upper 32 bits are rounded with ties up, then the shifted ones with ties away from zero.
    total: int32; its product must fit int32 too. whole, shift: from `fixed_multiplier`, broadcast over `total`; a
    negative shift is done first.
    """
    wide = total.astype(np.int64) << np.maximum(-shift, 0)
    high = (wide * whole + 2**30) >> 31
    right = np.maximum(shift, 0)
    half = (np.int64(1) << right) >> 1
    return np.sign(high) * ((np.abs(high) + half) >> right)


def by_float(total: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Return float32(total) · factor rounded to nearest, ties to even: what ONNX Runtime's kernels do."""
    return np.rint(total.astype(np.float32) * factor.astype(np.float32)).astype(np.int64)


def rescaled(total: np.ndarray, factor: np.ndarray, rounding: str = "float") -> np.ndarray:
    """Return whole numbers near total · factor. factor: float32, broadcasts over the int32 `total`; rounding: see IntegerLayer."""
    if rounding == "float":
        return by_float(total, factor)
    pairs = np.array([fixed_multiplier(float(f)) for f in factor.ravel()]).reshape(*factor.shape, 2)
    return by_fixed_point(total, pairs[..., 0], pairs[..., 1])


def product(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return rows @ columns of integers, exactly: in floats that hold every partial sum, because those are fast."""
    most = rows.shape[-1] * int(np.abs(rows).max(initial=0)) * int(np.abs(columns).max(initial=0))
    kind = np.float32 if most < 2**24 else np.float64
    return (rows.astype(kind) @ columns.astype(kind)).astype(np.int64)


def bias_codes(bias: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Return a float bias as int32 codes of the step S_x · S_w, to nearest, ties to even. Raises BadInput for too large ones."""
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.rint(bias.astype(np.float64) / step)
    if not (np.abs(codes) < 2**31).all():
        raise BadInput(f"a bias of up to {np.abs(bias).max():.3g} does not fit 32 bits with the step {step.min():.3g}")
    return codes.astype(np.int32)


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """A convolution or linear layer in integers.

    weight: int8 or uint8, [out, in, …]; weight_zero: a scalar or one for each output. bias: int32 or None.
    factor: S_x · S_w / S_y, a float32 scalar or one for each output. zeros: zero points of input and output.
    codes: the type of the output, int8 or uint8. rounding: "fixed" (integers alone) or "float" (ONNX Runtime).
    """

    weight: np.ndarray
    factor: np.ndarray
    bias: np.ndarray | None = None
    zeros: Pair = (0, 0)
    weight_zero: np.ndarray | int = 0
    codes: type = np.int8
    rounding: str = "float"

    @property
    def centred(self) -> np.ndarray:
        """The weight's codes without their zero point, int32."""
        zero = np.asarray(self.weight_zero, np.int32).reshape(-1, *[1] * (self.weight.ndim - 1))
        return self.weight.astype(np.int32) - zero

    def finish(self, total: np.ndarray) -> np.ndarray:
        """Return the output's codes for int32 sums of shape [batch, out, …]."""
        ones = [1] * (total.ndim - 2)
        if self.bias is not None:
            total = total + self.bias.reshape(-1, *ones)
        factor = np.asarray(self.factor, np.float32).reshape(-1, *ones)
        near = rescaled(total, factor, self.rounding)
        info = np.iinfo(self.codes)
        return np.clip(near + self.zeros[1], info.min, info.max).astype(self.codes)


def linear(x: np.ndarray, layer: IntegerLayer) -> np.ndarray:
    """Return the codes [batch, out] of a linear layer for the codes x [batch, in]."""
    return layer.finish(product(x.astype(np.int32) - layer.zeros[0], layer.centred.T))


def conv2d(
    x: np.ndarray,
    layer: IntegerLayer,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> np.ndarray:
    """Return the codes [batch, out, h, w] of a convolution for the codes x [batch, in, h, w].

    Padding is with the input's zero point, so that it stands for zero.
    """
    kernel = layer.weight.shape[2:]
    spread = [(size - 1) * gap + 1 for size, gap in zip(kernel, dilation, strict=True)]
    edges = ((0, 0), (0, 0), *((size, size) for size in padding))
    padded = np.pad(x.astype(np.int32) - layer.zeros[0], edges)
    windows = np.lib.stride_tricks.sliding_window_view(padded, spread, (2, 3))
    windows = windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    inputs, outputs = x.shape[1] // groups, layer.weight.shape[0] // groups
    sums = []
    for at in range(groups):
        part = windows[:, at * inputs : (at + 1) * inputs].transpose(0, 2, 3, 1, 4, 5)
        rows = part.reshape(*part.shape[:3], -1)
        own = layer.centred[at * outputs : (at + 1) * outputs].reshape(outputs, -1)
        sums.append(product(rows, own.T).transpose(0, 3, 1, 2))
    return layer.finish(np.concatenate(sums, 1))


def absorbed_bias(layer: IntegerLayer) -> np.ndarray:
    """Return q_b − Z_x Σ q_w for each output, int32: with it, raw input codes can be multiplied (Jacob et al. 2018, eq. 7)."""
    sums = layer.centred.reshape(len(layer.weight), -1).sum(1, dtype=np.int32)
    return (0 if layer.bias is None else layer.bias) - layer.zeros[0] * sums
