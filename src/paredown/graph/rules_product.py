"""Labels through products of two computed values: attention, and what else multiplies matrices that flow."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from paredown.graph.flow import Flow, rule
from paredown.graph.labels import Track
from paredown.graph.spec import Node, Value


def multiplied(flow: Flow, node: Node, first: Any, second: Any) -> Any:
    """Return what a matrix product [..., m, k] · [..., k, n] of two computed values makes.

    Channels along k are summed over, so they must go together; those along the matrices' common leading dimension (heads)
    too; those along m or n stay the result's.
    """
    a, b = flow.track(first), flow.track(second)
    if a is None or b is None or min(len(a.shape), len(b.shape)) < 2:
        return flow.stop(node, "multiplies values that cannot be followed")
    return _product(flow, node, a, b)


def _product(flow: Flow, node: Node, a: Track, b: Track) -> Track:
    made, at_a, at_b = flow.shapes[node.name], _from_end(a), _from_end(b)
    if at_a == -1 or at_b == -2:
        there = [(a, at_a == -1), (b, at_b == -2)]
        if _tied(flow, node, there):
            return flow.neutral(made)
        return _product(flow, node, *(flow.neutral(t.shape) if has else t for t, has in there))
    heads = [at for at in (at_a, at_b) if at is not None and at < -2]
    if heads:
        there = [(track, own == min(heads)) for track, own in ((a, at_a), (b, at_b))]
        if _tied(flow, node, [(track, has) for track, has in there if _size(track, min(heads)) > 1]):
            _hold_others(flow, node, there)
            flow.headed.append(next(track for track, has in there if has).labels)
            return Track(made, len(made) + min(heads), flow.headed[-1])
        return _product(flow, node, *(flow.neutral(t.shape) if has else t for t, has in there))
    if at_a == -2 and at_b == -1:
        flow.labels.freeze(b.labels, f"{node.op} at {node.name} crosses channels of two dimensions")
        at_b = None
    if at_a == -2 or at_b == -1:
        kept, at = (a, -2) if at_a == -2 else (b, -1)
        return Track(made, len(made) + at, kept.labels)
    return flow.neutral(made)


def _from_end(track: Track) -> int | None:
    return None if track.dim is None else track.dim - len(track.shape)


def _size(track: Track, at: int) -> int:
    return track.shape[at] if -at <= len(track.shape) else 1


def _tied(flow: Flow, node: Node, there: Sequence[tuple[Track, bool]]) -> bool:
    """Tie the labels of values that must shrink together; where one of them has none there, freeze them. Say which."""
    labels = [track.labels for track, has in there if has]
    if len(labels) == len(there) and len({len(own) for own in labels}) == 1:
        for own in labels[1:]:
            flow.labels.tie(labels[0], own)
        return True
    for own in labels:
        flow.labels.freeze(own, f"{node.op} at {node.name} multiplies it with what has no such channels")
    return False


def _hold_others(flow: Flow, node: Node, there: Sequence[tuple[Track, bool]]) -> None:
    """Freeze the channels that a value has along another dimension than the one that the result has them along."""
    for track, has in there:
        if not has and track.dim is not None:
            flow.labels.freeze(track.labels, f"{node.op} at {node.name} crosses channels of two dimensions")


@rule("bmm")
def _bmm(flow: Flow, node: Node) -> Any:
    return multiplied(flow, node, node.args["self"], node.args["mat2"])


@rule("scaled_dot_product_attention")
def _attention(flow: Flow, node: Node) -> Any:
    """Heads go with the heads of query, key and value; a query's width with the key's; a value's is the result's."""
    query, key, value = (flow.track(node.args[name]) for name in ("query", "key", "value"))
    if query is None or key is None or value is None or node.get("enable_gqa"):
        return flow.stop(node, "attends to what cannot be followed")
    if -2 in [_from_end(track) for track in (query, key, value)]:
        return flow.stop(node, "weighs positions along the channels")
    return _attended(flow, node, [query, key, value])


def _attended(flow: Flow, node: Node, tracks: list[Track]) -> Track:
    made, places = flow.shapes[node.name], [_from_end(track) for track in tracks]
    heads = [at for at in places if at is not None and at < -2]
    if heads:
        at = min(heads)
        there = [(track, own == at) for track, own in zip(tracks, places, strict=True)]
        wide = [(track, has) for track, has in there if _size(track, at) > 1]
        if _tied(flow, node, wide + _of_mask(flow, node, at)):
            _hold_others(flow, node, there)
            flow.headed.append(next(track for track, has in there if has).labels)
            return Track(made, len(made) + at, flow.headed[-1])
        return _attended(flow, node, [flow.neutral(track.shape) if has else track for track, has in there])
    if node.args.get("attn_mask") is not None:
        flow.hold(node.args["attn_mask"], f"{node.name} adds it to the weights of heads and positions that stay")
    if -1 in places[:2]:
        _tied(flow, node, [(track, at == -1) for track, at in zip(tracks[:2], places[:2], strict=True)])
    return Track(made, len(made) - 1, tracks[2].labels) if places[2] == -1 else flow.neutral(made)


def _of_mask(flow: Flow, node: Node, at: int) -> list[tuple[Track, bool]]:
    """Return the mask's channels along the heads, if it has any there."""
    mask = node.args.get("attn_mask")
    track = None if mask is None else flow.track(mask)
    if track is None or _size(track, at) == 1:
        return []
    return [(track, _from_end(track) == at)]


def width(flow: Flow, node: Node) -> np.ndarray | None:
    """Return the labels of a query's width, by which attention divides; None where they stay."""
    track = flow.values.get(node.args["query"]) if isinstance(node.args["query"], Value) else None
    return track.labels if isinstance(track, Track) and _from_end(track) == -1 else None
