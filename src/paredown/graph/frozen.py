"""A network that is finished: its architecture and its stored values as plain arrays. Needs no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from paredown.graph.ops import OPS
from paredown.graph.spec import Node, Slot, Spec, Value, mapped

IDENTITIES = frozenset({"dropout", "feature_dropout", "alpha_dropout", "contiguous", "clone", "alias", "detach"})
"""Operators that do nothing once training is over."""


@dataclass(frozen=True, eq=False)
class Plain:
    """Values as they are (float32 or integers)."""

    array: np.ndarray

    @property
    def value(self) -> np.ndarray:
        """The values that the network computes with."""
        return self.array

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.array.shape


def code_range(bits: int) -> tuple[int, int]:
    """Return the lowest and the highest code of `bits` bits: two's complement; one bit stands for −1 and +1."""
    return (-1, 1) if bits == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def fits(codes: Any, bits: int) -> bool:
    """Return whether every code, of an array or a tensor, is one of those that `bits` bits have; with one bit 0 is none."""
    low, high = code_range(bits)
    return not math.prod(codes.shape) or bool(
        low <= codes.min() and codes.max() <= high and (bits > 1 or (codes != 0).all())
    )


@dataclass(frozen=True, eq=False)
class Rounded:
    """Integer codes of `bits` bits times a step: a scalar, or one that broadcasts over the first dimension."""

    codes: np.ndarray
    step: np.ndarray
    bits: int

    @property
    def value(self) -> np.ndarray:
        """The values that the network computes with."""
        return (self.codes.astype(np.float32) * self.step).astype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.codes.shape


@dataclass(frozen=True, eq=False)
class Shared:
    """Indices into a table of float32 values."""

    codes: np.ndarray
    centroids: np.ndarray

    @property
    def bits(self) -> int:
        """The width of an index."""
        return max(1, (len(self.centroids) - 1).bit_length())

    @property
    def value(self) -> np.ndarray:
        """The values that the network computes with."""
        return self.centroids[self.codes]

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.codes.shape


Stored = Plain | Rounded | Shared


@dataclass(frozen=True, eq=False)
class Frozen:
    """An architecture and what its slots hold."""

    spec: Spec
    tensors: Mapping[str, Stored]


def without_identities(spec: Spec) -> Spec:
    """Return the architecture without the operators that do nothing once training is over."""
    stands_for: dict[str, Any] = {}
    nodes: list[Node] = []

    def settle(leaf: Any) -> Any:
        return stands_for.get(leaf, leaf) if isinstance(leaf, Value) else leaf

    for node in spec.nodes:
        args = mapped(node.args, settle)
        if node.op in IDENTITIES:
            stands_for[node.name] = args.get("self", args.get("input"))
        else:
            nodes.append(Node(node.name, node.op, args))
    return Spec(spec.inputs, tuple(nodes), mapped(spec.output, settle))


def renamed(spec: Spec) -> tuple[Spec, dict[str, str]]:
    """Return the architecture with values v0, v1, … and slots s0, s1, …, and {new slot name: old}."""
    values = {name: f"v{i}" for i, name in enumerate([n for n, _ in spec.inputs] + [n.name for n in spec.nodes])}
    slots = {name: f"s{i}" for i, name in enumerate(spec.slot_users())}

    def rename(leaf: Any) -> Any:
        if isinstance(leaf, Value):
            return Value(values[leaf])
        return Slot(slots[leaf]) if isinstance(leaf, Slot) else leaf

    inputs = tuple((values[name], shape) for name, shape in spec.inputs)
    nodes = tuple(Node(values[n.name], n.op, _in_order(n.op, mapped(n.args, rename))) for n in spec.nodes)
    return Spec(inputs, nodes, mapped(spec.output, rename)), {new: old for old, new in slots.items()}


def _in_order(op: str, args: dict[str, Any]) -> dict[str, Any]:
    return {name: args[name] for name in OPS[op].names if name in args}
