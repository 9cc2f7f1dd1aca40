"""Layers that follow each other with nothing between but what scaling a channel by a positive number passes through."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.slots import Free, Masked
from paredown.graph.spec import Node, Slot, Spec, Value, references

MOVES = frozenset({"flatten.using_ints", "view", "reshape", "dropout", "feature_dropout", "contiguous", "clone"})
SCALES = frozenset({"relu", "leaky_relu", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "mean.dim"}) | MOVES
"""Operators with f(s · x) = s · f(x) for each channel's s > 0, as far as they keep channels apart."""


@dataclass(frozen=True)
class Pair:
    """`reader` alone reads what `maker` makes, through the operators `between`. Each channel is `repeat` inputs in a row."""

    maker: Node
    reader: Node
    between: tuple[Node, ...]
    repeat: int

    @property
    def groups(self) -> int:
        """How many groups the reader's weight is in."""
        return int(self.reader.args.get("groups", 1))

    def weights(self) -> tuple[str, str]:
        """Return the slots' names of the maker's and the reader's weight."""
        return str(self.maker.args["weight"]), str(self.reader.args["weight"])


def pairs(net: Net) -> tuple[list[Pair], dict[str, str]]:
    """Return (the pairs in order, {weight: why it is the maker of none})."""
    found: list[Pair] = []
    why: dict[str, str] = {}
    for node in net.spec.nodes:
        if node.op not in WEIGHTED:
            continue
        reached = _follow(net, node)
        if isinstance(reached, Pair):
            found.append(reached)
        else:
            why[str(node.slot("weight") or node.name)] = reached
    return found, why


def by_inputs(weight: Tensor, pair: Pair) -> Tensor:
    """Return a view of the reader's weight as [groups, out / group, channels of the maker in the group, entries of each]."""
    groups = pair.groups
    return weight.view(groups, weight.shape[0] // groups, weight.shape[1] // pair.repeat, -1)


def own_bias_(net: Net, node: Node) -> str:
    """Return the slot of the node's bias, which is made of zeros, in place, where there is none."""
    slot = node.slot("bias")
    if slot is None:
        weight = str(node.args["weight"])
        slot = Slot(weight.removesuffix("weight") + "bias")
        while slot in net.slot_names():
            slot = Slot(slot + "_")
        channel = 1 if "transpose" in node.op else 0
        held = net.slot(weight)()
        net.set_slot(slot, Free(torch.zeros(held.shape[channel], device=held.device, dtype=torch.float32)))
        nodes = tuple(n.with_args(bias=slot) if n.name == node.name else n for n in net.spec.nodes)
        net.rewire(Spec(net.spec.inputs, nodes, net.spec.output))
    return str(slot)


def _follow(net: Net, maker: Node) -> Pair | str:
    """Return the pair that a layer makes, or why it makes none."""
    shapes = net.shapes()
    if reason := _unfit(net, maker):
        return reason
    channels, at = shapes[maker.name][1], maker
    between: list[Node] = []
    while True:
        users = net.spec.users(at.name)
        if len(users) != 1 or Value(at.name) in set(references(net.spec.output)):
            return "what it makes is not read by one layer alone"
        at = users[0]
        if at.op in WEIGHTED and at.args.get("input") == (between[-1] if between else maker).name:
            break
        if at.op not in SCALES or not _apart(at, shapes, channels):
            hint = "; fold batch norms first" if at.op == "batch_norm" else ""
            return f"{at.op} follows it, which does not pass a scale{hint}"
        between.append(at)
    if reason := _unfit(net, at):
        return f"the layer after it cannot take part: {reason}"
    inputs = shapes[(between[-1] if between else maker).name][1]
    return Pair(maker, at, tuple(between), inputs // channels)


def _unfit(net: Net, node: Node) -> str:
    """Return why a layer's weight and bias cannot be rescaled by channel, or nothing."""
    if "transpose" in node.op or (node.op == "linear" and len(net.shapes()[node.name]) != 2):
        return f"the channels of {node.op} are elsewhere"
    users = net.spec.slot_users()
    for argument in ("weight", "bias"):
        name = node.slot(argument)
        if node.args.get(argument) is None:
            continue
        if name is None or len(users[name]) > 1 or not isinstance(net.slot(name), Free | Masked):
            return f"its {argument} is computed, shared or held as integers"
    return ""


def _apart(node: Node, shapes: dict[str, tuple[int, ...]], channels: int) -> bool:
    """Return whether channels stay apart and in order: they are dimension 1, or flattened with all that follows."""
    before, after = shapes[node.values()[0]], shapes.get(node.name, ())
    if node.op == "mean.dim":
        return all(d % len(before) >= 2 for d in node.args["dim"])
    if node.op in MOVES and after != before:
        return len(after) == 2 and after[1] % channels == 0
    return len(after) > 1 and after[1] == before[1]
