"""How channels flow through a network: one label per channel, carried along every value.

Each dimension of a stored tensor has labels; a layer's output carries those of its weight's output dimension, and where
two values meet their labels are tied. Operators that only move positions are run by torch itself on tensors of labels,
so that reshapes, shuffles and concatenations need no index algebra of ours. What cannot be followed is frozen.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paredown.graph.labels import Labels, Track, gathered
from paredown.graph.net import Net
from paredown.graph.slots import STORED
from paredown.graph.spec import Node, Slot, Value, mapped, references
from paredown.graph.vectors import Hashed, VectorCodebook

Axis = tuple[str, int]
"""A dimension of a stored tensor: (slot name, dimension)."""


@dataclass(frozen=True)
class Axes:
    """A stored tensor used as a matrix or kernel, perhaps transposed: its dimensions in order."""

    keys: tuple[Axis, ...]


Rule = Callable[["Flow", Node], Any]
RULES: dict[str, Rule] = {}
"""Operator name to the rule that carries labels through it; an operator without one freezes what it reads."""


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Return a decorator that makes a function the rule of the operators `ops`."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops, function))
        return function

    return register


def operator_of(node: Node) -> Callable[..., Any]:
    """Return torch's own operator of a node."""
    base, _, overload = node.op.partition(".")
    return getattr(getattr(torch.ops.aten, base), overload or "default")


def _heads(net: Net, shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[int, int]]:
    """Yield (heads, width of one) of every attention: of its query, or of a product of two values of four dimensions."""
    for node in net.spec.nodes:
        leaf = node.args.get("query", node.args.get("self") if node.op in ("matmul", "bmm") else None)
        both = node.op != "matmul" or isinstance(node.args["other"], Value)
        shape = shapes.get(str(leaf), ()) if isinstance(leaf, Value) and both else ()
        if len(shape) >= 4 and shape[-3] > 1:
            yield shape[-3], shape[-1]


class Flow:
    """The labels of every value and of every dimension of a stored tensor in one network.

    values: node or input name to Track (a tuple of them for operators such as split). axes: labels by (slot, dim).
    makers: dimensions that make channels, with the nodes that use them so; readers: weight dimensions that read them.
    fillers: {node that makes zeros: (dimension, labels) of what reads them}. heads: whether channels that attention tells
    apart by head and by width go by whole heads; else by what leaves more to choose from, mostly the width of all heads.
    headed: the labels that attention had along its heads.
    """

    def __init__(self, net: Net, heads: bool = False) -> None:
        self.net = net
        self.labels = Labels()
        self.shapes = net.shapes()
        self.values: dict[str, Any] = {}
        self.axes: dict[Axis, np.ndarray] = {}
        self.makers: dict[Axis, list[str]] = {}
        self.readers: dict[Axis, list[str]] = {}
        self.fillers: dict[str, tuple[int, np.ndarray]] = {}
        self.heads = tuple(dict.fromkeys(_heads(net, self.shapes))) if heads else ()
        self.headed: list[np.ndarray] = []
        self._types: dict[str, torch.dtype] = {}

    @torch.no_grad()
    def types(self) -> dict[str, torch.dtype]:
        """Return {value name: the type of its numbers}; the network runs once for it."""
        if not self._types:
            self._types = {name: x.dtype for (name, _), x in zip(self.net.spec.inputs, self.net.example(), strict=True)}
            inputs = [x.to(self.net.dtype) if x.is_floating_point() else x for x in self.net.example()]

            def watch(node: Node, value: Any) -> None:
                if isinstance(value, Tensor):
                    self._types[node.name] = value.dtype

            self.net.copy().eval().run(*inputs, watch=watch)
        return self._types

    def axis(self, key: Axis) -> np.ndarray:
        """Return the labels of one dimension of a slot, made when first asked for."""
        if key not in self.axes:
            slot = self.net.slot(key[0])
            self.axes[key] = self.labels.fresh(self.slot_shape(key[0])[key[1]])
            if type(slot) not in STORED.values() or isinstance(slot, VectorCodebook | Hashed):
                self.labels.freeze(self.axes[key], f"{key[0]} is held as {type(slot).__name__}, which cannot be cut")
        return self.axes[key]

    def slot_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of the tensor in a slot."""
        slot = self.net.slot(name)
        if isinstance(slot, VectorCodebook | Hashed):
            return slot.shape
        held = getattr(slot, "value", getattr(slot, "codes", None))
        return tuple(held.shape if isinstance(held, Tensor) else slot().shape)

    def frozen(self, shape: tuple[int, ...], why: str) -> Track:
        """Return a Track of which nothing may be removed."""
        label = self.labels.fresh(1)
        self.labels.freeze(label, why)
        return Track(shape, None, label)

    def neutral(self, shape: tuple[int, ...]) -> Track:
        """Return the Track of a value that has no channels of which some could go."""
        return self.frozen(shape, "it has no channels")

    def stop(self, node: Node, why: str) -> Any:
        """Freeze all that a node reads and return the frozen Track of what it makes."""
        why = f"{node.op} at {node.name} {why}"
        for leaf in references(list(node.args.values())):
            self.hold(leaf, why)
        return self.frozen(self.shapes[node.name], why) if node.name in self.shapes else None

    def hold(self, leaf: Any, why: str) -> None:
        """Freeze every label of a referenced value or slot."""
        if isinstance(leaf, Slot):
            leaf = Axes(tuple((str(leaf), dim) for dim in range(len(self.slot_shape(leaf)))))
        found = self.values.get(leaf) if isinstance(leaf, Value) else leaf
        for one in found if isinstance(found, tuple) else (found,):
            if isinstance(one, Track):
                self.labels.freeze(one.labels, why)
            elif isinstance(one, Axes):
                for key in one.keys:
                    self.labels.freeze(self.axis(key), why)

    def track(self, leaf: Any) -> Track | None:
        """Return the Track of a referenced value or slot; None for what is no tensor of channels (a number, a size).

        A stored tensor with several long dimensions has no single channel dimension; it is frozen.
        """
        found = self.values.get(leaf) if isinstance(leaf, Value) else leaf
        if isinstance(found, Slot):
            shape = self.slot_shape(found)
            long = [dim for dim, size in enumerate(shape) if size > 1]
            if len(long) == 1:
                return Track(shape, long[0], self.axis((str(found), long[0])))
            self.hold(found, f"{found} has no single channel dimension")
            return self.frozen(shape, f"stored tensor {found} stays whole")
        if isinstance(found, Axes):
            self.hold(found, "a stored tensor is computed with before it is used")
            return self.frozen(tuple(len(self.axis(key)) for key in found.keys), "a stored tensor is computed with")
        return found if isinstance(found, Track) else None

    def matrix(self, leaf: Any) -> Axes | None:
        """Return a referenced stored tensor's dimensions, or None when it is a computed value."""
        if isinstance(leaf, Slot):
            return Axes(tuple((str(leaf), dim) for dim in range(len(self.slot_shape(leaf)))))
        found = self.values.get(leaf) if isinstance(leaf, Value) else None
        return found if isinstance(found, Axes) else None

    def bind(self, track: Track, dim: int, key: Axis, why: str) -> None:
        """Tie a value's channels, which should lie along `dim`, to a slot's dimension; freeze both if they do not."""
        if track.dim in (dim, None):
            self.labels.tie(track.labels, self.axis(key))
            return
        self.labels.freeze(track.labels, why)
        self.labels.freeze(self.axis(key), why)

    def moved(self, node: Node) -> Any:
        """Return what a position-moving node makes, by running it on labels."""

        def fetch(leaf: Any) -> Any:
            if isinstance(leaf, Value) and isinstance(self.values[leaf], int):
                return self.values[leaf]
            track = self.track(leaf) if isinstance(leaf, Value | Slot) else None
            return leaf if track is None else track.spread()

        made = operator_of(node)(**{name: mapped(value, fetch) for name, value in node.args.items()})
        if isinstance(made, Tensor):
            return gathered(made.contiguous(), self.labels, self.heads)
        return tuple(gathered(one.contiguous(), self.labels, self.heads) for one in made)
