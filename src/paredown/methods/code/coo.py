"""Coordinates: row, column and value of every entry that is not 0."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from paredown.core.catalog import Card, part
from paredown.core.errors import Damaged
from paredown.methods.code.csr import as_matrix
from paredown.methods.code.fields import Reader, Writer, believable, whole, width_of


class Entries(NamedTuple):
    """Entry i stands at (rows[i], columns[i]); in C order, each place once."""

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray


def compressed(matrix: np.ndarray) -> Entries:
    """Return the entries of a matrix that are not 0, row by row."""
    rows, columns = np.nonzero(matrix)
    return Entries(rows, columns, matrix[rows, columns])


def dense(held: Entries, shape: tuple[int, int]) -> np.ndarray:
    """Return the matrix; the inverse of `compressed`."""
    found = np.zeros(shape, dtype=held.values.dtype)
    found[held.rows, held.columns] = held.values
    return found


def product(held: Entries, rows: int, right: np.ndarray) -> np.ndarray:
    """Return the matrix, of so many rows, times a dense one, from the stored entries alone."""
    terms = held.values[:, None] * right[held.columns]
    found = np.zeros((rows, right.shape[1]), dtype=terms.dtype)
    np.add.at(found, held.rows, terms)
    return found


def coo_bytes(nonzero: int, value: float = 4, index: float = 4) -> float:
    """Return the bytes of a matrix in coordinates; value, index: bytes of each (float32 and int32)."""
    return nonzero * (value + 2 * index)


def break_even(value: float = 4, index: float = 4) -> float:
    """Return the density below which coordinates are smaller than the dense matrix: 1/3 for float32 and int32."""
    return value / (value + 2 * index)


@part(
    "code.coo",
    Card(
        title="Coordinates (COO)",
        source="sparse matrices as row, column and value of each entry, sorted by row",
        changes={"bytes"},
    ),
)
@dataclass(frozen=True)
class Coo:
    """Store row, column and value of the entries that are not 0, each at the smallest fixed width.

    The first dimension of an array is its rows; a vector is one row.
    """

    def encode(self, array: np.ndarray) -> bytes:
        """Return: rows, entries, row numbers, column numbers, values."""
        matrix = as_matrix(whole(array))
        held = compressed(matrix)
        writer = Writer()
        writer.number(len(matrix))
        writer.number(len(held.values))
        writer.fields(held.rows, width_of(len(matrix) - 1))
        writer.fields(held.columns, width_of(max(matrix.shape[1] - 1, 0)))
        writer.values(held.values, nonzero=True)
        return bytes(writer.out) if matrix.size else b""

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the `size` integers (int64) that `encode` was given. Raises Damaged for what cannot be such a code."""
        if not believable(size):
            return np.zeros(0, dtype=np.int64)
        reader = Reader(data)
        rows, columns, count = reader.matrix(size)
        at = reader.fields(width_of(rows - 1), count).astype(np.int64)
        across = reader.fields(width_of(columns - 1), count).astype(np.int64)
        places = at * columns + across
        if count and (at.max() >= rows or across.max() >= columns or (np.diff(places) <= 0).any()):
            raise Damaged(f"the coordinates are not rising places in a matrix of {rows} × {columns}")
        held = Entries(at, across, reader.values(count, nonzero=True))
        reader.end()
        return dense(held, (rows, columns)).ravel()
