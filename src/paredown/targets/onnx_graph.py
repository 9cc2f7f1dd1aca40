"""An ONNX graph being built, and the register of functions that add operators to it. Needs no torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_node_outputs

from paredown.core.errors import BadInput
from paredown.graph.frozen import Frozen, Plain, Rounded, Shared
from paredown.graph.spec import Node, Slot

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
        self.steps: dict[str, float] = {}

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
        if isinstance(self.names[reference], int):
            raise BadInput(f"{reference} computes with the batch size, which ONNX files here leave open")
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
        """Append integer codes and their DequantizeLinear; 4 bits hold those of 1 to 4, for want of narrower types."""
        name = f"c{len(self.initializers)}"
        if stored.bits <= 4:
            codes = helper.make_tensor(name, TensorProto.INT4, stored.codes.shape, _nibbles(stored.codes), raw=True)
        elif stored.bits <= 8:
            codes = numpy_helper.from_array(stored.codes.astype(np.int8), name)
        else:
            codes = numpy_helper.from_array(stored.codes.astype(np.int16), name)
        self.hold(codes)
        if stored.step.size > 1:
            return self.emit("DequantizeLinear", name, self.store(stored.step.reshape(-1)), axis=0)
        return self.emit("DequantizeLinear", name, self.store(stored.step.reshape(())))

    def bias(self, node: Node) -> str:
        """Return the name of a layer's bias: where its input and weight are 8-bit codes, int32 codes of step S_x · S_w.

        Such a layer is integers alone in runtimes that fuse it (Jacob et al. 2018, section 2.4). Else it is as stored.
        """
        slot, given = node.args.get("bias"), str(self.names.get(node.args["input"]))
        if slot is None:
            return ""
        weight, bias = (self.frozen.tensors.get(str(node.args[k])) for k in ("weight", "bias"))
        if not (isinstance(weight, Rounded) and weight.bits in range(5, 9) and isinstance(bias, Plain)):
            return self.name(slot)
        step = np.float32(self.steps.get(given, 0)) * weight.step.reshape(-1).astype(np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):
            codes = np.rint(bias.array.astype(np.float64) / step)
        if not (np.abs(codes) < 2**31).all():
            return self.name(slot)
        held = self.store(codes.astype(np.int32))
        return self.emit("DequantizeLinear", held, self.store(np.broadcast_to(step, codes.shape)), axis=0)

    def rank(self, reference: Any) -> int:
        """Return how many dimensions a value has."""
        return len(self.shape(reference))

    def shape(self, reference: Any) -> tuple[int, ...]:
        """Return a value's or slot's shape at batch 1."""
        if isinstance(reference, Slot):
            return self.frozen.tensors[str(reference)].shape
        return tuple(d.dim_value for d in self.types[self.names[reference]].tensor_type.shape.dim)


def _nibbles(codes: np.ndarray) -> bytes:
    """Return 4-bit integers as ONNX stores them: two a byte, the first in the low half."""
    flat = np.append(codes.ravel(), np.zeros(codes.size % 2, codes.dtype)).astype(np.uint8) & 15
    return (flat[0::2] | flat[1::2] << 4).tobytes()
