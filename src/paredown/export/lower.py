"""ATen operators as ONNX operators, one small function each. Needs no torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_node_outputs

from paredown.core.errors import BadInput
from paredown.graph.frozen import Frozen, Plain, Rounded, Shared
from paredown.graph.spec import Node, Slot, Value

OPSET = 21
"""The first opset with 4-bit integers (ONNX 1.16)."""

Lowering = Callable[["Graph", Node], Any]
LOWERINGS: dict[str, Lowering] = {}


def lowers(*names: str) -> Callable[[Lowering], Lowering]:
    """Register a function as the lowering of some operators."""

    def register(function: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(names, function))
        return function

    return register


class Graph:
    """An ONNX graph being built: nodes, initializers, and the names that values have in it."""

    def __init__(self, frozen: Frozen) -> None:
        self.frozen = frozen
        self.types: dict[str, onnx.TypeProto] = {}
        self.data: dict[str, onnx.TensorProto] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.names: dict[Any, Any] = {}

    def emit(self, op: str, *inputs: str, count: int = 1, **attributes: Any) -> Any:
        """Append a node and return the name of its output (or the list of them)."""
        outputs = [f"t{len(self.nodes)}_{i}" if count > 1 else f"t{len(self.nodes)}" for i in range(count)]
        node = helper.make_node(op, list(inputs), outputs, **{k: v for k, v in attributes.items() if v is not None})
        self.nodes.append(node)
        data = {name: self.data[name] for name in inputs if name in self.data}
        types = {name: self.types[name] for name in inputs if name}
        schema = onnx.defs.get_schema(op, OPSET)
        self.types.update(infer_node_outputs(schema, node, types, data, opset_imports=[helper.make_opsetid("", OPSET)]))
        return outputs[0] if count == 1 else outputs

    def store(self, array: np.ndarray) -> str:
        """Append an initializer and return its name."""
        return self.hold(numpy_helper.from_array(np.array(array, order="C"), f"c{len(self.initializers)}"))

    def hold(self, tensor: onnx.TensorProto) -> str:
        """Append a finished initializer and return its name."""
        self.initializers.append(tensor)
        self.types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
        self.data[tensor.name] = tensor
        return tensor.name

    def ints(self, *values: int) -> str:
        """Append a 1-D int64 initializer and return its name."""
        return self.store(np.array(values, dtype=np.int64))

    def constant(self, value: float) -> str:
        """Append a float32 scalar and return its name."""
        return self.store(np.array(value, dtype=np.float32))

    def name(self, reference: Any) -> Any:
        """Return the name of a value or slot; a number becomes a float32 constant, None an absent input."""
        if reference is None:
            return ""
        if isinstance(reference, int | float):
            return self.constant(float(reference))
        if reference not in self.names and isinstance(reference, Slot):
            self.names[reference] = self.slot(str(reference))
        return self.names[reference]

    def slot(self, name: str) -> str:
        """Append a slot's values: floats as they are, codes with DequantizeLinear, a codebook with Gather."""
        stored = self.frozen.tensors[name]
        if isinstance(stored, Plain):
            return self.store(stored.array)
        if isinstance(stored, Shared):
            codes = self.emit("Cast", self.store(stored.codes), to=TensorProto.INT32)
            return self.emit("Gather", self.store(stored.centroids), codes)
        return self.dequantized(stored)

    def dequantized(self, stored: Rounded) -> str:
        """Append integer codes (4 bits wide where they fit) and their DequantizeLinear."""
        name = f"c{len(self.initializers)}"
        if stored.bits <= 4:
            codes = helper.make_tensor(name, TensorProto.INT4, stored.codes.shape, stored.codes.ravel().tolist())
        elif stored.bits <= 8:
            codes = numpy_helper.from_array(stored.codes.astype(np.int8), name)
        else:
            codes = numpy_helper.from_array(stored.codes.astype(np.int16), name)
        self.hold(codes)
        axis = 0 if stored.step.size > 1 else None
        return self.emit("DequantizeLinear", name, self.store(stored.step.reshape(-1) if axis == 0 else stored.step.reshape(())), axis=axis)

    def rank(self, reference: Any) -> int:
        """Return how many dimensions a value has."""
        return len(self.shape(reference))

    def shape(self, reference: Any) -> tuple[int, ...]:
        """Return a value's or slot's shape at batch 1."""
        if isinstance(reference, Slot):
            return self.frozen.tensors[str(reference)].shape
        return tuple(d.dim_value for d in self.types[self.names[reference]].tensor_type.shape.dim)


def build(frozen: Frozen) -> onnx.ModelProto:
    """Return the network as an ONNX model with a free batch size. Raises BadInput for an operator without a lowering."""
    graph = Graph(frozen)
    inputs = []
    for name, shape in frozen.spec.inputs:
        graph.names[Value(name)] = name
        graph.types[name] = helper.make_tensor_type_proto(TensorProto.FLOAT, [1, *shape])
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape]))
    for node in frozen.spec.nodes:
        if node.op not in LOWERINGS:
            raise BadInput(f"operator {node.op!r} at {node.name} cannot be written as ONNX yet; allowed: {', '.join(sorted(LOWERINGS))}")
        graph.names[Value(node.name)] = LOWERINGS[node.op](graph, node)
    outputs = []
    for at, (key, value) in enumerate(_flat(frozen.spec.output)):
        graph.nodes.append(helper.make_node("Identity", [graph.names[value]], [key or f"y{at}"]))
        outputs.append(helper.make_tensor_value_info(key or f"y{at}", TensorProto.FLOAT, ["n", *graph.shape(value)[1:]]))
    proto = helper.make_graph(graph.nodes, "paredown", inputs, outputs, graph.initializers)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10, producer_name="paredown")
    onnx.checker.check_model(model)
    return model


def _flat(output: Any) -> list[tuple[str, Value]]:
    if isinstance(output, dict):
        return [(str(k), v) for k, v in output.items() if isinstance(v, Value)]
    if isinstance(output, list | tuple):
        return [pair for item in output for pair in _flat(item)]
    return [("", output)] if isinstance(output, Value) else []


def _pads(node: Node, dims: int) -> list[int]:
    padding = list(node.get("padding"))
    padding = padding * dims if len(padding) == 1 else padding
    return padding + padding


@lowers("conv1d", "conv2d", "conv3d")
def convolution(g: Graph, node: Node) -> str:
    dims = g.rank(node.args["weight"]) - 2
    return g.emit(
        "Conv", g.name(node.args["input"]), g.name(node.args["weight"]), g.name(node.args.get("bias")),
        strides=list(node.get("stride")), pads=_pads(node, dims), dilations=list(node.get("dilation")), group=node.get("groups"),
    )  # fmt: skip


@lowers("conv1d.padding", "conv2d.padding", "conv3d.padding")
def convolution_named(g: Graph, node: Node) -> str:
    kernel = g.shape(node.args["weight"])[2:]
    total = [(k - 1) * d if node.get("padding") == "same" else 0 for k, d in zip(kernel, node.get("dilation"), strict=True)]
    return g.emit(
        "Conv", g.name(node.args["input"]), g.name(node.args["weight"]), g.name(node.args.get("bias")),
        strides=list(node.get("stride")), pads=[t // 2 for t in total] + [t - t // 2 for t in total],
        dilations=list(node.get("dilation")), group=node.get("groups"),
    )  # fmt: skip


@lowers("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input")
def transposed(g: Graph, node: Node) -> str:
    dims = g.rank(node.args["weight"]) - 2
    return g.emit(
        "ConvTranspose", g.name(node.args["input"]), g.name(node.args["weight"]), g.name(node.args.get("bias")),
        strides=list(node.get("stride")), pads=_pads(node, dims), dilations=list(node.get("dilation")),
        group=node.get("groups"), output_padding=list(node.get("output_padding")),
    )  # fmt: skip


@lowers("linear")
def linear(g: Graph, node: Node) -> str:
    x, w, b = node.args["input"], node.args["weight"], node.args.get("bias")
    if g.rank(x) == 2:
        return g.emit("Gemm", g.name(x), g.name(w), *([g.name(b)] if b is not None else []), transB=1)
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
    inputs = [g.name(node.args["input"]), scale] + ([g.name(node.args["bias"])] if node.args.get("bias") is not None else [])
    return g.emit("LayerNormalization", *inputs, axis=-len(shape), epsilon=node.get("eps"))


@lowers("group_norm")
def group_norm(g: Graph, node: Node) -> str:
    count = g.shape(node.args["input"])[1]
    weight, bias = node.args.get("weight"), node.args.get("bias")
    scale = g.name(weight) if weight is not None else g.store(np.ones(count, np.float32))
    shift = g.name(bias) if bias is not None else g.store(np.zeros(count, np.float32))
    return g.emit("GroupNormalization", g.name(node.args["input"]), scale, shift, num_groups=node.args["num_groups"], epsilon=node.get("eps"))


_UNARY = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "hardswish": "HardSwish", "mish": "Mish", "neg": "Neg", "abs": "Abs",
    "sqrt": "Sqrt", "exp": "Exp", "log": "Log", "selu": "Selu",
}  # fmt: skip


@lowers(*_UNARY)
def unary(g: Graph, node: Node) -> str:
    return g.emit(_UNARY[node.op], g.name(node.args["self"]))


_BINARY = {"mul.Tensor": "Mul", "div.Tensor": "Div", "maximum": "Max", "minimum": "Min"}


@lowers(*_BINARY)
def binary(g: Graph, node: Node) -> str:
    return g.emit(_BINARY[node.op], g.name(node.args["self"]), g.name(node.args["other"]))


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
    return g.emit("Softmax" if node.op == "softmax.int" else "LogSoftmax", g.name(node.args["self"]), axis=node.args["dim"])


def _window(node: Node, dims: int) -> dict[str, Any]:
    kernel = list(node.args["kernel_size"])
    kernel = kernel * dims if len(kernel) == 1 else kernel
    stride = list(node.get("stride")) or kernel
    return {"kernel_shape": kernel, "strides": stride * dims if len(stride) == 1 else stride, "pads": _pads(node, dims), "ceil_mode": int(node.get("ceil_mode"))}


@lowers("max_pool1d", "max_pool2d", "max_pool3d")
def max_pool(g: Graph, node: Node) -> str:
    dims = int(node.op[-2])
    return g.emit("MaxPool", g.name(node.args["self"]), dilations=list(node.get("dilation")), **_window(node, dims))


@lowers("avg_pool1d", "avg_pool2d", "avg_pool3d")
def average_pool(g: Graph, node: Node) -> str:
    return g.emit("AveragePool", g.name(node.args["self"]), count_include_pad=int(node.get("count_include_pad")), **_window(node, int(node.op[-2])))


@lowers("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool2d")
def adaptive_pool(g: Graph, node: Node) -> str:
    size, wanted = g.shape(node.args["self"])[2:], tuple(node.args["output_size"])
    kind = "Max" if "max" in node.op else "Average"
    if set(wanted) == {1}:
        return g.emit(f"Global{kind}Pool", g.name(node.args["self"]))
    if any(s % w for s, w in zip(size, wanted, strict=True)):
        raise BadInput(f"{node.op} at {node.name} from {size} to {wanted} has uneven windows, which ONNX does not have")
    kernel = [s // w for s, w in zip(size, wanted, strict=True)]
    return g.emit(f"{kind}Pool", g.name(node.args["self"]), kernel_shape=kernel, strides=kernel)


@lowers("mean", "mean.dim", "sum.dim_IntList", "amax", "amin")
def reduced(g: Graph, node: Node) -> str:
    kind = {"mean": "ReduceMean", "mean.dim": "ReduceMean", "sum.dim_IntList": "ReduceSum", "amax": "ReduceMax", "amin": "ReduceMin"}[node.op]
    dims = node.args.get("dim") if node.op != "mean" else None
    axes = [g.ints(*dims)] if dims else []
    return g.emit(kind, g.name(node.args["self"]), *axes, keepdims=int(node.get("keepdim")) if node.op != "mean" else 0)


@lowers("flatten.using_ints")
def flatten(g: Graph, node: Node) -> str:
    shape = g.shape(node.args["self"])
    start, end = node.get("start_dim") % len(shape), node.get("end_dim") % len(shape)
    merged = int(np.prod(shape[start : end + 1])) if start else -1
    kept = [0] * start
    return g.emit("Reshape", g.name(node.args["self"]), g.ints(*kept, merged, *shape[end + 1 :]))


@lowers("view", "reshape")
def reshaped(g: Graph, node: Node) -> str:
    """A size taken from the batch becomes 0, which is ONNX's word for "as it was"."""
    sizes = list(node.args.get("size", node.args.get("shape")))
    known = [size if isinstance(size, int) else 0 if at == 0 else -1 for at, size in enumerate(sizes)]
    return g.emit("Reshape", g.name(node.args["self"]), g.ints(*known))


@lowers("unflatten.int")
def unflattened(g: Graph, node: Node) -> str:
    shape, dim = g.shape(node.args["self"]), node.args["dim"] % g.rank(node.args["self"])
    return g.emit("Reshape", g.name(node.args["self"]), g.ints(*[0] * dim, *node.args["sizes"], *shape[dim + 1 :]))


@lowers("squeeze.dim", "squeeze.dims", "unsqueeze")
def squeezed(g: Graph, node: Node) -> str:
    dims = node.args["dim"] if isinstance(node.args["dim"], list | tuple) else [node.args["dim"]]
    return g.emit("Unsqueeze" if node.op == "unsqueeze" else "Squeeze", g.name(node.args["self"]), g.ints(*dims))


@lowers("t")
def transposed_matrix(g: Graph, node: Node) -> str:
    return g.emit("Transpose", g.name(node.args["self"]), perm=[1, 0])


@lowers("sym_size.int")
def symbolic_size(g: Graph, node: Node) -> str:
    """Only reshapes read it, and they have their own word for the batch."""
    return ""


@lowers("permute")
def permuted(g: Graph, node: Node) -> str:
    rank = g.rank(node.args["self"])
    return g.emit("Transpose", g.name(node.args["self"]), perm=[d % rank for d in node.args["dims"]])


@lowers("transpose.int")
def transposed_dims(g: Graph, node: Node) -> str:
    rank = g.rank(node.args["self"])
    perm = list(range(rank))
    a, b = node.args["dim0"] % rank, node.args["dim1"] % rank
    perm[a], perm[b] = perm[b], perm[a]
    return g.emit("Transpose", g.name(node.args["self"]), perm=perm)


@lowers("cat", "stack")
def joined(g: Graph, node: Node) -> str:
    names = [g.name(t) for t in node.args["tensors"]]
    if node.op == "stack":
        names = [g.emit("Unsqueeze", name, g.ints(node.get("dim"))) for name in names]
    return g.emit("Concat", *names, axis=node.get("dim"))


@lowers("chunk", "split.Tensor", "split_with_sizes", "unbind.int")
def split(g: Graph, node: Node) -> list[str]:
    x, axis = node.args["self"], node.get("dim")
    total = g.shape(x)[axis]
    if node.op == "split_with_sizes":
        sizes = list(node.args["split_sizes"])
    else:
        size = {"chunk": lambda: -(-total // node.args["chunks"]), "split.Tensor": lambda: node.args["split_size"], "unbind.int": lambda: 1}[node.op]()
        sizes = [min(size, total - at) for at in range(0, total, size)]
    parts = g.emit("Split", g.name(x), g.ints(*sizes), count=len(sizes), axis=axis) if len(sizes) > 1 else [g.name(x)]
    return [g.emit("Squeeze", p, g.ints(axis)) for p in parts] if node.op == "unbind.int" else parts


@lowers("getitem")
def picked(g: Graph, node: Node) -> str:
    return g.names[node.args["self"]][node.args["index"]]


@lowers("slice.Tensor", "narrow", "select.int")
def sliced(g: Graph, node: Node) -> str:
    axis = node.get("dim")
    if node.op == "select.int":
        return g.emit("Gather", g.name(node.args["self"]), g.store(np.array(node.args["index"], np.int64)), axis=axis)
    start = node.get("start") or 0
    end = start + node.args["length"] if node.op == "narrow" else node.get("end")
    step = 1 if node.op == "narrow" else node.get("step")
    end = np.iinfo(np.int64).max if end is None else end
    return g.emit("Slice", g.name(node.args["self"]), g.ints(start), g.ints(end), g.ints(axis), g.ints(step))


@lowers("pad")
def padded(g: Graph, node: Node) -> str:
    rank, given = g.rank(node.args["self"]), list(node.args["pad"])
    before, after = [0] * rank, [0] * rank
    for at in range(len(given) // 2):
        before[rank - 1 - at], after[rank - 1 - at] = given[2 * at], given[2 * at + 1]
    mode = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}[node.get("mode")]
    value = [g.constant(node.get("value") or 0.0)] if mode == "constant" else []
    return g.emit("Pad", g.name(node.args["self"]), g.ints(*before, *after), *value, mode=mode)


@lowers("upsample_nearest2d.vec", "upsample_bilinear2d.vec")
def upsampled(g: Graph, node: Node) -> str:
    size, factors = node.args["output_size"], node.args["scale_factors"]
    if factors is None:
        factors = [a / b for a, b in zip(size, g.shape(node.args["input"])[2:], strict=True)]
    scales = np.array([1, 1, *factors], np.float32)
    if node.op.startswith("upsample_nearest"):
        return g.emit("Resize", g.name(node.args["input"]), "", g.store(scales), mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    align = "align_corners" if node.args["align_corners"] else "half_pixel"
    return g.emit("Resize", g.name(node.args["input"]), "", g.store(scales), mode="linear", coordinate_transformation_mode=align)


@lowers("pixel_shuffle", "channel_shuffle")
def shuffled(g: Graph, node: Node) -> str:
    x = node.args["self"]
    if node.op == "pixel_shuffle":
        return g.emit("DepthToSpace", g.name(x), blocksize=node.args["upscale_factor"], mode="CRD")
    _, c, h, w = g.shape(x)
    groups = node.args["groups"]
    parts = g.emit("Reshape", g.name(x), g.ints(0, groups, c // groups, h, w))
    return g.emit("Reshape", g.emit("Transpose", parts, perm=[0, 2, 1, 3, 4]), g.ints(0, c, h, w))


@lowers("fake_quantize_per_tensor_affine")
def quantized(g: Graph, node: Node) -> str:
    """QuantizeLinear and DequantizeLinear in the narrowest type that has all the levels."""
    low, high = node.args["quant_min"], node.args["quant_max"]
    kinds = {(0, 255): TensorProto.UINT8, (-128, 127): TensorProto.INT8, (0, 15): TensorProto.UINT4, (-8, 7): TensorProto.INT4}
    if (low, high) not in kinds:
        raise BadInput(f"levels {low} to {high} at {node.name} have no ONNX type; allowed: {', '.join(map(str, kinds))}")
    zero = g.hold(helper.make_tensor(f"c{len(g.initializers)}", kinds[low, high], [], [node.args["zero_point"]]))
    scale = g.constant(node.args["scale"])
    return g.emit("DequantizeLinear", g.emit("QuantizeLinear", g.name(node.args["self"]), scale, zero), scale, zero)


@lowers("pow.Tensor_Scalar", "square", "rsqrt")
def powered(g: Graph, node: Node) -> str:
    exponent = {"square": 2.0, "rsqrt": -0.5}.get(node.op, node.args.get("exponent"))
    return g.emit("Pow", g.name(node.args["self"]), g.name(exponent))
