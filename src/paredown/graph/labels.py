"""Channel labels: which channels must go together, which must stay, and along which dimension a value has them."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MOST_REASONS = 3
"""Reasons kept for one set of channels; the first ones found say enough."""


class Labels:
    """Disjoint sets of channel labels. Labels in one set are removed together; a frozen set is never removed."""

    def __init__(self) -> None:
        self._parent = np.empty(0, dtype=np.int64)
        self._why: dict[int, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._parent)

    def fresh(self, count: int) -> np.ndarray:
        """Return `count` new labels, each alone in its set."""
        start = len(self._parent)
        made = np.arange(start, start + count)
        self._parent = np.concatenate([self._parent, made])
        return made

    def find(self, label: int) -> int:
        """Return the label that stands for the set of `label`."""
        while self._parent[label] != label:
            label = int(self._parent[label])
        return int(label)

    def roots(self, labels: np.ndarray) -> np.ndarray:
        """Return what `find` gives for every entry of an integer array, in its shape."""
        found = self._parent[labels]
        while True:
            above = self._parent[found]
            if np.array_equal(above, found):
                self._parent[labels] = found
                return found
            found = above

    def tie(self, first: np.ndarray, second: np.ndarray) -> None:
        """Join the sets of the labels that stand at the same place in two arrays (they may broadcast)."""
        pairs = np.broadcast_arrays(self.roots(first), self.roots(second))
        low, high = np.minimum(*pairs).ravel(), np.maximum(*pairs).ravel()
        apart = low != high
        low, high = low[apart], high[apart]
        if not len(low):
            return
        self._parent[high] = low
        if (self._parent[high] == low).all() and (self._parent[low] == low).all():  # no label was to go two ways
            for label in self._why.keys() & set(high.tolist()) if self._why else ():
                self._explain(self.find(label), self._why.pop(label))
            return
        self._parent[high] = high
        for a, b in sorted({*zip(low.tolist(), high.tolist(), strict=True)}):
            self._join(self.find(a), self.find(b))

    def _join(self, a: int, b: int) -> None:
        if a == b:
            return
        low, high = min(a, b), max(a, b)
        self._parent[high] = low
        if high in self._why:
            self._explain(low, self._why.pop(high))

    def tie_all(self, labels: np.ndarray) -> None:
        """Join the sets of all entries."""
        self.tie(labels.ravel(), labels.ravel()[:1])

    def freeze(self, labels: np.ndarray, why: str) -> None:
        """Say that the sets of these labels must stay, and why."""
        for label in np.unique(self.roots(labels)).tolist():
            self._explain(label, (why,))

    def reasons(self, label: int) -> tuple[str, ...]:
        """Return why the set of `label` must stay; empty when it may go."""
        return self._why.get(self.find(label), ())

    def held(self, roots: np.ndarray) -> tuple[str, ...]:
        """Return the reasons of the first of these sets (given by what stands for them, sorted) that must stay."""
        first = min(self._why.keys() & set(roots.tolist()), default=None) if self._why else None
        return () if first is None else self._why[first]

    def _explain(self, root: int, why: tuple[str, ...]) -> None:
        self._why[root] = tuple(dict.fromkeys((*self._why.get(root, ()), *why)))[:MOST_REASONS]


@dataclass(frozen=True, eq=False)
class Track:
    """A value's shape at batch 1, the dimension that its channels lie along, and the label of each index there.

    `dim` None: every position has the one label in `labels`, and it is frozen.
    """

    shape: tuple[int, ...]
    dim: int | None
    labels: np.ndarray

    def reshaped(self, shape: tuple[int, ...], dim: int | None) -> "Track":
        """Return the same labels on another shape."""
        return Track(shape, dim, self.labels)

    def spread(self) -> Tensor:
        """Return the label of every position, as an integer tensor of the value's shape."""
        if self.dim is None:
            return torch.full(self.shape, int(self.labels[0]))
        sizes = [1] * len(self.shape)
        sizes[self.dim] = -1
        return torch.from_numpy(self.labels).view(sizes).expand(self.shape).contiguous()


def gathered(spread: Tensor, labels: Labels, heads: Iterable[tuple[int, int]] = ()) -> Track:
    """Return the Track whose positions have these labels, tying labels where whole slices could not be removed else.

    A set of positions can leave a dense tensor only as whole slices along one dimension. Where the labels do not lie
    that way (the view of a channel shuffle), the dimension is taken that leaves most sets after tying every slice;
    or that of the heads, where the shape has one of `heads`, (how many, their width).
    """
    roots = labels.roots(spread.numpy())
    shape = tuple(spread.shape)
    if roots.size == 0 or (roots.min() == roots.max() and labels.reasons(int(roots.flat[0]))):
        return Track(shape, None, roots.ravel()[:1] if roots.size else labels.fresh(1))
    for dim in _preferred(shape):
        rows = _slices(roots, dim)
        if (rows == rows[:, :1]).all():
            return Track(shape, dim, rows[:, 0].copy())
    found = _heads_at(shape, heads)
    slices = {dim: _slices(roots, dim) for dim in ((found,) if found is not None else _preferred(shape))}
    best = max(slices, key=lambda dim: _sets_left(labels, slices[dim]))
    for row in slices[best]:
        labels.tie_all(np.unique(row))
    return Track(shape, best, slices[best][:, 0].copy())


def _heads_at(shape: tuple[int, ...], heads: Iterable[tuple[int, int]]) -> int | None:
    """Return the last dimension as long as there are heads, with one as long as they are wide behind it."""
    for count, width in heads:
        for dim in range(len(shape) - 2, 0, -1):
            if shape[dim] == count and width in shape[dim + 1 :]:
                return dim
    return None


def _preferred(shape: tuple[int, ...]) -> Iterable[int]:
    return sorted(range(len(shape)), key=lambda dim: (dim == 0, shape[dim] == 1 and dim != 1, dim))


def _slices(roots: np.ndarray, dim: int) -> np.ndarray:
    return np.moveaxis(roots, dim, 0).reshape(roots.shape[dim], -1)


def _sets_left(labels: Labels, rows: np.ndarray) -> int:
    trial = copy.deepcopy(labels)
    for row in rows:
        trial.tie_all(np.unique(row))
    return sum(1 for root in {*trial.roots(np.unique(rows)).tolist()} if not trial.reasons(root))
