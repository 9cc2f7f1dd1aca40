"""Rewrite the sizes that stand in a network's nodes, for the channels that go."""

from collections.abc import Callable
from typing import Any

import numpy as np

from paredown.graph.flow import Flow
from paredown.graph.labels import Track
from paredown.graph.ops import CONVOLUTIONS
from paredown.graph.rules_move import padding
from paredown.graph.rules_product import width
from paredown.graph.spec import Node, Spec


class Kept:
    """Which channels of every value and stored dimension stay, once the sets `gone` are removed."""

    def __init__(self, flow: Flow, gone: set[int]) -> None:
        self.flow = flow
        self._stays = np.ones(len(flow.labels), dtype=bool)
        self._stays[sorted(gone)] = False

    def mask(self, labels: np.ndarray) -> np.ndarray:
        """Return True for every label that stays."""
        return np.asarray(self._stays[self.flow.labels.roots(labels)])

    def count(self, track: Track) -> int:
        """Return how many channels of a value stay."""
        return int(self.mask(track.labels).sum())

    def track(self, node: Node, name: str = "self") -> Track | None:
        """Return the Track of the value that a node reads as `name`, if it has a channel dimension."""
        leaf = node.args.get(name)
        track = self.flow.values.get(leaf) if isinstance(leaf, str) else None
        return track if isinstance(track, Track) and track.dim is not None else None

    def groups(self, labels: np.ndarray, groups: int) -> int:
        """Return how many of the equal parts of a value's channels keep any."""
        return int(self.mask(labels).reshape(groups, -1).any(axis=1).sum())


def resized(flow: Flow, gone: set[int]) -> Spec:
    """Return the network's spec with every size changed to what remains. Raises ValueError where nothing would."""
    kept = Kept(flow, gone)
    for name, made in flow.values.items():
        for track in made if isinstance(made, tuple) else (made,):
            if isinstance(track, Track) and kept.count(track) == 0:
                raise ValueError(f"{name} would have no channels left")
    spec = flow.net.spec
    nodes = tuple(_RESIZERS[node.op](kept, node) if node.op in _RESIZERS else node for node in spec.nodes)
    return Spec(spec.inputs, nodes, spec.output)


def _sized(kept: Kept, node: Node) -> Node:
    """Put the new count into the sizes of view, reshape, expand or unflatten."""
    made = kept.flow.values[node.name]
    if not isinstance(made, Track) or made.dim is None:
        return node
    arg = next(name for name in ("size", "shape", "sizes") if name in node.args)
    before = kept.flow.values[node.args["self"]] if node.op == "unflatten.int" else None
    at = made.dim - (node.args["dim"] % len(before.shape) if isinstance(before, Track) else 0)
    sizes = list(node.args[arg])
    if 0 <= at < len(sizes) and type(sizes[at]) is int and sizes[at] >= 0:
        sizes[at] = kept.count(made)
    return node.with_args(**{arg: sizes})


def _split(kept: Kept, node: Node) -> Node:
    track, pieces = kept.track(node), kept.flow.values[node.name]
    dim = node.args.get("dim", 0) % len(track.shape) if track else 0
    if track is None or track.dim != dim:
        return node
    sizes = [kept.count(piece) if piece.dim is not None else piece.shape[dim] for piece in pieces]
    return Node(node.name, "split_with_sizes", {"self": node.args["self"], "split_sizes": sizes, "dim": dim})


def _cut(kept: Kept, node: Node) -> Node:
    track, dim = kept.track(node), node.args.get("dim", 0)
    if track is None or track.dim != dim % len(track.shape):
        return node
    mask, size = kept.mask(track.labels), len(track.labels)
    start = node.args.get("start") or 0
    start = min(start + size if start < 0 else start, size)
    end = node.args.get("end")
    end = start + node.args["length"] if node.op == "narrow" else size if end is None else end
    end = min(end + size if end < 0 else end, size)
    new, length = int(mask[:start].sum()), int(mask[start:end].sum())
    sizes = {"length": length} if node.op == "narrow" else {"end": new + length}
    return node.with_args(start=new, **sizes)


def _regrouped(arg: str, reads: str, channel: Callable[[Kept, Node], int]) -> Callable[[Kept, Node], Node]:
    """Return a resizer for an operator that works on `arg` equal parts of the channels of the value it `reads`."""

    def resize(kept: Kept, node: Node) -> Node:
        track = kept.track(node, reads)
        if track is None or node.get(arg) == 1 or track.dim != channel(kept, node):
            return node
        return node.with_args(**{arg: kept.groups(track.labels, node.get(arg))})

    return resize


def _pad(kept: Kept, node: Node) -> Node:
    track, made = kept.track(node), kept.flow.values[node.name]
    before, after = padding(node, track)
    if track is None or before + after == 0:
        return node
    mask, amounts = kept.mask(made.labels), list(node.args["pad"])
    at = 2 * (len(track.shape) - 1 - made.dim)
    amounts[at], amounts[at + 1] = int(mask[:before].sum()), int(mask[len(mask) - after :].sum())
    return node.with_args(pad=amounts)


def _normalized(kept: Kept, node: Node) -> Node:
    track, shape = kept.track(node, "input"), list(node.args["normalized_shape"])
    at = -1 if track is None or track.dim is None else track.dim - len(track.shape) + len(shape)
    if track is None or at < 0:
        return node
    shape[at] = kept.count(track)
    return node.with_args(normalized_shape=shape)


def _attention(kept: Kept, node: Node) -> Node:
    """Keep the scale that attention had, 1 / sqrt of the query's width, when that width shrinks."""
    labels = width(kept.flow, node)
    if labels is None or node.get("scale") is not None or kept.mask(labels).all():
        return node
    return node.with_args(scale=len(labels) ** -0.5)


def _zeros(kept: Kept, node: Node) -> Node:
    if node.name not in kept.flow.fillers:
        return node
    dim, labels = kept.flow.fillers[node.name]
    size = list(node.args["size"])
    size[dim] = int(kept.mask(labels).sum())
    return node.with_args(size=size)


def _kernel_channel(kept: Kept, node: Node) -> int:
    return len(kept.flow.shapes[node.name]) - (len(kept.flow.slot_shape(str(node.slot("weight")))) - 1)


_RESIZERS: dict[str, Callable[[Kept, Node], Any]] = {
    **dict.fromkeys(("view", "reshape", "expand", "unflatten.int"), _sized),
    **dict.fromkeys(("split.Tensor", "split_with_sizes", "chunk"), _split),
    **dict.fromkeys(("narrow", "slice.Tensor"), _cut),
    **dict.fromkeys(CONVOLUTIONS, _regrouped("groups", "input", _kernel_channel)),
    "group_norm": _regrouped("num_groups", "input", lambda kept, node: 1),
    "channel_shuffle": _regrouped("groups", "self", lambda kept, node: 1),
    "pad": _pad,
    **dict.fromkeys(("layer_norm", "rms_norm"), _normalized),
    "scaled_dot_product_attention": _attention,
    "zeros": _zeros,
}
