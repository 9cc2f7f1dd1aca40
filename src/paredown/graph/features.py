"""Where the channels of a group show on data: values after a nonlinearity, and what the layers that mix channels read."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from paredown.graph.groups import Group
from paredown.graph.labels import Track
from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.spec import Node, Value
from paredown.graph.trace import trace

ZEROING = frozenset({"relu", "relu6", "hardtanh", "clamp", "clamp_min", "hardswish"})
"""Nonlinearities that make exact zeros."""

NONLINEAR = ZEROING | {"leaky_relu", "prelu", "elu", "selu", "silu", "gelu", "mish", "softplus", "tanh"}
"""Nonlinearities after a layer; sigmoids, which mostly are gates, are not among them."""

NORMS = frozenset({"batch_norm", "instance_norm", "group_norm"})
"""Operators that scale each channel by a stored number, γ."""

BATCH = 64
"""Samples at a time."""


def scales(net: Net) -> list[str]:
    """Return the slots of the norms' γ, in order of use."""
    found = [node.slot("weight") for node in net.spec.nodes if node.op in NORMS]
    return list(dict.fromkeys(str(slot) for slot in found if slot is not None))


@dataclass(frozen=True, eq=False)
class Place:
    """A value that carries units of a group along `dim`; units: which one each channel belongs to, −1 for none."""

    value: str
    dim: int
    units: Tensor

    def by_channel(self, value: Tensor) -> Tensor:
        """Return the value as [channels, samples, positions]."""
        return value.movedim(self.dim, 0).flatten(2) if value.dim() > 2 else value.movedim(self.dim, 0)[..., None]


def shown(net: Net, groups: Sequence[Group], ops: Iterable[str] = NONLINEAR) -> list[list[Place]]:
    """Return for each group the values that operators `ops` make of its channels, in the network's order."""
    wanted, find = set(ops), _Finder(net, groups)
    found: list[list[Place]] = [[] for _ in groups]
    for node in net.spec.nodes:
        for number, place in find(node.name).items() if node.op in wanted else ():
            found[number].append(place)
    return found


def read(net: Net, groups: Sequence[Group]) -> list[list[tuple[Node, Place]]]:
    """Return for each group the convolutions and linear layers that mix its channels, with what they read.

    Depthwise convolutions mix no channels; they are not among them.
    """
    find = _Finder(net, groups)
    found: list[list[tuple[Node, Place]]] = [[] for _ in groups]
    for node in net.spec.nodes:
        leaf, slot = node.args.get("input"), node.slot("weight")
        if node.op not in WEIGHTED or not isinstance(leaf, Value) or slot is None:
            continue
        if node.args.get("groups", 1) > 1 and net.slot(slot)().shape[0 if "transpose" in node.op else 1] == 1:
            continue
        for number, place in find(leaf).items():
            found[number].append((node, place))
    return found


@torch.no_grad()
def watch(net: Net, x: Tensor, places: Iterable[Place], see: Callable[[Place, Tensor], None]) -> None:
    """Show `see(place, value)` each place's value of each batch of `x`: one pass for them all, in eval mode."""
    wanted: dict[str, list[Place]] = {}
    for place in places:
        wanted.setdefault(place.value, []).append(place)

    def note(node: Node, value: Tensor) -> None:
        for place in wanted.get(node.name, ()):
            see(place, value)

    training = net.training
    for rows in x.split(BATCH):
        net.eval().run(rows, watch=note)
    net.train(training)


def by_unit(places: Sequence[Place], values: Sequence[Tensor], count: int) -> Tensor:
    """Return the mean over the channels of each of `count` units, and over the places that have it; values: one each channel."""
    total, seen = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    for place, value in zip(places, values, strict=True):
        own = place.units >= 0
        there = torch.zeros(count, dtype=torch.float64).index_add(
            0, place.units[own], torch.ones(int(own.sum())).double()
        )
        summed = torch.zeros(count, dtype=torch.float64).index_add(0, place.units[own], value.double().cpu()[own])
        total += summed / there.clamp(min=1)
        seen += there > 0
    return total / seen.clamp(min=1)


class _Finder:
    """Finds the groups whose units lie along a value's channels."""

    def __init__(self, net: Net, groups: Sequence[Group]) -> None:
        self.flow = trace(net)
        self.owner: dict[int, tuple[int, int]] = {}
        for number, group in enumerate(groups):
            for unit, cuts in enumerate(group.units):
                label = self.flow.axis((cuts[0].slot, cuts[0].dim))[cuts[0].indices[0]]
                self.owner[self.flow.labels.find(int(label))] = (number, unit)

    def __call__(self, value: str) -> dict[int, Place]:
        """Return {number of a group: its place at this value}."""
        track = self.flow.values.get(value)
        if not isinstance(track, Track) or not track.dim:  # along the samples no channel lies
            return {}
        owners = [self.owner.get(root, (-1, -1)) for root in self.flow.labels.roots(track.labels).tolist()]
        table = np.array(owners).reshape(-1, 2)
        numbers = sorted({*table[:, 0].tolist()} - {-1})
        return {
            n: Place(value, track.dim, torch.from_numpy(np.where(table[:, 0] == n, table[:, 1], -1))) for n in numbers
        }
