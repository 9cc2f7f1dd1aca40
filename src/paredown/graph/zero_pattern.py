"""Where a weight's zeros lie: so many of every M inputs in a row, or whole tiles; seen from the weight alone. Needs no torch.

Which one pays is decided in `graph.code_length`; `methods.code.zeros` codes it.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, xlogy

LEAST = 256
"""Weights of fewer entries have no pattern."""
WIDEST = 32
"""The longest group."""
KERNEL = 64
"""The most places of a kernel that groups are counted for."""
SIDE, ACROSS = 64, 4096
"""The longest side of a tile, and the most tiles beside each other."""
_SIDES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 18, 20, 24, 25, 27, 32, 36, 48, 49, 64)
TELLING = 0.97
"""A pattern worth a closer look takes at most this share of what zeros take that lie anywhere."""
_SAMPLE = 1 << 14


@dataclass(frozen=True)
class Groups:
    """At most `n` of every `m` inputs in a row are not zero, for each output and each place of a kernel; n may be m."""

    n: int
    m: int


@dataclass(frozen=True)
class Tiles:
    """Tiles of `rows` outputs by `columns` of what an output sums over, in the order in which it is stored, are zero as a whole."""

    rows: int
    columns: int


Pattern = Groups | Tiles


@dataclass(frozen=True)
class Layout:
    """A weight's shape, and the pattern in which its zeros lie."""

    pattern: Pattern
    shape: tuple[int, ...]


def three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return a weight's outputs, inputs and places of a kernel."""
    return shape[0], shape[1], math.prod(shape[2:])


def allowed(pattern: Pattern, shape: tuple[int, ...]) -> bool:
    """Return whether a decoder follows this pattern in a weight of this shape."""
    _, inputs, kernel = three(shape)
    if isinstance(pattern, Groups):
        return 1 <= pattern.n <= pattern.m <= WIDEST and 1 <= kernel <= KERNEL
    inside = 1 <= pattern.rows <= SIDE and 1 <= pattern.columns <= SIDE
    return inside and -(-inputs * kernel // pattern.columns) <= ACROSS


def tiled(matrix: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return for each tile of a matrix of truth values whether one of it is true; the last ones may be smaller."""
    down = np.logical_or.reduceat(matrix, np.arange(0, matrix.shape[0], rows), 0)
    return np.logical_or.reduceat(down, np.arange(0, matrix.shape[1], columns), 1)


def counted(there: np.ndarray, m: int) -> np.ndarray:
    """Return how many are true of each `m` inputs in a row of [outputs, inputs, kernel]; the rest is left out."""
    whole = there.shape[1] // m * m
    return there[:, :whole].reshape(len(there), -1, m, there.shape[2]).sum(2)


def questions(there: np.ndarray, pattern: Pattern) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what a coder asks: the context of each question, its answer, and where it is left to ask "is it zero?" as ever.

    there: where a weight is not zero, of its shape. The last is flat, in C order.
    """
    outputs, inputs, kernel = three(there.shape)
    if isinstance(pattern, Tiles):
        flat = there.reshape(outputs, -1)
        any_of = tiled(flat, pattern.rows, pattern.columns)
        spread = any_of.repeat(pattern.rows, 0)[:outputs].repeat(pattern.columns, 1)[:, : flat.shape[1]]
        return np.zeros(any_of.size, dtype=np.int64), any_of.ravel(), spread.ravel()
    whole = inputs // pattern.m * pattern.m
    parts = there.reshape(outputs, inputs, kernel)
    grouped = parts[:, :whole].reshape(outputs, -1, pattern.m, kernel)
    rest = pattern.n - (np.cumsum(grouped, 2, dtype=np.int64) - grouped)
    left = np.arange(pattern.m, 0, -1)[None, None, :, None]
    free = np.zeros(parts.shape, dtype=bool)
    free[:, whole:] = True
    return ((left - 1) * WIDEST + rest - 1)[rest > 0], grouped[rest > 0], free.ravel()


def candidates(there: np.ndarray) -> list[Pattern]:
    """Return the groups and the tiles that tell most of where a weight is not zero, by its first rows and columns.

    None that tell next to nothing.
    """
    outputs, inputs, kernel = three(there.shape)
    if not kernel:
        return []
    parts = there.reshape(outputs, inputs, kernel)
    wide = max(1, min(inputs, ACROSS // kernel))
    sample = parts[: max(SIDE, _SAMPLE // (wide * kernel)), :wide]
    enough = TELLING * _even(int(np.count_nonzero(sample)), sample.size)
    found: list[Pattern] = []
    tile, bits = _tile(sample.reshape(len(sample), -1))
    if bits < enough and allowed(tile, there.shape):
        found.append(tile)
    if kernel <= KERNEL and wide > 1:
        bits, m = min((_group_bits(sample, m), m) for m in range(2, min(WIDEST, wide) + 1))
        groups = Groups(int(counted(parts, m).max()), m)
        if bits < enough and allowed(groups, there.shape):  # what is not zero may all lie behind the last whole group
            found.append(groups)
    return found


def _tile(sample: np.ndarray) -> tuple[Tiles, float]:
    """Return the tile that tells most: of the best three heights of single columns, and widths of single rows."""
    across = {rows: tiled(sample, rows, 1) for rows in _SIDES if rows <= 2 * len(sample)}
    high = sorted(across, key=lambda rows: _tile_bits(across[rows], 1, sample))[:3]
    wide = sorted(_SIDES, key=lambda columns: _tile_bits(sample, columns, sample))[:3]
    named = (
        (_tile_bits(across[rows], columns, sample), Tiles(rows, columns))
        for rows in {1, *high}
        for columns in {1, *wide}
    )
    bits, tile = min((one for one in named if one[1] != Tiles(1, 1)), key=lambda one: one[0])
    return tile, bits


def _even(ones: float, total: float) -> float:
    """Return the bits of so many ones among so many in any order."""
    return float(xlogy(total, total) - xlogy(ones, ones) - xlogy(total - ones, total - ones)) / math.log(2)


def _tile_bits(across: np.ndarray, columns: int, sample: np.ndarray) -> float:
    """Return the bits of which tiles are zero, and of zeros in the others."""
    any_of = np.logical_or.reduceat(across, np.arange(0, across.shape[1], columns), 1)
    inside = min(sample.size, any_of.mean() * sample.size)
    ones = int(np.count_nonzero(sample))
    return _even(int(np.count_nonzero(any_of)), any_of.size) + _even(ones, max(inside, ones))


def _group_bits(parts: np.ndarray, m: int) -> float:
    """Return the bits of the groups' numbers and of which they are."""
    counts = counted(parts, m).ravel()
    often = np.bincount(counts, minlength=m + 1)
    which = gammaln(m + 1) - gammaln(np.arange(m + 1) + 1) - gammaln(m - np.arange(m + 1) + 1)
    bits = float((often * which).sum() + xlogy(counts.size, counts.size) - xlogy(often, often).sum()) / math.log(2)
    beyond = parts[:, parts.shape[1] // m * m :]
    return bits + _even(int(np.count_nonzero(beyond)), beyond.size)
