"""Pictures resized by a cubic curve, and sampled on a grid, as plain loops over counted numbers."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cost.counted_numbers import Number, total

CURVE = -0.75
"""The slope of ATen's cubic curve."""


def near(t: Any) -> Any:
    """Return the cubic curve of a distance up to 1."""
    return (t * (CURVE + 2) - (CURVE + 3)) * t * t + 1


def far(t: Any) -> Any:
    """Return the cubic curve of a distance from 1 to 2."""
    return ((t * CURVE - 5 * CURVE) * t + 8 * CURVE) * t - 4 * CURVE


def bicubic(x: Any, into: tuple[int, int]) -> np.ndarray:
    """Return a picture resized with sixteen prepared weights for each place (corners not aligned)."""
    out = np.empty((*x.shape[:-2], *into), dtype=object)

    def taps(at: int, size: int, n: int) -> list[tuple[int, float]]:
        where = (at + 0.5) * size / n - 0.5
        low, rest = math.floor(where), where - math.floor(where)
        ready = (far(1 + rest), near(rest), near(1 - rest), far(2 - rest))
        return [(min(max(low + step, 0), size - 1), w) for step, w in zip((-1, 0, 1, 2), ready, strict=True)]

    for *lead, i, j in np.ndindex(*out.shape):
        rows, columns = taps(i, x.shape[-2], into[0]), taps(j, x.shape[-1], into[1])
        out[(*lead, i, j)] = total([x[(*lead, y, z)] * (p * q) for y, p in rows for z, q in columns])
    return out


def fold(size: int, align: bool) -> Callable[[float], float]:
    """Return the function that reflects a coordinate at the edges until it is inside."""
    low, span = (0.0, size - 1.0) if align else (-0.5, float(size))

    def folded(v: float) -> float:
        rest = abs(v - low) % (2 * span)
        return low + min(rest, 2 * span - rest)

    return folded


def pixel(at: int, size: int, edge: str, align: bool) -> int | None:
    """Return the pixel that a cubic tap reads; None outside of a picture with zeros around it."""
    if edge == "zeros":
        return at if 0 <= at < size else None
    at = round(fold(size, align)(at)) if edge == "reflection" else at
    return min(max(at, 0), size - 1)


def along(u: Any, size: int, mode: str, edge: str, align: bool) -> list[tuple[int | None, Any]]:
    """Return the pixels along one dimension that a coordinate from -1 to 1 reads, with their weights."""
    u = u * ((size - align) / 2) + (size - 1) / 2
    if mode == "bicubic":
        low = math.floor(u.value)
        rest = u - low
        weights = (far(rest + 1), near(rest), near(1 - rest), far(2 - rest))
        return [(pixel(low + n - 1, size, edge, align), w) for n, w in enumerate(weights)]
    u = u.function(fold(size, align)) if edge == "reflection" else u
    u = u if edge == "zeros" else u.largest(0).smallest(size - 1)
    if mode == "nearest":
        return [(pixel(round(u.value), size, "zeros", align), None)]
    low = math.floor(u.value)
    rest = u - low
    return [(pixel(low, size, "zeros", align), 1 - rest), (pixel(low + 1, size, "zeros", align), rest)]


def sampled(x: Any, grid: Any, mode: str = "bilinear", edge: str = "zeros", align: bool = False) -> np.ndarray:
    """Return a picture sampled at the places of a grid; what lies outside is multiplied as a zero."""
    count, channels, *sides = x.shape
    out = np.empty((count, channels, *grid.shape[1:3]), dtype=object)
    for n, i, j in itertools.product(range(count), *map(range, grid.shape[1:3])):
        rows, columns = (along(grid[n, i, j, d], sides[1 - d], mode, edge, align) for d in (1, 0))
        taps = [(y, z, None if p is None else p * q) for y, p in rows for z, q in columns]
        for c in range(channels):
            read = [(Number(0) if y is None or z is None else x[n, c, y, z], w) for y, z, w in taps]
            out[n, c, i, j] = read[0][0] if mode == "nearest" else total([v * w for v, w in read])
    return out
