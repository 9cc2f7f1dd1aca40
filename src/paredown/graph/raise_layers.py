"""ONNX layers as ATen operators: convolutions, products, norms, pooling, quantizers; one small function each."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from paredown.core.errors import BadInput
from paredown.graph.frozen import Plain, Rounded, Shared
from paredown.graph.onnx_fold import fold
from paredown.graph.raised import Call, Const, Levels, Raised, raises
from paredown.graph.spec import Value

LOWEST = -3.4028234663852886e38
"""The lowest float32: what a maximum is padded with."""

_CONVOLUTIONS = {1: "conv1d", 2: "conv2d", 3: "conv3d"}
_TRANSPOSED = {1: "conv_transpose1d", 2: "conv_transpose2d.input", 3: "conv_transpose3d.input"}


def _window(g: Raised, c: Call, kernel: list[int]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return (stride, dilation, padding before, padding after) of a window over a value's last dimensions."""
    dims = len(kernel)
    if dims not in _CONVOLUTIONS:
        raise BadInput(f"it works on {dims} dimensions; allowed: 1, 2, 3")
    stride, dilation = list(c.get("strides") or [1] * dims), list(c.get("dilations") or [1] * dims)
    pads, auto = list(c.get("pads") or [0] * 2 * dims), c.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        axes = zip(g.shape(c.value())[2:], stride, kernel, dilation, strict=True)
        total = [max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0) for n, s, k, d in axes]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        return (stride, dilation, less, more) if auto == "SAME_UPPER" else (stride, dilation, more, less)
    return stride, dilation, pads[:dims], pads[dims:]


def _padded(g: Raised, value: Value, before: list[int], after: list[int], fill: float = 0.0) -> Value:
    amounts = [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair]
    return g.emit("pad", self=value, pad=amounts, value=fill) if any(amounts) else value


def _weight(g: Raised, c: Call, at: int = 1) -> Any:
    found = c.input(at)
    if found is None:
        raise BadInput("it has no weight")
    return g.leaf(found)


@raises("Conv")
def _conv(g: Raised, c: Call) -> Value:
    weight, x = _weight(g, c), c.value()
    kernel = list(g.shape(weight)[2:])
    stride, dilation, before, after = _window(g, c, kernel)
    if before != after:
        x, before = _padded(g, x, before, after), [0] * len(kernel)
    return g.emit(
        _CONVOLUTIONS[len(kernel)], input=x, weight=weight, bias=g.leaf(c.input(2), weight),
        stride=stride, padding=before, dilation=dilation, groups=c.get("group", 1),
    )  # fmt: skip


@raises("ConvTranspose")
def _conv_transpose(g: Raised, c: Call) -> Value:
    """Padding that differs from side to side is cut off afterwards."""
    weight, x = _weight(g, c), c.value()
    kernel = list(g.shape(weight)[2:])
    dims, auto = len(kernel), c.get("auto_pad", "NOTSET")
    if dims not in _TRANSPOSED:
        raise BadInput(f"it works on {dims} dimensions; allowed: 1, 2, 3")
    stride, dilation = list(c.get("strides") or [1] * dims), list(c.get("dilations") or [1] * dims)
    extra, pads = list(c.get("output_padding") or [0] * dims), list(c.get("pads") or [0] * 2 * dims)
    wanted = c.get("output_shape")
    if wanted or auto.startswith("SAME"):
        axes = list(zip(g.shape(x)[2:], stride, extra, kernel, dilation, strict=True))
        sizes = list(wanted)[-dims:] if wanted else [n * s for n, s, *_ in axes]
        full = [s * (n - 1) + e + (k - 1) * d + 1 for n, s, e, k, d in axes]
        total = [f - size for f, size in zip(full, sizes, strict=True)]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = [*less, *more] if auto == "SAME_UPPER" else [*more, *less]
    even = pads[:dims] == pads[dims:] and min(pads) >= 0
    made = g.emit(
        _TRANSPOSED[dims], input=x, weight=weight, bias=g.leaf(c.input(2), weight),
        stride=stride, padding=pads[:dims] if even else [0] * dims, output_padding=extra,
        groups=c.get("group", 1), dilation=dilation,
    )  # fmt: skip
    return made if even else _padded(g, made, [-p for p in pads[:dims]], [-p for p in pads[dims:]])


@raises("Gemm")
def _gemm(g: Raised, c: Call) -> Value:
    """A constant second matrix makes a linear layer; alpha and beta go into its weight and bias."""
    x, other, third = g.leaf(c.input(0)), c.input(1), c.input(2)
    alpha, beta = float(c.get("alpha", 1.0)), float(c.get("beta", 1.0))
    x = g.emit("t", self=x) if c.get("transA", 0) else x
    bias = None
    if isinstance(other, Const) and isinstance(x, Value):
        weight = (other if c.get("transB", 0) else other.turned((1, 0))).scaled(alpha)
        width = weight.shape[:1]
        if isinstance(third, Const) and third.array.size in (1, *width) and third.shape[-1:] in ((), (1,), width):
            bias, third = third.shaped(width).scaled(beta), None
        slot = g.slot(weight)
        made = g.emit("linear", input=x, weight=slot, bias=g.leaf(bias, slot))
    else:
        leaf = g.leaf(other)
        made = g.emit("matmul", self=x, other=g.emit("t", self=leaf) if c.get("transB", 0) else leaf)
        made = g.emit("mul.Tensor", self=made, other=alpha) if alpha != 1 else made
    if third is None:
        return made
    return g.emit("add.Tensor", self=made, other=g.leaf(third), alpha=beta if beta != 1 else 1)


@raises("MatMul")
def _matmul(g: Raised, c: Call) -> Value:
    left, right = c.input(0), c.input(1)
    if isinstance(left, Value) and isinstance(right, Const) and len(right.shape) == 2:
        return g.emit("linear", input=left, weight=g.slot(right.turned((1, 0))))
    return g.emit("matmul", self=g.leaf(left), other=g.leaf(right))


@raises("BatchNormalization")
def _batch_norm(g: Raised, c: Call) -> Value:
    scale, shift = _affine(g, c)
    mean, var = (g.leaf(c.const(at), f"{c.node.output[0]}.{at}", trained=False) for at in (3, 4))
    return g.emit(
        "batch_norm", input=c.value(), weight=scale, bias=shift, running_mean=mean, running_var=var, training=False,
        momentum=round(1.0 - c.get("momentum", 0.9), 6), eps=_eps(c), cudnn_enabled=True,
    )  # fmt: skip


def _affine(g: Raised, c: Call, shape: list[int] | None = None) -> list[Any]:
    """Return the slots of a norm's scale and shift, in this shape, or None where one is absent."""
    found = [c.const(at) for at in (1, 2)]
    shaped = [const if const is None or shape is None else const.shaped(shape) for const in found]
    return [g.leaf(const, f"{c.node.output[0]}.{at}") for at, const in enumerate(shaped)]


def _eps(c: Call) -> float:
    return float(f"{c.get('epsilon', 1e-5):.7g}")  # written as float32: 1e-5 comes back as 9.99999975e-06


@raises("LayerNormalization")
def _layer_norm(g: Raised, c: Call) -> Value:
    shape = g.shape(c.value())
    over = list(shape[c.get("axis", -1) :])
    scale, shift = _affine(g, c, over)
    return g.emit("layer_norm", input=c.value(), normalized_shape=over, weight=scale, bias=shift, eps=_eps(c))


@raises("GroupNormalization")
def _group_norm(g: Raised, c: Call) -> Value:
    scale, shift = _affine(g, c)
    return g.emit("group_norm", input=c.value(), num_groups=c.get("num_groups"), weight=scale, bias=shift, eps=_eps(c))


@raises("InstanceNormalization")
def _instance_norm(g: Raised, c: Call) -> Value:
    """The same as a group norm with a group for each channel."""
    (scale, shift), groups = _affine(g, c), g.shape(c.value())[1]
    return g.emit("group_norm", input=c.value(), num_groups=groups, weight=scale, bias=shift, eps=_eps(c))


@raises("MaxPool")
def _max_pool(g: Raised, c: Call) -> Value:
    if len(c.node.output) > 1 and c.node.output[1]:
        raise BadInput("its second output, the places of the maxima, is not supported")
    x, kernel = c.value(), list(c.get("kernel_shape"))
    stride, dilation, before, after = _window(g, c, kernel)
    if before != after or any(2 * p > k for p, k in zip(before, kernel, strict=True)):
        x, before = _padded(g, x, before, after, LOWEST), [0] * len(kernel)
    return g.emit(
        f"max_pool{len(kernel)}d", self=x, kernel_size=kernel, stride=stride, padding=before, dilation=dilation,
        ceil_mode=bool(c.get("ceil_mode", 0)),
    )  # fmt: skip


@raises("AveragePool")
def _average_pool(g: Raised, c: Call) -> Value:
    """Uneven padding that does not count is put right by a constant factor for each place."""
    x, kernel, counted = c.value(), list(c.get("kernel_shape")), bool(c.get("count_include_pad", 0))
    stride, dilation, before, after = _window(g, c, kernel)
    if set(dilation) != {1}:
        raise BadInput("an average over a window with gaps is not supported")
    ceil, op = bool(c.get("ceil_mode", 0)), f"avg_pool{len(kernel)}d"
    window = {"kernel_size": kernel, "stride": stride, "ceil_mode": ceil}
    if before == after and all(2 * p <= k for p, k in zip(before, kernel, strict=True)):
        return g.emit(op, self=x, padding=before, count_include_pad=counted, **window)
    made = g.emit(op, self=_padded(g, x, before, after), **window)
    if counted:
        return made
    amounts = [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair]
    pool = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(kernel)]
    share = pool(F.pad(torch.ones(1, 1, *g.shape(x)[2:]), amounts), kernel, stride, ceil_mode=ceil)
    factor = Const(Plain((1 / share).numpy()), f"{c.node.output[0]}.share")
    return g.emit("mul.Tensor", self=made, other=g.slot(factor))


@raises("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(g: Raised, c: Call) -> Value:
    dims = list(range(2, len(g.shape(c.value()))))
    if c.node.op_type == "GlobalMaxPool":
        return g.emit("amax", self=c.value(), dim=dims, keepdim=True)
    if len(dims) in (1, 2):
        return g.emit(f"adaptive_avg_pool{len(dims)}d", self=c.value(), output_size=[1] * len(dims))
    return g.emit("mean.dim", self=c.value(), dim=dims, keepdim=True)


_SPANS = {
    "uint8": (0, 255), "int8": (-128, 127), "uint4": (0, 15), "int4": (-8, 7),
    "uint16": (0, 65535), "int16": (-32768, 32767),
}  # fmt: skip


@raises("QuantizeLinear")
def _quantize(g: Raised, c: Call) -> Levels:
    scale, zero = c.const(1), c.const(2)
    kind = str(zero.array.dtype) if zero is not None else "uint8"
    if scale is None or scale.array.size != 1 or kind not in _SPANS:
        raise BadInput(f"allowed on values that flow: one step for the tensor, and levels of {', '.join(_SPANS)}")
    point = int(zero.array.reshape(-1)[0]) if zero is not None else 0
    return Levels(c.value(), float(scale.array.reshape(-1)[0]), point, _SPANS[kind])


@raises("DequantizeLinear")
def _dequantize(g: Raised, c: Call) -> Any:
    levels = c.input(0)
    if isinstance(levels, Const):
        return _held(c, levels)
    if not isinstance(levels, Levels):
        raise BadInput("it reads integers that no QuantizeLinear made")
    scale, zero = c.const(1), c.const(2)
    same = scale is not None and scale.array.size == 1 and float(scale.array.reshape(-1)[0]) == levels.scale
    point = int(zero.array.reshape(-1)[0]) if zero is not None else 0
    if not same or point != levels.zero:
        raise BadInput("its step or zero point differs from its QuantizeLinear's")
    low, high = levels.span
    return g.emit(
        "fake_quantize_per_tensor_affine", self=levels.value, scale=levels.scale, zero_point=point,
        quant_min=low, quant_max=high,
    )  # fmt: skip


def _held(c: Call, codes: Const) -> Const:
    """Return constant integers times their step: as integers where a Grid can hold them, else as floats.

    int32 are a bias with its layer's steps, S_x · S_w: floats too, because the steps belong to the layer.
    """
    scale, zero = c.const(1), c.const(2)
    if scale is None:
        raise BadInput("its steps are not known")
    ints, step = codes.array.astype(np.int64), scale.array.astype(np.float32)
    if size := c.get("block_size", 0):
        return _in_blocks(c, ints, step, size)
    if step.size > 1:
        axis = c.get("axis", 1) % ints.ndim
        along = tuple(-1 if dim == axis else 1 for dim in range(ints.ndim))
        step = step.reshape(along)
    else:
        along, step = (), step.reshape(())
    if zero is not None:
        shift = zero.array.astype(np.int64)
        ints = ints - (shift.reshape(along) if shift.size > 1 else shift.reshape(()))
    bits = max(2, *(int(end).bit_length() + 1 for end in (ints.max(initial=0), -ints.min(initial=0) - 1)))
    name = c.node.input[0] if codes.name else c.node.output[0]
    if bits > 16 or codes.array.dtype == np.int32:
        return Const(Plain((ints * step).astype(np.float32)), name, True)
    return Const(Rounded(ints.astype(np.int16), step, bits), name, True)


def _in_blocks(c: Call, ints: np.ndarray, step: np.ndarray, size: int) -> Const:
    """Return integers with a step for each block along an axis, as floats."""
    axis, zero = c.get("axis", 1) % ints.ndim, c.const(2)

    def spread(blocks: np.ndarray) -> np.ndarray:
        return np.take(np.repeat(blocks, size, axis=axis), np.arange(ints.shape[axis]), axis=axis)

    if zero is not None:
        ints = ints - spread(zero.array.astype(np.int64))
    return Const(Plain((ints * spread(step)).astype(np.float32)), c.node.output[0], True)


@raises("Gather")
def _gather(g: Raised, c: Call) -> Any:
    """A constant table read at stored places is a codebook; else one place, or a run of places, along an axis."""
    table, places = c.input(0), c.const(1)
    if places is None:
        raise BadInput("it has no places")
    if isinstance(table, Const):
        flat = len(table.shape) == 1 and table.array.dtype.kind == "f" and table.array.size <= 256
        ints = places.array.astype(np.int64)
        if not flat or not places.trained or not ints.ndim or ints.min(initial=0) < 0:
            return fold(c)[0]
        return Const(Shared(ints, table.array.astype(np.float32)), places.name, True)
    x, axis = c.value(), c.get("axis", 0) % len(g.shape(c.value()))
    if places.array.ndim == 0:
        return g.emit("select.int", self=x, dim=axis, index=int(places.array))
    ints = places.array.reshape(-1) % g.shape(x)[axis]
    if places.array.ndim > 1 or not len(ints):
        raise BadInput("it picks places that are no list; allowed: one place, or a list of them")
    if (np.diff(ints) != 1).any():
        return g.emit("index_select", self=x, dim=axis, index=g.leaf(replace(places, stored=Plain(ints))))
    return g.emit("slice.Tensor", self=x, dim=axis, start=int(ints[0]), end=int(ints[-1]) + 1)
