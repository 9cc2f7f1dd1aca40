"""Labels through operators that move, cut, join or repeat positions."""

from typing import Any

import torch

from paredown.graph.flow import Axes, Flow, rule
from paredown.graph.labels import Track, gathered
from paredown.graph.spec import Node

MOVES = (
    "flatten.using_ints", "view", "reshape", "contiguous", "clone", "alias", "detach", "cat", "stack", "split.Tensor",
    "split_with_sizes", "chunk", "expand", "squeeze", "squeeze.dim", "squeeze.dims", "unsqueeze", "unflatten.int",
    "repeat", "pixel_shuffle", "pixel_unshuffle",
)  # fmt: skip


@rule(*MOVES)
def _moved(flow: Flow, node: Node) -> Any:
    return flow.moved(node)


@rule("permute", "transpose.int", "t")
def _turned(flow: Flow, node: Node) -> Any:
    weight = flow.matrix(node.args["self"])
    if weight is None:
        return flow.moved(node)
    order = list(range(len(weight.keys)))
    if node.op == "permute":
        order = [d % len(order) for d in node.args["dims"]]
    else:
        a, b = (node.args["dim0"], node.args["dim1"]) if node.op == "transpose.int" else (0, len(order) - 1)
        order[a], order[b] = order[b], order[a]
    return Axes(tuple(weight.keys[d] for d in order))


@rule("narrow", "slice.Tensor")
def _cut(flow: Flow, node: Node) -> Any:
    track = flow.track(node.args["self"])
    places = [node.args.get(name) for name in ("start", "end", "length", "step")]
    if track is None or not all(place is None or isinstance(place, int) for place in places):
        return flow.stop(node, "cuts at a computed place")
    dim = node.args.get("dim", 0) % len(track.shape)
    if dim == track.dim and node.args.get("step", 1) != 1:
        return flow.stop(node, "takes every few channels")
    return flow.moved(node)


@rule("select.int", "unbind.int")
def _chosen(flow: Flow, node: Node) -> Any:
    track = flow.track(node.args["self"])
    dim = node.args.get("dim", 0)
    if track is not None and track.dim == dim % len(track.shape):
        flow.labels.freeze(track.labels, f"{node.op} at {node.name} takes channels by number")
    return flow.moved(node)


@rule("roll")
def _rolled(flow: Flow, node: Node) -> Any:
    track = flow.track(node.args["self"])
    dims = node.args.get("dims", [])
    if track is None or not dims or track.dim in {d % len(track.shape) for d in dims}:
        return flow.stop(node, "rolls the channels")
    return track


@rule("channel_shuffle")
def _shuffled(flow: Flow, node: Node) -> Any:
    track, groups = flow.track(node.args["self"]), node.args["groups"]
    if track is None or track.dim not in (1, None):
        return flow.stop(node, "shuffles along another dimension")
    if track.dim is None:
        return track
    split = gathered(torch.from_numpy(track.labels).view(1, groups, -1), flow.labels).spread()
    return Track(track.shape, 1, split.transpose(1, 2).reshape(-1).numpy())


@rule("pad")
def _padded(flow: Flow, node: Node) -> Any:
    track, made = flow.track(node.args["self"]), flow.shapes[node.name]
    before, after = padding(node, track)
    if track is None or min(before, after) < 0 or (before + after and node.get("mode") != "constant"):
        return flow.stop(node, "pads the channels")
    if before + after == 0:
        return track.reshaped(made, track.dim)
    left, right = flow.labels.fresh(before), flow.labels.fresh(after)
    joined = [torch.from_numpy(part) for part in (left, track.labels, right)]
    return Track(made, track.dim, torch.cat(joined).numpy())


def padding(node: Node, track: Track | None) -> tuple[int, int]:
    """Return how many positions a pad node adds before and after the channels of `track`."""
    amounts = node.args["pad"]
    if track is None or track.dim is None:
        return 0, 0
    at = 2 * (len(track.shape) - 1 - track.dim)
    return (amounts[at], amounts[at + 1]) if at < len(amounts) else (0, 0)


@rule("grid_sampler")
def _sampled(flow: Flow, node: Node) -> Any:
    """Channels pass from the picture; the grid's last dimension holds coordinates, which stay."""
    flow.hold(node.args["grid"], f"{node.op} at {node.name} reads places from it")
    track = flow.track(node.args["input"])
    if track is None or track.dim not in (1, None):
        return flow.stop(node, "samples along the channels")
    return track.reshaped(flow.shapes[node.name], track.dim)


@rule("sym_size.int")
def _size(flow: Flow, node: Node) -> Any:
    track = flow.track(node.args["self"])
    return None if track is None else track.shape[node.args["dim"]]


@rule("getitem")
def _item(flow: Flow, node: Node) -> Any:
    found = flow.values[node.args["self"]]
    return found[node.args["index"]] if isinstance(found, tuple) else flow.stop(node, "is part of an unfollowed value")
