"""Compressed sparse rows: row pointers, column indices, values; and what they cost beside a dense matrix."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from paredown.core.catalog import Card, part
from paredown.core.errors import Damaged
from paredown.methods.code.fields import Reader, Writer, believable, whole, width_of


class Rows(NamedTuple):
    """Row i's entries are those from pointers[i] to pointers[i + 1] of `columns` and `values`."""

    pointers: np.ndarray
    columns: np.ndarray
    values: np.ndarray


def compressed(matrix: np.ndarray) -> Rows:
    """Return the entries of a matrix that are not 0, row by row."""
    rows, columns = np.nonzero(matrix)
    pointers = np.zeros(len(matrix) + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=len(matrix)), out=pointers[1:])
    return Rows(pointers, columns, matrix[rows, columns])


def _row_numbers(held: Rows) -> np.ndarray:
    return np.repeat(np.arange(len(held.pointers) - 1), np.diff(held.pointers))


def dense(held: Rows, columns: int) -> np.ndarray:
    """Return the matrix; the inverse of `compressed`."""
    found = np.zeros((len(held.pointers) - 1, columns), dtype=held.values.dtype)
    found[_row_numbers(held), held.columns] = held.values
    return found


def product(held: Rows, right: np.ndarray) -> np.ndarray:
    """Return the matrix times a dense one, [rows, n], from the stored entries alone."""
    terms = held.values[:, None] * right[held.columns]
    found = np.zeros((len(held.pointers) - 1, right.shape[1]), dtype=terms.dtype)
    np.add.at(found, _row_numbers(held), terms)
    return found


def csr_bytes(rows: int, nonzero: int, value: float = 4, index: float = 4, pointer: float = 4) -> float:
    """Return the bytes of a matrix in compressed rows; value, index, pointer: bytes of each (float32 and int32)."""
    return nonzero * (value + index) + (rows + 1) * pointer


def break_even(rows: int, columns: int, value: float = 4, index: float = 4, pointer: float = 4) -> float:
    """Return the density below which compressed rows are smaller than the dense matrix.

    value / (value + index), 1/2 for float32 and int32, less what the pointers take; at most 0 where they never are.
    """
    return (rows * columns * value - (rows + 1) * pointer) / (rows * columns * (value + index))


def as_matrix(values: np.ndarray) -> np.ndarray:
    """Return an array as a matrix: the first dimension its rows; fewer than two dimensions are one row."""
    return values.reshape(len(values), -1) if values.ndim > 1 and values.size else values.reshape(1, -1)


@part("code.csr", Card(title="Compressed sparse rows", paper="doi:10.1109/PROC.1967.6011", year=1967, authors="Tinney, Walker",
                       source="Direct Solutions of Sparse Network Equations by Optimally Ordered Triangular Factorization; the format as it is used now",
                       changes={"bytes"}))  # fmt: skip
@dataclass(frozen=True)
class Csr:
    """Store row pointers, column indices and values of the entries that are not 0, each at the smallest fixed width.

    The first dimension of an array is its rows; a vector is one row.
    """

    def encode(self, array: np.ndarray) -> bytes:
        """Return: rows, entries, pointers without the first, column indices, values."""
        matrix = as_matrix(whole(array))
        held = compressed(matrix)
        writer = Writer()
        writer.number(len(matrix))
        writer.number(len(held.values))
        writer.fields(held.pointers[1:], width_of(len(held.values)))
        writer.fields(held.columns, width_of(max(matrix.shape[1] - 1, 0)))
        writer.values(held.values, nonzero=True)
        return bytes(writer.out) if matrix.size else b""

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the `size` integers (int64) that `encode` was given. Raises Damaged for what cannot be such a code."""
        if not believable(size):
            return np.zeros(0, dtype=np.int64)
        reader = Reader(data)
        rows, columns, count = reader.matrix(size)
        pointers = np.pad(reader.fields(width_of(count), rows).astype(np.int64), (1, 0))
        if pointers[-1] != count or (np.diff(pointers) < 0).any():
            raise Damaged("the row pointers do not rise to the number of entries")
        indices = reader.fields(width_of(columns - 1), count).astype(np.int64)
        if count and indices.max() >= columns:
            raise Damaged(f"there is no column {indices.max()} among {columns}")
        held = Rows(pointers, indices, reader.values(count, nonzero=True))
        reader.end()
        return dense(held, columns).ravel()
