"""Zeros that lie by a pattern, under the range coder: groups of inputs in a row with so many others, or whole tiles. Needs no torch.

`kernels/c/pdn_coder.h` does the same in C.
"""

from typing import Protocol

import numpy as np

from paredown.graph.zero_pattern import WIDEST, Groups, Layout, Tiles, three, tiled
from paredown.methods.code.range_coder import Coder, context


class Zeros(Protocol):
    """Follows a weight's entries in C order."""

    def told(self, coder: Coder, there: bool | None = None) -> bool | None:
        """Write or read what is said of the next entry: whether it is not zero, or None where nothing is said of it."""


def zeros(layout: Layout, values: np.ndarray | None = None) -> Zeros:
    """Return what follows the pattern through a weight; for writing, one of these values."""
    if isinstance(layout.pattern, Groups):
        return _Grouped(layout.pattern, layout.shape)
    return _Tiled(layout.pattern, layout.shape, values)


class _Grouped:
    """A group with n left of m places has log2 of the ways to choose them to tell, if all are as likely: a context learns it."""

    def __init__(self, pattern: Groups, shape: tuple[int, ...]) -> None:
        self.n, self.m = pattern.n, pattern.m
        _, self.inputs, self.kernel = three(shape)
        self.whole = self.inputs // self.m * self.m
        self.contexts = [context() for _ in range(WIDEST * WIDEST)]
        self.used = [0] * self.kernel
        self.input = self.within = self.place = 0

    def told(self, coder: Coder, there: bool | None = None) -> bool | None:
        """Write or read whether the next entry is not zero: zero is known where the group has all that it may have."""
        found: bool | None = None
        if self.input < self.whole:
            left, rest = self.m - self.within, self.n - self.used[self.place]
            asked = self.contexts[(left - 1) * WIDEST + rest - 1]
            found = bool(coder.bit(asked, None if there is None else int(there))) if rest else False
            self.used[self.place] += found
        self._step()
        return found

    def _step(self) -> None:
        self.place += 1
        if self.place < self.kernel:
            return
        self.place = 0
        self.input, self.within = (self.input + 1) % self.inputs, self.within + 1
        if self.within == self.m or self.input == 0:
            self.within = 0
            self.used = [0] * self.kernel


class _Tiled:
    """A tile's first entry says whether it is zero as a whole; nothing is said of the entries of the others."""

    def __init__(self, pattern: Tiles, shape: tuple[int, ...], values: np.ndarray | None = None) -> None:
        outputs, inputs, kernel = three(shape)
        self.rows, self.columns, self.inner = pattern.rows, pattern.columns, inputs * kernel
        self.context = context()
        self.there = [False] * -(-self.inner // self.columns)
        self.given = None
        if values is not None:
            self.given = tiled(values.reshape(outputs, -1) != 0, self.rows, self.columns).ravel().tolist()
        self.row = self.column = self.asked = 0

    def told(self, coder: Coder, there: bool | None = None) -> bool | None:
        """Write or read what is said of the next entry: that it is zero, or nothing."""
        tile = self.column // self.columns
        if self.row == 0 and self.column % self.columns == 0:
            given = None if self.given is None else int(self.given[self.asked])
            self.there[tile] = bool(coder.bit(self.context, given))
            self.asked += 1
        self.column += 1
        if self.column == self.inner:
            self.column, self.row = 0, (self.row + 1) % self.rows
        return None if self.there[tile] else False
