"""Where channels go in an operator that has no rule: each is marked in turn, and one looks where the marks arrive.

A value's channels are numbered, and for each binary digit those with a one are drawn afresh, then those with a zero: a
position of the result that changes in neither has no channel of that value; one that changes in one of them has that digit;
one that changes in both mixes channels, and then the operator cannot be followed.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paredown.graph.flow import Flow, operator_of
from paredown.graph.labels import Track, gathered
from paredown.graph.spec import Node, Slot, Value, mapped, references

Draw = Callable[[int], dict[Any, Tensor]]
"""Random inputs of a node, by a seed."""

LEAST, MOST_DRAWS = 36, 100
"""How often each channel is drawn afresh, at least, and how often the inputs are, at most: a position may keep its value by
chance, as behind a threshold."""

MOST = 2**22
"""The most entries of an input that is probed."""


def probed(flow: Flow, node: Node) -> Any:
    """Return the Track (or a tuple of them) of what a node makes, found by marking channels; None where they mix.

    Labels of several inputs that arrive at the same place are tied.
    """
    leaves = list(dict.fromkeys(references(list(node.args.values()))))
    known = {leaf: flow.track(leaf) for leaf in leaves}
    tracks = {leaf: track for leaf, track in known.items() if track is not None and math.prod(track.shape) <= MOST}
    if len(tracks) < len(known):
        return None
    types = flow.types()
    marked = [leaf for leaf in leaves if tracks[leaf].dim is not None]
    arrivals: dict[Value | Slot, list[np.ndarray]] = {}
    try:
        for leaf in marked:
            found = _arrivals(node, partial(_drawn, tracks, types), (leaf, tracks[leaf]))
            if found is None:
                return None
            arrivals[leaf] = found
        shapes = [tuple(out.shape) for out in _run(node, _drawn(tracks, types, 0))]
    except (RuntimeError, TypeError, IndexError):
        return None
    made = tuple(_joined(flow, tracks, arrivals, at, shape) for at, shape in enumerate(shapes))
    return made if len(made) > 1 else made[0]


def _joined(flow: Flow, tracks: Any, arrivals: Any, at: int, shape: tuple[int, ...]) -> Track:
    """Return the labels of one result: those of the channels that arrive, tied where two do; fixed where none does."""
    spread = np.full(shape, -1)
    for leaf, found in arrivals.items():
        labels = tracks[leaf].labels[found[at].clip(0)]
        both = (found[at] >= 0) & (spread >= 0)
        flow.labels.tie(spread[both], labels[both])
        spread = np.where((found[at] >= 0) & (spread < 0), labels, spread)
    if (spread < 0).any():
        none = flow.neutral(()).labels
        spread = np.where(spread < 0, none[0], spread)
    return gathered(torch.from_numpy(spread), flow.labels)


def _arrivals(node: Node, drawn: Draw, marked: tuple[Value | Slot, Track]) -> list[np.ndarray] | None:
    """Return, for each result, the channel of a value that each position depends on (−1: none); None where they mix."""
    leaf, track = marked
    assert track.dim is not None
    count = track.shape[track.dim]
    digits = max(1, (count - 1).bit_length())
    hit: list[Tensor] = []  # for each result: whether it changed, by (drawn with a one or a zero, digit, position)
    for draw in range(MOST_DRAWS):
        inputs = drawn(draw)
        before = _run(node, inputs)
        if not hit:
            hit = [torch.zeros((2, digits, *out.shape), dtype=torch.bool) for out in before]
        for digit, one in itertools.product(range(digits), (0, 1)):
            chosen = torch.tensor([(c >> digit & 1) == one for c in range(count)])
            after = _run(node, {**inputs, leaf: _redrawn(inputs[leaf], track.dim, chosen, draw)})
            for seen, a, b in zip(hit, before, after, strict=True):
                seen[one, digit] |= (a != b) & ~(a.isnan() & b.isnan())
        if any(seen.all(0).any() for seen in hit):
            return None
        if (draw + 1) * digits >= LEAST and all(_decided(seen) for seen in hit):
            return [_numbers(seen).numpy() for seen in hit]
    return None


def _decided(seen: Tensor) -> bool:
    """Return whether each position changed never, or once for every digit."""
    each = seen.any(0)
    return bool((each.all(0) | ~each.any(0)).all())


def _numbers(seen: Tensor) -> Tensor:
    """Return the channel of each position by its digits; −1 for a position that never changed."""
    number = torch.zeros(seen.shape[2:], dtype=torch.long)
    for digit in range(seen.shape[1]):
        number += seen[1, digit].long() << digit
    return torch.where(seen.flatten(0, 1).any(0), number, -1)


def _drawn(tracks: Mapping[Any, Track], types: Mapping[str, torch.dtype], seed: int) -> dict[Any, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    values = {leaf: torch.randn(track.shape, generator=draw, dtype=torch.float64) for leaf, track in tracks.items()}
    return {leaf: value > 0 if types.get(str(leaf)) == torch.bool else value for leaf, value in values.items()}


def _redrawn(value: Tensor, dim: int, chosen: Tensor, seed: int) -> Tensor:
    """Return a value with the chosen channels drawn afresh, far enough to pass thresholds; true and false exchanged."""
    fresh = 3 * torch.randn(value.shape, generator=torch.Generator().manual_seed(100 + seed), dtype=torch.float64)
    shape = [-1 if d == dim else 1 for d in range(value.dim())]
    return torch.where(chosen.view(shape), ~value if value.dtype == torch.bool else fresh, value)


def _run(node: Node, inputs: dict[Value | Slot, Tensor]) -> list[Tensor]:
    """Return the tensors that the node makes of these inputs."""
    made = operator_of(node)(**{k: mapped(v, lambda leaf: _fetched(leaf, inputs)) for k, v in node.args.items()})
    return list(_tensors(made))


def _fetched(leaf: Any, inputs: dict[Value | Slot, Tensor]) -> Any:
    return inputs[leaf] if isinstance(leaf, Value | Slot) else leaf


def _tensors(made: Any) -> Iterator[Tensor]:
    for one in made if isinstance(made, list | tuple) else (made,):
        yield one.double() if not one.is_floating_point() else one
