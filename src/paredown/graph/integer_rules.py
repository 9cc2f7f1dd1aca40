"""What each operator does to integer codes; one small function each. The formulas are those of ONNX Runtime 1.31.

Its float multiplications are part of them: convolutions and products multiply the int32 sum by S_x · S_w / S_y, sums use
fused multiply-additions with the zero points inside, average pooling adds dequantized values (onnxruntime/core/mlas/lib:
qladd_avx2.cpp, qlmul.cpp, qlgavgpool.cpp; contrib_ops/cpu/quantization: qlinear_pool.cc, qlinear_concat.cc).
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from paredown.graph.integer_codes import Codes, Coming, Levels, Step, computes, unsigned_levels
from paredown.graph.integers import IntegerLayer, by_fixed_point, conv2d, fixed_multiplier, linear, product, rescaled

SPARE = 20
"""Bits that the summands of an addition are shifted left by before they are brought to one step (gemmlowp, TFLite)."""


@computes("fake_quantize_per_tensor_affine")
def _quantized(s: Step) -> Codes:
    """Real values, and codes on other levels, are rounded; a sum that waits for its levels gets them."""
    low, high, zero = unsigned_levels(s.node)
    levels = Levels(np.float32(s.node.args["scale"]), zero, low, high)
    found = s.values[s.node.args["self"]]
    if isinstance(found, np.ndarray):
        return Coming(lambda to: to.near(found)).on(levels)
    return (found if isinstance(found, Coming) else changed(s.codes(), s.rounding)).on(levels)


def changed(x: Codes, rounding: str) -> Coming:
    """Return codes that will be brought to other levels; to the same ones they are brought as they are."""

    def make(to: Levels) -> np.ndarray:
        if (to.step, to.zero) == (x.levels.step, x.levels.zero):
            return x.codes.astype(np.int64)
        if rounding == "float":
            return to.near(x.reals)
        return scaled(x.centred, _ratio(x.levels.step, to.step), rounding, 1) + to.zero

    return Coming(make)


def scaled(total: np.ndarray, factor: np.ndarray, rounding: str, terms: int) -> np.ndarray:
    """Return whole numbers near total · factor; in integers alone after a shift left, because gemmlowp rounds twice.

    terms: how many codes the total adds; it says how far 32 bits leave room.
    """
    if rounding == "float":
        return rescaled(total, factor, rounding)
    spare = max(0, 30 - (255 * terms).bit_length())
    return rescaled(total.astype(np.int64) << spare, factor.astype(np.float64) / 2**spare, rounding)


def _ratio(*steps: np.float32) -> np.ndarray:
    """Return the first step over the last one, times those in between."""
    return np.asarray(math.prod(steps[:-1], start=np.float32(1)) / steps[-1], np.float32)


@computes("relu", "relu6", "hardtanh", "clamp", "clamp_min")
def _clipped(s: Step) -> Coming:
    found = s.values[s.node.args["self"]]
    coming = found if isinstance(found, Coming) else changed(s.codes(), s.rounding)
    ends: tuple[Any, Any] = {"relu": (0, None), "relu6": (0, 6), "hardtanh": ("min_val", "max_val"), "clamp": ("min", "max"),
            "clamp_min": ("min", None)}[s.node.op]  # fmt: skip
    low, high = (s.get(end) if isinstance(end, str) else end for end in ends)
    least, most = -math.inf if low is None else float(low), math.inf if high is None else float(high)
    return replace(coming, least=max(coming.least, least), most=min(coming.most, most))


@computes("conv1d", "conv2d", "conv1d.padding", "conv2d.padding")
def _convolution(s: Step) -> Coming:
    x, stored, dims = s.codes("input"), s.weight(), int(s.node.op[4])
    kernel = stored.shape[2:]
    padding, dilation = s.get("padding"), _each(s.get("dilation"), dims)
    if isinstance(padding, str):
        total = [(k - 1) * d if padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
        edges = [(t // 2, t - t // 2) for t in total]
    else:
        edges = [(p, p) for p in _each(padding, dims)]
    codes = np.pad(x.codes, [(0, 0), (0, 0), *edges], constant_values=x.levels.zero)
    stride, groups = _each(s.get("stride"), dims), int(s.get("groups"))
    if dims == 1:
        codes, stride, dilation = codes[:, :, None], (1, *stride), (1, *dilation)

    def make(to: Levels) -> np.ndarray:
        layer = _layer(s, x.levels, to)
        layer = replace(layer, weight=layer.weight[:, :, None]) if dims == 1 else layer
        made = conv2d(codes, layer, (stride[0], stride[1]), dilation=(dilation[0], dilation[1]), groups=groups)
        return made[:, :, 0] if dims == 1 else made

    return Coming(make)


@computes("linear")
def _linear_layer(s: Step) -> Coming:
    x = s.codes("input")
    rows = x.codes.reshape(-1, x.codes.shape[-1])
    return Coming(lambda to: linear(rows, _layer(s, x.levels, to)).reshape(*x.codes.shape[:-1], -1))


def _layer(s: Step, x: Levels, to: Levels) -> IntegerLayer:
    """Return the layer between these levels; what it makes is not clipped yet."""
    stored = s.weight()
    steps = x.step * stored.step.reshape(-1).astype(np.float32)
    factor = (steps / to.step).astype(np.float32)
    return IntegerLayer(stored.codes, factor, s.bias(steps), (x.zero, to.zero), 0, np.int64, s.rounding)


@computes("matmul", "bmm", "mm")
def _multiplied_matrices(s: Step) -> Coming:
    a, b = s.codes(), s.codes("other" if s.node.op == "matmul" else "mat2")
    total = product(a.centred, b.centred)
    terms = 255 * a.codes.shape[-1]
    return Coming(lambda to: scaled(total, _ratio(a.levels.step, b.levels.step, to.step), s.rounding, terms) + to.zero)


@computes("mul.Tensor")
def _multiplied(s: Step) -> Coming:
    a, b = s.codes(), s.codes("other")
    total = a.centred * b.centred

    def make(to: Levels) -> np.ndarray:
        ratio = _ratio(a.levels.step, b.levels.step, to.step)
        if s.rounding == "fixed":
            return scaled(total, ratio, s.rounding, 255) + to.zero
        return np.rint(total.astype(np.float32) * ratio + np.float32(to.zero)).astype(np.int64)

    return Coming(make)


@computes("add.Tensor", "sub.Tensor")
def _added(s: Step) -> Coming:
    a, b = s.codes(), s.codes("other")
    if s.get("alpha") != 1 or a.codes.shape != b.codes.shape:
        raise s.error(
            f"it joins shapes {a.codes.shape} and {b.codes.shape} with alpha {s.get('alpha')}; allowed: equal ones, 1"
        )
    sign = 1 if s.node.op == "add.Tensor" else -1
    if s.rounding == "fixed":
        return Coming(lambda to: _added_fixed(a, b, sign, to))
    if sign < 0:  # ONNX Runtime subtracts in float
        return Coming(lambda to: to.near(a.reals - b.reals))
    return Coming(lambda to: _added_float(a, b, to))


def _added_float(a: Codes, b: Codes, to: Levels) -> np.ndarray:
    """Return fma(a, S_a/S_y, fma(b, S_b/S_y, c)) to nearest even, c = Z_y − (S_a/S_y · Z_a + S_b/S_y · Z_b)."""
    first, second = a.levels.step / to.step, b.levels.step / to.step
    zeros = _fused(np.float32(a.levels.zero), first, second * np.float32(b.levels.zero))
    near = _fused(b.codes, second, np.float32(to.zero) - zeros)
    return np.rint(_fused(a.codes, first, near)).astype(np.int64)


def _fused(x: Any, factor: Any, plus: Any) -> Any:
    """Return x · factor + plus rounded once to float32: float64 holds the product and the sum exactly."""
    return (np.asarray(x, np.float64) * np.float64(factor) + plus).astype(np.float32)


def _added_fixed(a: Codes, b: Codes, sign: int, to: Levels) -> np.ndarray:
    """Both summands on the step 2 · max(S_a, S_b) / 2^SPARE, then their sum on S_y."""
    most = 2 * max(float(a.levels.step), float(b.levels.step))

    def brought(x: Codes, factor: float) -> np.ndarray:
        whole, shift = (np.asarray(v) for v in fixed_multiplier(factor))
        return by_fixed_point(x.centred.astype(np.int64) << SPARE, whole, shift)

    total = brought(a, float(a.levels.step) / most) + sign * brought(b, float(b.levels.step) / most)
    whole, shift = (np.asarray(v) for v in fixed_multiplier(most / 2**SPARE / float(to.step)))
    return by_fixed_point(total, whole, shift) + to.zero


@computes("cat")
def _joined(s: Step) -> Coming:
    parts = [changed(s.quantized(leaf), s.rounding) for leaf in s.node.args["tensors"]]
    return Coming(lambda to: np.concatenate([part.make(to) for part in parts], s.get("dim")))


@computes("adaptive_avg_pool1d", "adaptive_avg_pool2d")
def _adaptive_pool(s: Step) -> Coming:
    x = s.codes()
    size, wanted = x.codes.shape[2:], _each(s.get("output_size"), x.codes.ndim - 2)
    if set(wanted) == {1}:
        return _over(s, x, tuple(range(2, x.codes.ndim)), True)
    if any(n % w for n, w in zip(size, wanted, strict=True)):
        raise s.error(f"its windows from {size} to {wanted} are uneven")
    kernel = [n // w for n, w in zip(size, wanted, strict=True)]
    return _averaged(s, x, kernel, kernel, [0] * len(kernel), True)


@computes("mean.dim")
def _mean(s: Step) -> Coming:
    x = s.codes()
    return _over(s, x, tuple(d % x.codes.ndim for d in s.get("dim")), bool(s.get("keepdim")))


def _over(s: Step, x: Codes, dims: tuple[int, ...], keepdim: bool) -> Coming:
    """The sum times S_x / (S_y · count), as QLinearGlobalAveragePool has it."""
    total = x.centred.sum(dims, dtype=np.int64, keepdims=keepdim)
    count = math.prod(x.codes.shape[d] for d in dims)

    def make(to: Levels) -> np.ndarray:
        return scaled(total, np.asarray(x.levels.step / (to.step * np.float32(count))), s.rounding, count) + to.zero

    return Coming(make)


@computes("avg_pool1d", "avg_pool2d")
def _average_pool(s: Step) -> Coming:
    x = s.codes()
    dims = x.codes.ndim - 2
    if s.get("ceil_mode") or s.node.args.get("divisor_override") is not None:
        raise s.error("it has ceil_mode or divisor_override")
    kernel = _each(s.get("kernel_size"), dims)
    stride = _each(s.get("stride") or kernel, dims)
    return _averaged(s, x, kernel, stride, _each(s.get("padding"), dims), bool(s.get("count_include_pad")))


def _averaged(
    s: Step, x: Codes, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], whole: bool
) -> Coming:
    """QLinearAveragePool adds reals in float32, row by row, and divides by their count; in integers the sum is scaled."""
    size = x.codes.shape[2:]
    ones = [1] * len(size)
    places = list(windows(np.ones((1, 1, *size), np.float32), kernel, stride, padding, ones, 0))
    count = np.float32(len(places)) if whole else np.sum(places, 0, dtype=np.float32)
    if s.rounding == "fixed":
        total = np.asarray(np.sum(list(windows(x.centred, kernel, stride, padding, ones, 0)), 0, dtype=np.int64))
        step, terms = x.levels.step, len(places)
        return Coming(lambda to: scaled(total, np.asarray(step / (to.step * count)), "fixed", terms) + to.zero)
    sums = np.zeros((), np.float32)
    for part in windows(x.reals, kernel, stride, padding, ones, 0):
        sums = sums + part
    return Coming(lambda to: np.rint(sums / count / to.step + np.float32(to.zero)).astype(np.int64))


@computes("max_pool1d", "max_pool2d")
def _max_pool(s: Step) -> Codes:
    x = s.codes()
    dims = x.codes.ndim - 2
    kernel, padding = _each(s.get("kernel_size"), dims), _each(s.get("padding"), dims)
    stride, dilation = _each(s.get("stride") or kernel, dims), _each(s.get("dilation"), dims)
    codes, lowest = x.codes, 0
    if s.get("ceil_mode"):
        over = [
            0,
            0,
            *(_beyond(*sizes) for sizes in zip(codes.shape[2:], kernel, stride, padding, dilation, strict=True)),
        ]
        codes = np.pad(codes, [(0, n) for n in over], constant_values=lowest)
    return x.moved(np.max(list(windows(codes, kernel, stride, padding, dilation, lowest)), 0))


def _beyond(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Return how far the last window of a ceil_mode pooling reaches over the padded end; it starts before that end."""
    free = size + 2 * padding - dilation * (kernel - 1) - 1
    last = -(-free // stride) * stride
    last -= stride if last >= size + padding else 0
    return max(0, last - free)


def windows(
    x: np.ndarray,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    fill: Any,
) -> Iterator[np.ndarray]:
    """Yield, for each place of the kernel in row order, what all the windows of x [batch, channels, …] have there."""
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)], constant_values=fill)
    spread = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    for place in itertools.product(*map(range, kernel)):
        spots = zip(place, dilation, padded.shape[2:], spread, stride, strict=True)
        yield padded[
            :, :, *(slice(at * gap, at * gap + size - reach + 1, step) for at, gap, size, reach, step in spots)
        ]


def _each(value: Any, dims: int) -> tuple[int, ...]:
    """Return one number for each dimension."""
    numbers = [int(v) for v in value] if isinstance(value, list | tuple) else [int(value)]
    return tuple(numbers * dims if len(numbers) == 1 else numbers)


@computes("flatten.using_ints")
def _flattened(s: Step) -> Codes:
    x = s.codes()
    shape = x.codes.shape
    start, end = s.get("start_dim") % len(shape), s.get("end_dim") % len(shape)
    return x.moved(x.codes.reshape(*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


@computes("view", "reshape")
def _reshaped(s: Step) -> Codes:
    return s.codes().moved(s.codes().codes.reshape(s.get("size" if s.node.op == "view" else "shape")))


@computes("sym_size.int")
def _size_of(s: Step) -> int:
    found = s.values[s.node.args["self"]]
    if isinstance(found, Coming):
        raise s.error("it reads a size of what is not on levels yet")
    return int((found.codes if isinstance(found, Codes) else found).shape[s.get("dim")])


@computes("permute")
def _permuted(s: Step) -> Codes:
    return s.codes().moved(s.codes().codes.transpose(s.get("dims")))


@computes("transpose.int")
def _swapped(s: Step) -> Codes:
    return s.codes().moved(s.codes().codes.swapaxes(s.get("dim0"), s.get("dim1")))


@computes("squeeze.dim", "squeeze.dims", "unsqueeze")
def _squeezed(s: Step) -> Codes:
    x, dim = s.codes(), s.get("dim")
    if s.node.op == "unsqueeze":
        return x.moved(np.expand_dims(x.codes, dim))
    single = [d for d in (dim if isinstance(dim, list) else [dim]) if x.codes.shape[d] == 1]
    return x.moved(x.codes.squeeze(tuple(single)))


@computes("channel_shuffle")
def _shuffled(s: Step) -> Codes:
    x, groups = s.codes(), s.get("groups")
    batch, channels, *size = x.codes.shape
    parts = x.codes.reshape(batch, groups, channels // groups, *size).swapaxes(1, 2)
    return x.moved(parts.reshape(x.codes.shape))
