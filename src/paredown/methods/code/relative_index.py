"""The relative index of Deep Compression: each value with the number of zeros before it, in few bits."""

from dataclasses import dataclass

import numpy as np

from paredown.core.catalog import Card, part
from paredown.core.errors import Damaged
from paredown.core.knob import knob
from paredown.methods.code.fields import Reader, Writer, believable, whole


def padded(values: np.ndarray, gaps: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (v, z, how many entries each value took): a gap of 2^bits zeros or more takes entries of (0, 2^bits − 1).

    Each such entry stands for 2^bits zeros: those before it, and itself.
    """
    pads = gaps >> bits
    taken = pads + 1
    last = np.cumsum(taken) - 1
    v = np.zeros(int(taken.sum()), dtype=np.int64)
    z = np.full(len(v), (1 << bits) - 1, dtype=np.int64)
    v[last], z[last] = values, gaps & ((1 << bits) - 1)
    return v, z, taken


def relative(values: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (v, z): the values that are not 0, each with the number of zeros before it, at most 2^bits − 1.

    Where more zeros come first, zeros are stored among the values (0, 2^bits − 1). Zeros at the end are not stored.
    """
    flat = values.ravel()
    places = np.flatnonzero(flat)
    return padded(flat[places], np.diff(places, prepend=-1) - 1, bits)[:2]


def absolute(v: np.ndarray, z: np.ndarray, size: int) -> np.ndarray:
    """Return the `size` values; the inverse of `relative`. Raises Damaged where they reach beyond the end."""
    places = np.cumsum(z + 1) - 1
    if len(places) and places[-1] >= size:
        raise Damaged(f"the gaps lead to entry {places[-1]} of {size}")
    found = np.zeros(size, dtype=v.dtype)
    found[places] = v
    return found


def padding_fraction(v: np.ndarray) -> float:
    """Return the share of entries that are zeros stored because a gap was too long."""
    return float(np.mean(v == 0)) if len(v) else 0.0


@part("code.relative_index", Card(title="Relative index", paper="arxiv:1510.00149", year=2016, authors="Han, Mao, Dally",
                                  source="Deep Compression, section 2 and figure 2", changes={"bytes"}))  # fmt: skip
@dataclass(frozen=True)
class RelativeIndex:
    """Store the entries that are not 0 with their distance from the one before, in C order; both at fixed widths.

    bits: of a distance. 0 takes the paper's: 8 for arrays of more than two dimensions (convolutions), else 5.

    Differs from the paper: a field holds the zeros in between, the distance less one, so that 2^bits distances are told
    (as in EIE); values have the smallest width that holds their range. Huffman's code, which the paper puts
    on both, is a codec of its own.
    """

    bits: int = knob(0, low=0, high=16)

    def encode(self, array: np.ndarray) -> bytes:
        """Return: bits, number of entries, gaps, values."""
        values = whole(array)
        bits = self.bits or (8 if values.ndim > 2 else 5)
        v, z = relative(values, bits)
        writer = Writer()
        writer.number(bits)
        writer.number(len(v))
        writer.fields(z, bits)
        writer.values(v)
        return bytes(writer.out) if values.size else b""

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the `size` integers (int64) that `encode` was given. Raises Damaged for what cannot be such a code."""
        if not believable(size):
            return np.zeros(0, dtype=np.int64)
        reader = Reader(data)
        bits, count = reader.number(16), reader.number(size)
        if bits == 0:
            raise Damaged("gaps of 0 bits cannot be")
        z = reader.fields(bits, count).astype(np.int64)
        v = reader.values(count)
        reader.end()
        return absolute(v, z, size)
