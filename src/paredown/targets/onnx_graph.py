"""An ONNX graph being built, and the register of functions that add operators to it. Needs no torch."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from paredown.core.errors import BadInput
from paredown.graph.frozen import Blocks, Frozen, Hashed, Plain, Rounded, Shared, Vectors
from paredown.graph.integers import bias_codes
from paredown.graph.spec import Node, Slot
from paredown.targets.onnx_lookups import Lookups

Lowering = Callable[["Graph", Node], Any]
LOWERINGS: dict[str, Lowering] = {}
QUANTIZERS = frozenset({"fake_quantize_per_tensor_affine"})
CLIPPING = frozenset({"relu", "relu6", "hardtanh", "clamp", "clamp_min"})


def lowers(*names: str) -> Callable[[Lowering], Lowering]:
    """Register a function as the lowering of some operators."""

    def register(function: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(names, function))
        return function

    return register


class Graph(Lookups):
    """An ONNX graph being built: nodes, initializers, and the names that values have in it."""

    def __init__(self, frozen: Frozen) -> None:
        super().__init__()
        self.frozen = frozen
        self.names: dict[Any, Any] = {}
        self.steps: dict[str, float] = {}
        self.rounds = any(node.op in QUANTIZERS for node in frozen.spec.nodes)

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
            with self.named("f"):
                return self.store(stored.array)
        with self.named("w" if len(stored.shape) > 1 else "b"):
            if isinstance(stored, Shared):
                return self.codebook(stored)
            if isinstance(stored, Vectors):
                return self.vectors(stored)
            if isinstance(stored, Hashed):
                same = [t for t in self.frozen.tensors.values() if isinstance(t, Hashed) and t.seed == stored.seed]
                return self.hashed(stored, max(math.prod(t.shape) for t in same))
            return self.blocks(stored) if isinstance(stored, Blocks) else self.dequantized(stored)

    def dequantized(self, stored: Rounded) -> str:
        """Append integer codes and their DequantizeLinear. Fewer than 8 bits are read as int8, which integer operators fuse with."""
        with self.named("w" if len(stored.shape) > 1 else "b"):
            codes = self.integers(stored.codes, stored.bits)
        if self.kind(codes) == TensorProto.INT4:
            codes = self.emit("Cast", codes, to=TensorProto.INT8)
        with self.named("s"):
            if stored.step.size > 1:
                return self.scaled(codes, self.store(stored.step.reshape(-1)), axis=0)
            return self.scaled(codes, self.store(stored.step.reshape(())))

    def bias(self, node: Node) -> str:
        """Return the name of a layer's bias: between codes of up to 8 bits, int32 codes of step S_x · S_w; else as it is stored.

        Such a layer is integers alone in runtimes that fuse it (Jacob et al. 2018, section 2.4). Where its output is not
        rounded, that step may be too coarse.
        """
        slot, given = node.args.get("bias"), str(self.names.get(node.args["input"]))
        if slot is None:
            return ""
        weight, bias = (self.frozen.tensors.get(str(node.args[k])) for k in ("weight", "bias"))
        if not (isinstance(weight, Rounded) and weight.bits <= 8 and isinstance(bias, Plain)):
            return str(self.name(slot))
        if not self.requantized(node.name):
            return str(self.name(slot))
        step = np.float32(self.steps.get(given, 0)) * weight.step.reshape(-1).astype(np.float32)
        try:
            codes = bias_codes(bias.array, step)
        except BadInput:
            return self.name(slot)
        with self.named("b"):
            held = self.store(codes)
        with self.named("s"):
            steps = self.store(np.broadcast_to(step, codes.shape))
        return self.emit("DequantizeLinear", held, steps, axis=0)

    def requantized(self, name: str) -> bool:
        """Return whether all that reads a value rounds it, at once or after an activation that clips."""
        users = self.frozen.spec.users(name)
        return bool(users) and all(
            node.op in QUANTIZERS or (node.op in CLIPPING and self.requantized(node.name)) for node in users
        )

    def known(self, name: str, shape: Sequence[int]) -> str:
        """Say what shape a value has at batch 1, where ONNX cannot infer it; return its name."""
        kind = self.types[name].tensor_type.elem_type or TensorProto.FLOAT
        self.types[name] = helper.make_tensor_type_proto(kind, list(shape))
        return name

    def stored_only(self, reference: Any) -> bool:
        """Return whether a value comes from stored tensors alone, so that it has no batch."""
        if isinstance(reference, Slot):
            return True
        makers = {node.name: node for node in self.frozen.spec.nodes}
        node = makers.get(str(reference))
        return node is not None and bool(node.slots()) and all(self.stored_only(value) for value in node.values())

    def rank(self, reference: Any) -> int:
        """Return how many dimensions a value has."""
        return len(self.shape(reference))

    def shape(self, reference: Any) -> tuple[int, ...]:
        """Return a value's or slot's shape at batch 1."""
        if isinstance(reference, Slot):
            return self.frozen.tensors[str(reference)].shape
        return tuple(d.dim_value for d in self.types[self.names[reference]].tensor_type.shape.dim)
