"""The nodes and initializers of an ONNX graph being built. Needs no torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.shape_inference import infer_node_outputs

OPSET = 21
"""The first opset with 4-bit integers (ONNX 1.16)."""

ITEMS = {"w": "weights", "b": "biases", "s": "scales", "k": "codebooks", "f": "floats"}
"""What an initializer holds, by the letter that its name begins with; of any other letter it belongs to the graph."""


class Writer:
    """Nodes and initializers, and what is known of the types of their values."""

    def __init__(self) -> None:
        self.types: dict[str, onnx.TypeProto] = {}
        self.data: dict[str, onnx.TensorProto] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.letter = "c"
        self.kept: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def emit(self, op: str, *inputs: str, count: int = 1, **attributes: Any) -> Any:
        """Append a node and return the name of its output (or the list of them). Absent inputs at the end are left out.

        With an empty name in their place, ONNX Runtime 1.31 neither fuses a norm into a convolution nor lays it out in blocks.
        """
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
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
        return self.hold(numpy_helper.from_array(np.array(array, order="C"), self.free_name()))

    def keep(self, array: np.ndarray) -> str:
        """Return the name of an initializer of this content; the same one each time."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.kept:
            with self.named("c"):
                self.kept[key] = self.store(array)
        return self.kept[key]

    def free_name(self) -> str:
        """Return the name of the next initializer."""
        return f"{self.letter}{len(self.initializers)}"

    @contextmanager
    def named(self, letter: str) -> Iterator[None]:
        """Let the names of initializers begin with a letter: one of ITEMS, or "c"."""
        before, self.letter = self.letter, letter
        try:
            yield
        finally:
            self.letter = before

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

    def kind(self, name: str) -> int:
        """Return a value's type, a number of `TensorProto`."""
        return int(self.types[name].tensor_type.elem_type)
