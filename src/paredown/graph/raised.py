"""A network being made from an ONNX graph, and the register of functions that translate its operators to ATen."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from paredown.core.errors import BadInput, Damaged
from paredown.graph.frozen import Plain, Rounded, Shared, Stored
from paredown.graph.ops import OPS
from paredown.graph.slots import Codebook, Fixed, Free, Grid
from paredown.graph.spec import Node, Slot, Value, mapped

BATCH = 1_000_003
"""The batch size that shapes are worked out with, prime and large: a size that it divides comes from the batch."""

LARGEST = 2**26
"""The most entries that a sample's value may have: a small damaged file must not ask for all the memory."""

Raiser = Callable[["Raised", "Call"], Any]
RAISERS: dict[str, Raiser] = {}


def raises(*names: str) -> Callable[[Raiser], Raiser]:
    """Register a function as the translation of some ONNX operators."""

    def register(function: Raiser) -> Raiser:
        RAISERS.update(dict.fromkeys(names, function))
        return function

    return register


@dataclass(frozen=True, eq=False)
class Const:
    """A value that is known: what it stores, its name in the file, whether it is a weight, how it was changed."""

    stored: Stored
    name: str
    trained: bool = False
    change: str = ""

    @property
    def array(self) -> np.ndarray:
        """The values that the network computes with."""
        return self.stored.value

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(self.stored.shape)

    def turned(self, perm: Sequence[int]) -> "Const":
        """Return the tensor with its dimensions in another order, in the form that it has."""
        old, perm = self.stored, tuple(perm)
        if isinstance(old, Rounded):
            step = old.step.transpose(perm) if old.step.ndim else old.step
            new: Stored = Rounded(old.codes.transpose(perm), step, old.bits)
        elif isinstance(old, Shared):
            new = Shared(old.codes.transpose(perm), old.centroids)
        else:
            new = Plain(old.value.transpose(perm))
        back = perm == tuple(range(len(perm)))
        return self if back else replace(self, stored=new, change=f"{self.change}T{perm}")

    def scaled(self, factor: float) -> "Const":
        """Return the tensor times a number, in the form that it has."""
        old = self.stored
        if isinstance(old, Rounded):
            new: Stored = Rounded(old.codes, (old.step * factor).astype(np.float32), old.bits)
        elif isinstance(old, Shared):
            new = Shared(old.codes, (old.centroids * factor).astype(np.float32))
        else:
            new = Plain((old.value * factor).astype(old.value.dtype))
        return self if factor == 1 else replace(self, stored=new, change=f"{self.change}*{factor}")

    def shaped(self, shape: Sequence[int]) -> "Const":
        """Return the tensor in a shape that it broadcasts to or has the size of, in its own form if that can be."""
        old, shape = self.stored, tuple(shape)
        if self.shape == shape:
            return self
        if isinstance(old, Rounded) and old.codes.size == np.prod(shape) and old.step.size == 1:
            new: Stored = Rounded(old.codes.reshape(shape), old.step.reshape(()), old.bits)
        elif isinstance(old, Shared) and old.codes.size == np.prod(shape):
            new = Shared(old.codes.reshape(shape), old.centroids)
        else:
            array = self.array
            new = Plain(array.reshape(shape) if array.size == np.prod(shape) else np.broadcast_to(array, shape))
        return replace(self, stored=new, change=f"{self.change}R{shape}")


@dataclass(frozen=True)
class Levels:
    """A value between QuantizeLinear and DequantizeLinear."""

    value: Value
    scale: float
    zero: int
    span: tuple[int, int]


@dataclass(frozen=True)
class Call:
    """An ONNX node with its inputs looked up: a Value, a Const, Levels, or None where one is absent."""

    node: onnx.NodeProto
    inputs: tuple[Any, ...]
    opset: int
    attributes: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or the default."""
        value = self.attributes.get(name, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def input(self, at: int) -> Any:
        """Return an input, or None."""
        return self.inputs[at] if at < len(self.inputs) else None

    def value(self, at: int = 0) -> Value:
        """Return an input that flows. Raises BadInput for another."""
        found = self.input(at)
        if not isinstance(found, Value):
            what = "missing" if found is None else "a constant, or integers"
            raise BadInput(f"its input {at} is {what}; it must be computed from the network's input")
        return found

    def const(self, at: int) -> Const | None:
        """Return an input that is known, or None if it is absent. Raises BadInput for one that is computed."""
        found = self.input(at)
        if found is None or isinstance(found, Const):
            return found
        raise BadInput(f"its input {at}, {self.node.input[at]!r}, is computed by the network; it must be constant")

    def numbers(self, at: int) -> list[Any] | None:
        """Return a constant input as a flat list of numbers, or None if it is absent."""
        found = self.const(at)
        return None if found is None else found.array.reshape(-1).tolist()

    def listed(self, at: int, name: str) -> list[Any] | None:
        """Return a list that is an input in newer files and the attribute `name` in older ones, or None."""
        found = self.numbers(at)
        if found is None and name in self.attributes:
            found = list(self.attributes[name])
        return found

    def number(self, at: int, name: str) -> float | None:
        """Return a number that is an input in newer files and the attribute `name` in older ones, or None."""
        found = self.numbers(at)
        return self.get(name) if found is None else (found[0] if found else None)


class Raised:
    """A network being made: its nodes, its slots, the shape of every value, and what each ONNX name stands for."""

    def __init__(self, opset: int, fixed_batch: int | None, uses: dict[str, int]) -> None:
        self.opset, self.fixed_batch, self.uses = opset, fixed_batch, uses
        self.env: dict[str, Any] = {}
        self.nodes: dict[str, Node] = {}
        self.slots: dict[str, nn.Module] = {}
        self.hint = ""
        self._meta: dict[Any, Any] = {}
        self._made: dict[tuple[str, str, bool, str], Slot] = {}
        self._names: set[str] = set()

    def input(self, name: str, shape: tuple[int, ...]) -> str:
        """Add an input with samples of this shape, and return the name it has here."""
        fresh = self._fresh(re.sub(r"\W+", "_", name).strip("_") or "x")
        self._meta[Value(fresh)] = torch.empty((BATCH, *_sized(shape)), device="meta")
        self.env[name] = Value(fresh)
        return fresh

    def emit(self, op: str, /, **args: Any) -> Value:
        """Append a node and return its value. Its shape is worked out at once, so that a misfit is told here."""
        defaults = OPS[op].defaults
        name = self._fresh(re.sub(r"\W+", "_", self.hint).strip("_") or op.partition(".")[0])
        node = Node(name, op, {k: v for k, v in args.items() if k not in defaults or v != defaults[k]})
        self._meta[Value(name)] = self._computed(node)
        self.nodes[name] = node
        return Value(name)

    def names(self) -> list[Value]:
        """Return the values so far, the network's inputs first."""
        return [leaf for leaf in self._meta if isinstance(leaf, Value)]

    def amend(self, value: Value, /, **changes: Any) -> Value:
        """Replace some arguments of the node that makes a value, and return the value."""
        self.nodes[value] = self.nodes[value].with_args(**changes)
        self._meta[value] = self._computed(self.nodes[value])
        return value

    def parts(self, value: Value, count: int) -> list[Value]:
        """Return the values that a splitting node made, one by one."""
        return [self.emit("getitem", self=value, index=at) for at in range(count)]

    def shape(self, leaf: Any) -> tuple[int, ...]:
        """Return the shape of a value, slot or constant; a value's has BATCH where the batch stands."""
        return leaf.shape if isinstance(leaf, Const) else tuple(self._meta[leaf].shape)

    def leaf(self, found: Any, beside: str = "", trained: bool | None = None) -> Any:
        """Return a value as it is and a constant as a slot; see `slot`."""
        if found is None or isinstance(found, Value):
            return found
        if isinstance(found, Const):
            return self.slot(found, beside, trained)
        raise BadInput("it reads a value between QuantizeLinear and DequantizeLinear; only DequantizeLinear may")

    def operand(self, found: Any) -> Any:
        """Return a value or slot, or a plain number for a constant of one entry."""
        if isinstance(found, Const) and found.array.size == 1:
            return float(found.array.reshape(())) if found.array.dtype.kind == "f" else int(found.array.reshape(()))
        return self.leaf(found)

    def slot(self, const: Const, beside: str = "", trained: bool | None = None) -> Slot:
        """Return the slot that stores a constant: Free if it is one of the file's weights, else Fixed.

        A tensor has one slot however often it is read. But exporters store equal vectors once, and the biases of two
        fresh layers are equal by chance: a vector has one slot for each weight or node that it stands `beside`.
        """
        trains = const.trained if trained is None else trained
        key = (const.name, const.change, trains, beside if len(const.shape) < 2 else "")
        if key not in self._made:
            name = re.sub(r"[^\w.]+", "_", const.name).strip("._") or "weight"
            if "." not in name and hasattr(nn.ModuleDict(), name):
                name += ".value"
            name = self._fresh(name)
            self.slots[name] = _module(const, trains)
            self._made[key] = Slot(name)
            self._meta[Slot(name)] = torch.empty(const.shape, device="meta", dtype=_torch_type(const.array))
        return self._made[key]

    def live(self, outputs: list[Any]) -> tuple[Node, ...]:
        """Return the nodes that these values depend on, in order."""
        wanted, kept = set(outputs), []
        for node in reversed(self.nodes.values()):
            if Value(node.name) in wanted:
                wanted.update(node.values())
                kept.append(node)
        return tuple(kept[::-1])

    def once(self, name: str) -> bool:
        """Return whether the ONNX value `name` is read at one place only."""
        return self.uses.get(name, 0) == 1

    def _fresh(self, name: str) -> str:
        made, count = name, 0
        while made in self._names:
            count += 1
            made = f"{name}_{count}"
        self._names.add(made)
        return made

    def _computed(self, node: Node) -> Any:
        """Return a tensor without storage of the shape that a node makes."""

        def fetch(leaf: Any) -> Any:
            return self._meta[leaf] if isinstance(leaf, Value | Slot) else leaf

        given = {name: mapped(node.get(name), fetch) for name in OPS[node.op].names}
        if node.op == "getitem":
            return given["self"][given["index"]]
        if node.op == "fake_quantize_per_tensor_affine":
            return given["self"]
        if node.op == "zeros":
            return torch.empty(_sized(given["size"], BATCH), device="meta")
        base, _, overload = node.op.partition(".")
        made = getattr(getattr(torch.ops.aten, base), overload or "default")(**given)
        for one in made if isinstance(made, list | tuple) else (made,):
            if isinstance(one, Tensor):
                _sized(one.shape, BATCH)
        return made


def _sized(shape: Sequence[int], batch: int = 1) -> Sequence[int]:
    """Return the shape as it is. Raises BadInput for more than LARGEST entries in each sample of the batch."""
    if math.prod(shape) > LARGEST * batch:
        raise BadInput(f"a value of {math.prod(shape) // batch:,} entries is too large; at most {LARGEST:,}")
    return shape


def _module(const: Const, trained: bool) -> nn.Module:
    old = const.stored
    if isinstance(old, Rounded) and old.step.size in (1, *old.step.shape[:1]):
        return Grid(_tensor(old.codes), _tensor(old.step if old.step.size > 1 else old.step.reshape(())), old.bits)
    if isinstance(old, Shared):
        return Codebook(_tensor(old.codes), _tensor(old.centroids))
    value = _tensor(const.array)
    return Free(value) if trained and value.is_floating_point() else Fixed(value)


def _tensor(array: np.ndarray) -> Tensor:
    wide = array.astype(np.float32) if _torch_type(array) == torch.float32 else array
    return torch.from_numpy(np.array(wide, order="C"))


def _torch_type(array: np.ndarray) -> torch.dtype:
    """Return float32 for every kind of float, and the integer or boolean type that an array has."""
    if array.dtype.kind in "iub":
        return torch.from_numpy(np.zeros(0, array.dtype)).dtype
    return torch.float32


def known(tensor: onnx.TensorProto, name: str, trained: bool) -> Const:
    """Return a tensor of the file as a constant. Raises Damaged for one whose type, shape and bytes do not fit."""
    try:
        return Const(Plain(numpy_helper.to_array(tensor)), name, trained)
    except (LookupError, TypeError, ValueError) as error:
        raise Damaged(f"its tensor {name!r} does not fit its own type and shape") from error
