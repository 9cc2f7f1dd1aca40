"""A network that is finished: its architecture and its stored values as plain arrays. Needs no torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paredown.graph.hashing import hashed
from paredown.graph.ops import OPS
from paredown.graph.patterns import table
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


def fit_widths(codes: np.ndarray, widths: Sequence[int], bits: int) -> bool:
    """Return whether each channel's codes are those of its own width, 0 to `bits`; of 0 bits there is only the code 0.

    codes: the first dimension is the channels. A tensor that has channels of 0 bits has 2 bits or more.
    """
    if len(widths) != len(codes) or (bits == 1 and 0 in widths) or not all(0 <= w <= bits for w in widths):
        return False
    return all(fits(row, w) if w else not row.any() for row, w in zip(codes, widths, strict=True))


@dataclass(frozen=True, eq=False)
class Rounded:
    """Integer codes of `bits` bits times a step: a scalar, or one that broadcasts over the first dimension.

    widths: the bits of each entry of the first dimension, where they differ; those of 0 bits are zeros with the step 1.
    """

    codes: np.ndarray
    step: np.ndarray
    bits: int
    widths: np.ndarray | None = None

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


@dataclass(frozen=True, eq=False)
class Blocks:
    """Bit patterns of a number format, and a step for each block of a row: (decoded − zero) · step · coarse.

    codes: the tensor's shape. step: float32 [rows, blocks], or [1, blocks] for all rows. number, block, zero, coarse: as
    in `graph.blocks.Blocked`; blocks lie along what a layer sums over, channels fastest.
    """

    codes: np.ndarray
    step: np.ndarray
    number: str
    block: int
    zero: np.ndarray | None = None
    coarse: np.ndarray | None = None

    @property
    def steps(self) -> np.ndarray:
        """What each block is multiplied by, float32, shaped as `step`."""
        return self.step if self.coarse is None else self.step * self.coarse

    @property
    def value(self) -> np.ndarray:
        """The values that the network computes with."""
        whole = table(self.number)[self.codes]
        if self.zero is not None:
            whole = whole - self.spread(self.zero.astype(np.float32))
        return np.asarray(whole * self.spread(self.steps), dtype=np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.codes.shape

    def spread(self, blocks: np.ndarray) -> np.ndarray:
        """Return one value for each block as an array that broadcasts to the tensor's shape."""
        if not self.codes.size:
            return np.zeros(self.shape, dtype=blocks.dtype)
        shape = self.shape if len(self.shape) > 1 else (1, self.codes.size)
        rows = np.repeat(blocks, self.block, axis=1) if blocks.shape[1] > 1 else blocks
        if blocks.shape[1] > 1:
            rows = np.moveaxis(rows[:, : math.prod(shape[1:])].reshape(-1, *shape[2:], shape[1]), -1, 1)
        else:
            rows = rows.reshape(-1, *[1] * (len(shape) - 1))
        return rows if len(self.shape) > 1 else rows.reshape(rows.shape[len(shape) - len(self.shape) :])

    def rows(self) -> np.ndarray:
        """Return the codes as [rows, entries of a row], in the order in which blocks lie."""
        codes = self.codes if self.codes.ndim > 1 else self.codes.reshape(1, -1)
        return np.moveaxis(codes, 1, -1).reshape(codes.shape[0], -1)


@dataclass(frozen=True, eq=False)
class Vectors:
    """Indices into tables of short vectors: the tensor, in C order, is cut into consecutive vectors of length d.

    codes: uint16, one for each vector. centroids: float32 [books, k, d], k up to 4,096; vector j of a row (an entry of the
    first dimension) is looked up in book j % books, and the books divide the vectors of a row. size: the tensor's shape.
    """

    codes: np.ndarray
    centroids: np.ndarray
    size: tuple[int, ...]

    @property
    def bits(self) -> int:
        """The width of an index."""
        return max(1, (self.centroids.shape[1] - 1).bit_length())

    @property
    def value(self) -> np.ndarray:
        """The values that the network computes with."""
        books, count, length = self.centroids.shape
        places = self.codes.reshape(-1, books).astype(np.int64) + count * np.arange(books)
        return self.centroids.reshape(-1, length)[places].reshape(self.size)

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.size


@dataclass(frozen=True, eq=False)
class Hashed:
    """A few values and a hash that says which of them stands where: entry i is sign(i) · values[bucket(i)].

    values: float32, 1-D. shape: the tensor's. seed: of the hash (`graph.hashing`), 0 to 2³² − 1.
    """

    values: np.ndarray
    shape: tuple[int, ...]
    seed: int

    @property
    def value(self) -> np.ndarray:
        """The values that the network computes with."""
        buckets, sign = hashed(math.prod(self.shape), len(self.values), self.seed)
        return (self.values[buckets] * sign).reshape(self.shape)


Stored = Plain | Rounded | Shared | Blocks | Vectors | Hashed


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
