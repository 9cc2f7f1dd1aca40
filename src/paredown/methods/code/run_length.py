"""Run lengths of zeros, the width of a run chosen for the data."""

from dataclasses import dataclass

import numpy as np

from paredown.core.catalog import Card, part
from paredown.core.errors import Damaged
from paredown.methods.code.fields import Reader, Writer, believable, whole

WIDTHS = range(1, 17)


def runs(values: np.ndarray, width: int) -> np.ndarray:
    """Return the runs of zeros before each value that is not 0, in fields of `width` bits.

    A field of 2^width − 1 says so many zeros and no value after them; a smaller one ends a run. So at width 1 a field is
    1 for each zero and 0 for each value: the bitmask. Zeros at the end are not stored.
    """
    gaps = np.diff(np.flatnonzero(values.ravel()), prepend=-1) - 1
    more, rest = np.divmod(gaps, (1 << width) - 1)
    found = np.full(int(more.sum()) + len(gaps), (1 << width) - 1, dtype=np.int64)
    found[np.cumsum(more + 1) - 1] = rest
    return found


def places(runs: np.ndarray, width: int) -> np.ndarray:
    """Return where the values stand; the inverse of `runs`."""
    ends = runs < (1 << width) - 1
    return (np.cumsum(runs + ends) - 1)[ends]


def best_width(values: np.ndarray) -> int:
    """Return the width, 1 to 16, whose runs take the fewest bits; the smallest of equals."""
    gaps = np.diff(np.flatnonzero(values.ravel()), prepend=-1) - 1
    return min(WIDTHS, key=lambda width: width * (int((gaps // ((1 << width) - 1)).sum()) + len(gaps)))


@part("code.run_length", Card(title="Run lengths of zeros", paper="doi:10.1109/JSSC.2016.2616357", year=2017,
                              authors="Chen, Krishna, Emer, Sze",
                              source="Eyeriss, its run-length compression (RLC): runs of zeros and the values between them",
                              changes={"bytes"}))  # fmt: skip
@dataclass(frozen=True)
class RunLength:
    """Store the entries that are not 0 and the runs of zeros between them, in C order; both at fixed widths.

    Differs from the paper: the width of a run is chosen by the encoder, from 1 to 16 bits, and stored (theirs is 5); a run that
    does not fit takes another field, not a value of 0; fields are not grouped into words of 64 bits.
    """

    def encode(self, array: np.ndarray) -> bytes:
        """Return: width, number of fields, runs, values."""
        values = whole(array).ravel()
        width = best_width(values)
        fields = runs(values, width)
        writer = Writer()
        writer.number(width)
        writer.number(len(fields))
        writer.fields(fields, width)
        writer.values(values[values != 0], nonzero=True)
        return bytes(writer.out) if values.size else b""

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the `size` integers (int64) that `encode` was given. Raises Damaged for what cannot be such a code."""
        if not believable(size):
            return np.zeros(0, dtype=np.int64)
        reader = Reader(data)
        width, count = reader.number(WIDTHS[-1]), reader.number(size)
        if width == 0:
            raise Damaged("runs of 0 bits cannot be")
        at = places(reader.fields(width, count).astype(np.int64), width)
        values = reader.values(len(at), nonzero=True)
        reader.end()
        if len(at) and at[-1] >= size:
            raise Damaged(f"the runs lead to entry {at[-1]} of {size}")
        found = np.zeros(size, dtype=np.int64)
        found[at] = values
        return found
