"""A bit for each entry says whether it is 0."""

from dataclasses import dataclass

import numpy as np

from paredown.core.catalog import Card, part
from paredown.methods.code.fields import Reader, Writer, believable, whole


def masked_bits(size: int, nonzero: int, width: int) -> int:
    """Return the bits of a mask and of what it leaves: size + nonzero · width."""
    return size + nonzero * width


@part("code.bitmask", Card(title="Bitmask and values", paper="doi:10.1145/3352460.3358291", year=2019,
                           authors="Gondimalla, Chesnut, Thottethodi, Vijaykumar",
                           source="SparTen: its SparseMap, a bit mask and the values that are not 0",
                           changes={"bytes"}))  # fmt: skip
@dataclass(frozen=True)
class Bitmask:
    """Store which entries are not 0, one bit each, in C order, then those entries at the smallest fixed width."""

    def encode(self, array: np.ndarray) -> bytes:
        """Return: mask, values."""
        values = whole(array).ravel()
        writer = Writer()
        writer.fields(values != 0, 1)
        writer.values(values[values != 0], nonzero=True)
        return bytes(writer.out) if values.size else b""

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the `size` integers (int64) that `encode` was given. Raises Damaged for what cannot be such a code."""
        if not believable(size):
            return np.zeros(0, dtype=np.int64)
        reader = Reader(data)
        mask = reader.fields(1, size) != 0
        values = reader.values(int(mask.sum()), nonzero=True)
        reader.end()
        found = np.zeros(size, dtype=np.int64)
        found[mask] = values
        return found
