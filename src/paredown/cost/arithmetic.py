"""What one node computes: multiplications, additions, comparisons and special functions for one sample.

One small function per operator, in `cost/operators/`, registered by `counts`. The convention, called "full":

- An operator costs what a plain loop over its definition executes, values prepared beforehand (a folded scale, 1/n)
  free. A sum of n terms takes n − 1 additions, a bias one more; a maximum of n values n − 1 comparisons.
- Padding is multiplied like any other value; a transposed convolution computes what its padding then crops.
- A MAC is one product that is summed in a convolution, linear layer, recurrent layer or matrix product.
- Divisions, roots, exponentials, logarithms and the error function are `specials`. Changing a sign is free, and so is
  moving, reshaping and converting.
"""

import importlib
import math
import pkgutil
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import cache
from typing import Any

from paredown.core.cost import Geometry
from paredown.cost import operators
from paredown.graph.net import Net
from paredown.graph.spec import Node, Slot, Value
from paredown.graph.vectors import Hashed, VectorCodebook

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Arithmetic:
    """How often an operator multiplies, adds, compares and calls a special function. `macs` is within mults and adds."""

    macs: int = 0
    mults: int = 0
    adds: int = 0
    compares: int = 0
    specials: int = 0

    def __add__(self, other: "Arithmetic") -> "Arithmetic":
        return Arithmetic(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: int) -> "Arithmetic":
        return Arithmetic(*(a * times for a in astuple(self)))


@dataclass(frozen=True)
class Call:
    """A node with the shapes of what it reads and makes, at batch 1."""

    node: Node
    net: Net
    shapes: Shapes

    def get(self, argument: str) -> Any:
        """Return an argument, given or default."""
        return self.node.get(argument)

    def has(self, argument: str) -> bool:
        """Whether an argument is a tensor, stored or computed."""
        return isinstance(self.node.args.get(argument), Value | Slot)

    def shape(self, argument: str) -> tuple[int, ...]:
        """Return the shape of a tensor argument."""
        return self.shape_of(self.node.args[argument])

    def shape_of(self, reference: Any) -> tuple[int, ...]:
        """Return the shape of what a reference names."""
        return slot_shape(self.net.slot(reference)) if isinstance(reference, Slot) else self.shapes[reference]

    def size(self, argument: str) -> int:
        """Return the number of values in a tensor argument."""
        return math.prod(self.shape(argument))

    @property
    def out(self) -> tuple[int, ...]:
        """The output's shape."""
        return self.shapes[self.node.name]

    @property
    def outputs(self) -> int:
        """The number of output values."""
        return math.prod(self.out)


def slot_shape(slot: Any) -> tuple[int, ...]:
    """Return the shape of the tensor that a slot stands for."""
    if isinstance(slot, VectorCodebook | Hashed):
        return slot.shape
    held = getattr(slot, "codes", getattr(slot, "value", None))
    assert held is not None
    return tuple(held.shape)


def held_params(slot: Any) -> int:
    """Return how many parameters a slot holds: the entries of its tensor; where a hash places them, the values it places."""
    return int(slot.values.numel()) if isinstance(slot, Hashed) else math.prod(slot_shape(slot))


def stored_entries(slot: Any) -> int:
    """Return how many values or codes a slot stores, tables not included: one for each entry, vector or bucket."""
    if isinstance(slot, VectorCodebook | Hashed):
        return int((slot.codes if isinstance(slot, VectorCodebook) else slot.values).numel())
    return math.prod(slot_shape(slot))


Counter = Callable[[Call], Arithmetic]


@dataclass(frozen=True)
class Operator:
    """How an operator is counted, which kind of layer it is, and its loops if it has the shape of a convolution."""

    count: Counter
    kind: str
    geometry: Callable[[Call], Geometry] | None = None


_OPERATORS: dict[str, Operator] = {}


def counts(kind: str, *ops: str, geometry: Callable[[Call], Geometry] | None = None) -> Callable[[Counter], Counter]:
    """Register a function as the counter of some operators."""

    def register(count: Counter) -> Counter:
        for op in ops:
            if op in _OPERATORS:
                raise ValueError(f"operator {op} is counted twice")
            _OPERATORS[op] = Operator(count, kind, geometry)
        return count

    return register


@cache
def counted() -> dict[str, Operator]:
    """Return {operator: how it is counted}, from every file of `cost/operators/`."""
    for found in pkgutil.iter_modules(operators.__path__, f"{operators.__name__}."):
        importlib.import_module(found.name)
    return _OPERATORS
