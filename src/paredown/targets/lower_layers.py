"""ATen operators that compute, as ONNX operators; one small function each. Needs no torch."""

import math
from typing import Any

import numpy as np

from paredown.core.errors import BadInput
from paredown.graph.integer_codes import unsigned_levels
from paredown.graph.spec import Node
from paredown.targets.onnx_graph import Graph, lowers


def _pads(node: Node, dims: int) -> list[int]:
    padding = list(node.get("padding"))
    padding = padding * dims if len(padding) == 1 else padding
    return padding + padding


def _convolve(g: Graph, node: Node, op: str, pads: list[int], **more: Any) -> str:
    return g.emit(
        op, g.name(node.args["input"]), g.name(node.args["weight"]), g.bias(node), pads=pads,
        strides=list(node.get("stride")), dilations=list(node.get("dilation")), group=node.get("groups"), **more,
    )  # fmt: skip


@lowers("conv1d", "conv2d", "conv3d")
def convolution(g: Graph, node: Node) -> str:
    return _convolve(g, node, "Conv", _pads(node, g.rank(node.args["weight"]) - 2))


@lowers("conv1d.padding", "conv2d.padding", "conv3d.padding")
def convolution_named(g: Graph, node: Node) -> str:
    kernel = g.shape(node.args["weight"])[2:]
    total = [
        (k - 1) * d if node.get("padding") == "same" else 0 for k, d in zip(kernel, node.get("dilation"), strict=True)
    ]
    return _convolve(g, node, "Conv", [t // 2 for t in total] + [t - t // 2 for t in total])


@lowers("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input")
def transposed(g: Graph, node: Node) -> str:
    pads = _pads(node, g.rank(node.args["weight"]) - 2)
    return _convolve(g, node, "ConvTranspose", pads, output_padding=list(node.get("output_padding")))


@lowers("linear")
def linear(g: Graph, node: Node) -> str:
    x, w, b = node.args["input"], node.args["weight"], node.args.get("bias")
    if g.rank(x) == 2:
        return g.emit("Gemm", g.name(x), g.name(w), *([g.bias(node)] if b is not None else []), transB=1)
    product = g.emit("MatMul", g.name(x), g.emit("Transpose", g.name(w), perm=[1, 0]))
    return product if b is None else g.emit("Add", product, g.name(b))


@lowers("matmul", "bmm", "mm")
def matmul(g: Graph, node: Node) -> str:
    return g.emit("MatMul", g.name(node.args["self"]), g.name(node.args.get("other", node.args.get("mat2"))))


@lowers("batch_norm")
def batch_norm(g: Graph, node: Node) -> str:
    statistics = [g.name(node.args[k]) for k in ("running_mean", "running_var")]
    count = g.shape(node.args["running_mean"])[0]
    scale = g.name(node.args["weight"]) if node.args["weight"] is not None else g.store(np.ones(count, np.float32))
    shift = g.name(node.args["bias"]) if node.args["bias"] is not None else g.store(np.zeros(count, np.float32))
    return g.emit("BatchNormalization", g.name(node.args["input"]), scale, shift, *statistics, epsilon=node.args["eps"])


@lowers("layer_norm")
def layer_norm(g: Graph, node: Node) -> str:
    shape = node.args["normalized_shape"]
    weight = node.args.get("weight")
    scale = g.name(weight) if weight is not None else g.store(np.ones(shape, np.float32))
    inputs = [g.name(node.args["input"]), scale] + (
        [g.name(node.args["bias"])] if node.args.get("bias") is not None else []
    )
    return g.emit("LayerNormalization", *inputs, axis=-len(shape), epsilon=node.get("eps"))


@lowers("group_norm")
def group_norm(g: Graph, node: Node) -> str:
    count = g.shape(node.args["input"])[1]
    weight, bias = node.args.get("weight"), node.args.get("bias")
    scale = g.name(weight) if weight is not None else g.store(np.ones(count, np.float32))
    shift = g.name(bias) if bias is not None else g.store(np.zeros(count, np.float32))
    settings = {"num_groups": node.args["num_groups"], "epsilon": node.get("eps")}
    out = g.emit("GroupNormalization", g.name(node.args["input"]), scale, shift, **settings)
    return g.known(out, g.shape(node.args["input"]))


_UNARY = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "hardswish": "HardSwish", "mish": "Mish",
    "neg": "Neg", "abs": "Abs", "sqrt": "Sqrt", "exp": "Exp", "log": "Log", "selu": "Selu",
    "erf": "Erf", "sin": "Sin", "cos": "Cos", "reciprocal": "Reciprocal",
}  # fmt: skip


@lowers(*_UNARY)
def unary(g: Graph, node: Node) -> str:
    return g.emit(_UNARY[node.op], g.name(node.args["self"]))


_BINARY = {"mul.Tensor": "Mul", "div.Tensor": "Div", "maximum": "Max", "minimum": "Min"}


@lowers(*_BINARY)
def binary(g: Graph, node: Node) -> str:
    return g.emit(_BINARY[node.op], g.name(node.args["self"]), g.name(node.args["other"]))


_COMPARED = {
    "eq.Scalar": "Equal",
    "gt.Scalar": "Greater",
    "ge.Scalar": "GreaterOrEqual",
    "lt.Scalar": "Less",
    "le.Scalar": "LessOrEqual",
}


@lowers(*_COMPARED, "ne.Scalar")
def compared(g: Graph, node: Node) -> str:
    x, other = g.name(node.args["self"]), g.constant(float(node.args["other"]))
    if node.op == "ne.Scalar":
        return g.emit("Not", g.emit("Equal", x, other))
    return g.emit(_COMPARED[node.op], x, other)


@lowers("add.Tensor", "sub.Tensor")
def added(g: Graph, node: Node) -> str:
    other = g.name(node.args["other"])
    if node.get("alpha") != 1:
        other = g.emit("Mul", other, g.constant(node.get("alpha")))
    return g.emit("Add" if node.op == "add.Tensor" else "Sub", g.name(node.args["self"]), other)


@lowers("relu6", "hardtanh", "clamp", "clamp_min")
def clipped(g: Graph, node: Node) -> str:
    low, high = {
        "relu6": lambda: (0, 6), "hardtanh": lambda: (node.get("min_val"), node.get("max_val")),
        "clamp": lambda: (node.get("min"), node.get("max")), "clamp_min": lambda: (node.get("min"), None),
    }[node.op]()  # fmt: skip
    return g.emit("Clip", g.name(node.args["self"]), g.name(low), g.name(high))


@lowers("hardsigmoid")
def hard_sigmoid(g: Graph, node: Node) -> str:
    return g.emit("HardSigmoid", g.name(node.args["self"]), alpha=1 / 6, beta=0.5)


@lowers("silu")
def silu(g: Graph, node: Node) -> str:
    x = g.name(node.args["self"])
    return g.emit("Mul", x, g.emit("Sigmoid", x))


@lowers("gelu")
def gelu(g: Graph, node: Node) -> str:
    return g.emit("Gelu", g.name(node.args["self"]), approximate=node.get("approximate"))


@lowers("leaky_relu")
def leaky_relu(g: Graph, node: Node) -> str:
    return g.emit("LeakyRelu", g.name(node.args["self"]), alpha=float(node.get("negative_slope")))


@lowers("elu")
def elu(g: Graph, node: Node) -> str:
    return g.emit("Elu", g.name(node.args["self"]), alpha=float(node.get("alpha")))


@lowers("prelu")
def prelu(g: Graph, node: Node) -> str:
    slope, dims = g.name(node.args["weight"]), g.rank(node.args["self"]) - 2
    if dims > 0:
        slope = g.emit("Unsqueeze", slope, g.ints(*range(1, dims + 1)))
    return g.emit("PRelu", g.name(node.args["self"]), slope)


@lowers("softmax.int", "log_softmax.int")
def softmax(g: Graph, node: Node) -> str:
    return g.emit(
        "Softmax" if node.op == "softmax.int" else "LogSoftmax", g.name(node.args["self"]), axis=node.args["dim"]
    )


@lowers("scaled_dot_product_attention")
def attention(g: Graph, node: Node) -> str:
    """softmax(q kᵀ · scale + mask) v, with a mask that is added, or a causal one. Raises BadInput for other forms."""
    query, key, mask = node.args["query"], node.args["key"], node.args.get("attn_mask")
    if node.get("enable_gqa"):
        raise BadInput(f"attention at {node.name} shares keys between heads, which is not written yet; repeat the keys")
    rank = g.rank(key)
    turned = g.emit("Transpose", g.name(key), perm=[*range(rank - 2), rank - 1, rank - 2])
    scale = node.get("scale") or g.shape(query)[-1] ** -0.5
    scores = g.emit("MatMul", g.emit("Mul", g.name(query), g.constant(scale)), turned)
    if node.get("is_causal"):
        scores = g.emit("Add", scores, g.store(_causal(g.shape(query)[-2], g.shape(key)[-2])))
    elif mask is not None:
        scores = g.emit("Add", scores, g.name(mask))
    return g.emit("MatMul", g.emit("Softmax", scores, axis=-1), g.name(node.args["value"]))


def _causal(queries: int, keys: int) -> np.ndarray:
    """Return what is added to scores so that no query sees a later key."""
    return np.where(np.tri(queries, keys, dtype=bool), 0.0, -np.inf).astype(np.float32)


def _window(node: Node, dims: int) -> dict[str, Any]:
    kernel = list(node.args["kernel_size"])
    kernel = kernel * dims if len(kernel) == 1 else kernel
    stride = list(node.get("stride")) or kernel
    return {
        "kernel_shape": kernel, "strides": stride * dims if len(stride) == 1 else stride,
        "pads": _pads(node, dims), "ceil_mode": int(node.get("ceil_mode")),
    }  # fmt: skip


@lowers("max_pool1d", "max_pool2d", "max_pool3d")
def max_pool(g: Graph, node: Node) -> str:
    dims, dilation = int(node.op[-2]), list(node.get("dilation"))
    dilation = dilation * dims if len(dilation) == 1 else dilation
    return g.emit("MaxPool", g.name(node.args["self"]), dilations=dilation, **_window(node, dims))


@lowers("avg_pool1d", "avg_pool2d", "avg_pool3d")
def average_pool(g: Graph, node: Node) -> str:
    x, window, divisor = g.name(node.args["self"]), _window(node, int(node.op[-2])), node.args.get("divisor_override")
    if divisor is None:
        return g.emit("AveragePool", x, count_include_pad=int(node.get("count_include_pad")), **window)
    if node.get("ceil_mode"):
        raise BadInput(
            f"{node.op} at {node.name} has ceil_mode and divisor_override, which ONNX does not have together"
        )
    mean = g.emit("AveragePool", x, count_include_pad=1, **window)
    return g.emit("Mul", mean, g.constant(math.prod(window["kernel_shape"]) / divisor))


@lowers("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool2d")
def adaptive_pool(g: Graph, node: Node) -> Any:
    """A maximum comes first of two values in ATen.

    ONNX's pooling has windows of one size; where an average's differ, it is one product for each dimension, see `_averaged`.
    """
    size, wanted = g.shape(node.args["self"])[2:], tuple(node.args["output_size"])
    kind = "Max" if "max" in node.op else "Average"
    if set(wanted) == {1}:
        made = g.emit(f"Global{kind}Pool", g.name(node.args["self"]))
    elif kind == "Average" and any(s % w for s, w in zip(size, wanted, strict=True)):
        made = _averaged(g, g.name(node.args["self"]), size, wanted)
    elif any(s % w for s, w in zip(size, wanted, strict=True)):
        raise BadInput(f"{node.op} at {node.name} from {size} to {wanted} has uneven windows, which ONNX does not have")
    else:
        kernel = [s // w for s, w in zip(size, wanted, strict=True)]
        made = g.emit(f"{kind}Pool", g.name(node.args["self"]), kernel_shape=kernel, strides=kernel)
    return [made] if kind == "Max" else made  # the maximum's second output, its place, is never read


def _averaged(g: Graph, name: str, size: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Return means over uneven windows [floor(i·n/m), ceil((i+1)·n/m)): products with constant matrices of their shares.

    Exact, because the mean over a box is the mean along one side of the means along the other.
    """
    for back, (n, m) in enumerate(zip(size[::-1], wanted[::-1], strict=True), 1):
        if n == m:
            continue
        spans = [range(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
        shares = np.array([[(at in span) / len(span) for at in range(n)] for span in spans], np.float32)
        left = back == 2
        name = g.emit("MatMul", g.store(shares), name) if left else g.emit("MatMul", name, g.store(shares.T))
    return name


@lowers("fake_quantize_per_tensor_affine")
def quantized(g: Graph, node: Node) -> str:
    """QuantizeLinear and DequantizeLinear in uint8; where there are fewer levels the codes are clipped in between.

    Between them a runtime can still fuse both with their neighbours to integer operators, if all have one type: signed levels
    are shifted to begin at 0. ONNX has 4-bit types, but ONNX Runtime 1.31 moves such quantizers past max pooling, which
    then has no kernel.
    """
    low, high, zero = unsigned_levels(node)
    step, scale = node.args["scale"], g.constant(node.args["scale"])
    point = g.store(np.array(zero, np.uint8))
    codes = g.emit("QuantizeLinear", g.name(node.args["self"]), scale, point)
    if (low, high) != (0, 255):
        codes = g.emit("Clip", codes, *(g.store(np.array(end, np.uint8)) for end in (low, high)))
    made = g.emit("DequantizeLinear", codes, scale, point)
    g.steps[made] = step
    return made


@lowers("pow.Tensor_Scalar", "square", "rsqrt")
def powered(g: Graph, node: Node) -> str:
    exponent = {"square": 2.0, "rsqrt": -0.5}.get(node.op, node.args.get("exponent"))
    return g.emit("Pow", g.name(node.args["self"]), g.name(exponent))
