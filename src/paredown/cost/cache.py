"""Traffic between DRAM and a cache, counted by running a loop nest's accesses through it.

For the argument that order of work, not work, decides what memory costs: a blocked matrix product moves about 2 N³ ÷ √M
values through a cache of M (Hong and Kung 1981; I/O complexity), and two convolutions done together never move what lies
between them.
"""

import itertools
import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Access = tuple[str, int, Literal["read", "add", "drop"]]
"""Tensor, place in it, and what is done: read it, add to it (made here the first time), or never need it again."""


@dataclass(frozen=True)
class Traffic:
    """Values read from DRAM and written back to it."""

    reads: int
    writes: int

    @property
    def total(self) -> int:
        """Both directions."""
        return self.reads + self.writes


def traffic(accesses: Iterable[Access], words: int) -> Traffic:
    """Return what a fully associative cache of `words` values with least-recent replacement moves.

    A value first met by an addition is made here and costs no read; what was added to goes back when it leaves, or at the
    end, unless it was dropped.
    """
    held: OrderedDict[tuple[str, int], bool] = OrderedDict()
    gone: set[tuple[str, int]] = set()
    reads = writes = 0
    for tensor, place, action in accesses:
        key = tensor, place
        dirty = held.pop(key, None)
        if action == "drop":
            continue
        reads += dirty is None and (action == "read" or key in gone)
        held[key] = bool(dirty) or action == "add"
        if len(held) > words:
            left, was_dirty = held.popitem(last=False)
            writes += was_dirty
            gone.add(left)
    return Traffic(reads, writes + sum(held.values()))


def product(n: int, block: int) -> Iterator[Access]:
    """Yield the accesses of C = A B for n × n matrices, C in blocks, each made by outer products.

    A block of C stays while a column piece of A and a row piece of B pass by. Plain loops: block 1.
    """
    for i0 in range(0, n, block):
        for j0 in range(0, n, block):
            rows, columns = range(i0, min(i0 + block, n)), range(j0, min(j0 + block, n))
            for k in range(n):
                for i in rows:
                    for j in columns:
                        yield "a", i * n + k, "read"
                        yield "b", k * n + j, "read"
                        yield "c", i * n + j, "add"


def product_bound(n: int, words: int) -> float:
    """Return 2 n³ ÷ √words: what a product of n × n matrices moves when the cache is used well, to first order."""
    return 2 * n**3 / math.sqrt(words)


def block_for(words: int) -> int:
    """Return the largest block whose C and two columns of A and rows of B fit, this one's and the last: b² + 4 b ≤ words.

    >>> block_for(96), block_for(95)
    (8, 7)
    """
    return max(1, math.isqrt(words + 4) - 2)


@dataclass(frozen=True)
class Pair:
    """Two convolutions with a k × k kernel each, one after the other on a side × side map, same channels, no padding."""

    side: int
    channels: int
    kernel: int = 3

    @property
    def middle(self) -> int:
        """Side of the map between the two."""
        return self.side - self.kernel + 1

    def layerwise(self) -> Iterator[Access]:
        """Yield the accesses when the first is finished before the second begins."""
        for row in range(self.middle):
            yield from self._row("in", "middle", row, self.side)
        for row in range(self.middle - self.kernel + 1):
            yield from self._second(row)

    def fused(self) -> Iterator[Access]:
        """Yield the accesses when each row of the second is made as soon as the first has made what it needs."""
        for row in range(self.middle):
            yield from self._row("in", "middle", row, self.side)
            if row >= self.kernel - 1:
                yield from self._second(row - self.kernel + 1)

    def _second(self, row: int) -> Iterator[Access]:
        yield from self._row("middle", "out", row, self.middle)
        last = self.kernel if row == self.middle - self.kernel else 1
        for place in range(row * self.middle * self.channels, (row + last) * self.middle * self.channels):
            yield "middle", place, "drop"

    def _row(self, source: str, made: str, row: int, width: int) -> Iterator[Access]:
        out = width - self.kernel + 1
        window = range(self.kernel)
        for column in range(out):
            for filter_ in range(self.channels):
                for y, x, channel in itertools.product(window, window, range(self.channels)):
                    yield source, ((row + y) * width + column + x) * self.channels + channel, "read"
                yield made, (row * out + column) * self.channels + filter_, "add"
