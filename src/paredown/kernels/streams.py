"""The streams of packed files in C, and a whole file read by the portable decoder (c/pdn.h). Needs no torch."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from paredown.core.errors import Damaged
from paredown.graph.zero_pattern import Groups, Layout, three
from paredown.kernels.library import address, built, library

__all__ = ["built", "read_indices", "read_levels", "write_indices", "write_levels"]

WIDEST = 1 << 20
"""Levels beyond this have no stream."""


class _Layout(ctypes.Structure):
    """`pdn_layout`: where zeros lie by a pattern."""

    _fields_ = [(name, ctypes.c_uint32) for name in ("tiles", "n", "m", "inputs", "kernel")]


def _told(layout: Layout | None) -> Any:
    if layout is None:
        return None
    pattern = layout.pattern
    sides = (0, pattern.n, pattern.m) if isinstance(pattern, Groups) else (1, pattern.rows, pattern.columns)
    return ctypes.byref(_Layout(*sides, *three(layout.shape)[1:]))


def write_levels(
    values: np.ndarray, which: Sequence[int], models: int, fine: bool, trellis: bool, layout: Layout | None = None
) -> bytes:
    """Return the stream of `values`, [rows, size], each row under the model `which[row]` of so many `models`.

    layout: of a single row that is a whole weight, where its zeros lie by a pattern.
    """
    values, own = np.ascontiguousarray(values, dtype=np.int32), np.array(which, dtype=np.int64)
    if values.size and np.abs(values).max() >= WIDEST:
        raise ValueError(f"levels of {np.abs(values).max()} have no stream")
    out = np.empty(64 + 6 * values.size, dtype=np.uint8)
    size = library().pdn_encode_levels(
        address(values), address(own), *values.shape, models, fine, trellis, _told(layout), address(out), len(out)
    )  # fmt: skip
    return _taken(out, size)


def read_levels(
    data: bytes, which: Sequence[int], models: int, size: int, fine: bool, trellis: bool, layout: Layout | None = None
) -> np.ndarray:
    """Return the levels, int64 [rows, size]. Raises Damaged for what cannot be such a stream."""
    own, values = np.array(which, dtype=np.int64), np.empty((len(which), size), dtype=np.int32)
    code = library().pdn_decode_levels(
        data, len(data), address(own), len(which), size, models, fine, trellis, _told(layout), address(values)
    )  # fmt: skip
    return _sound(values, code)


def write_indices(values: np.ndarray, width: int, layout: Layout | None = None) -> bytes:
    """Return the stream of indices of `width` bits."""
    values = np.ascontiguousarray(values, dtype=np.int32)
    out = np.empty(64 + 4 * width * values.size, dtype=np.uint8)
    size = library().pdn_encode_indices(address(values), values.size, width, _told(layout), address(out), len(out))
    return _taken(out, size)


def read_indices(data: bytes, size: int, width: int, layout: Layout | None = None) -> np.ndarray:
    """Return `size` indices, int64. Raises Damaged for what cannot be such a stream."""
    values = np.empty(size, dtype=np.int32)
    code = library().pdn_decode_indices(data, len(data), size, width, _told(layout), address(values))
    return _sound(values, code)


def _taken(out: np.ndarray, size: int) -> bytes:
    if size < 0:
        raise MemoryError("a stream did not fit its room")
    return out[:size].tobytes()


def _sound(values: np.ndarray, code: int) -> np.ndarray:
    if code:
        raise Damaged("a stream holds no such codes")
    return values.astype(np.int64)
