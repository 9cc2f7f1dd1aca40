"""EIE's compressed sparse columns, spread over processing elements; the product that it computes, and how evenly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput, Damaged
from paredown.core.knob import knob
from paredown.methods.code.fields import Reader, Writer, believable, whole, width_of
from paredown.methods.code.relative_index import padded


class Lane(NamedTuple):
    """What one processing element holds: column j's entries are those from pointers[j] to pointers[j + 1] of v and z.

    v: values, or indices into a codebook whose first entry is 0. z: zeros before each, among the element's own rows.
    """

    v: np.ndarray
    z: np.ndarray
    pointers: np.ndarray


def _spread(matrix: np.ndarray, elements: int, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (v, z, entries [elements, columns]), element by element, column by column."""
    columns = matrix.shape[1]
    rows, at = np.nonzero(matrix)
    order = np.lexsort((rows, at, rows % elements))
    rows, at = rows[order], at[order]
    group, place = rows % elements * columns + at, rows // elements
    same = np.diff(group, prepend=-1) == 0
    gaps = np.where(same, place - np.roll(place, 1), place + 1) - 1
    v, z, taken = padded(matrix[rows, at], gaps, bits)
    return v, z, np.bincount(np.repeat(group, taken), minlength=elements * columns).reshape(elements, columns)


def _pointers(entries: np.ndarray) -> np.ndarray:
    return np.pad(np.cumsum(entries, axis=1), ((0, 0), (1, 0)))


def interleaved(matrix: np.ndarray, elements: int, bits: int = 4) -> list[Lane]:
    """Return what each element holds: element k has rows i with i mod elements = k (section III-B).

    bits: of z; longer runs of zeros take zeros among the values, as in `relative_index`. Runs begin afresh in each column.
    """
    v, z, entries = _spread(matrix, elements, bits)
    ends = np.cumsum(entries.sum(axis=1))[:-1]
    lanes = zip(np.split(v, ends), np.split(z, ends), _pointers(entries), strict=True)
    return [Lane(*held) for held in lanes]


def _places(lane: Lane) -> tuple[np.ndarray, np.ndarray]:
    """Return (column, place among the element's rows) of each entry."""
    entries = np.diff(lane.pointers)
    steps = np.concatenate([[0], np.cumsum(lane.z + 1)])
    return np.repeat(np.arange(len(entries)), entries), steps[1:] - 1 - np.repeat(steps[lane.pointers[:-1]], entries)


def together(lanes: Sequence[Lane], rows: int) -> np.ndarray:
    """Return the matrix; the inverse of `interleaved`. Raises Damaged where a run leads beyond the last row."""
    found = np.zeros((rows, len(lanes[0].pointers) - 1), dtype=lanes[0].v.dtype)
    for at, lane in enumerate(lanes):
        columns, place = _places(lane)
        mine = place * len(lanes) + at
        if len(mine) and mine.max() >= rows:
            raise Damaged(f"the runs lead to row {mine.max()} of {rows}")
        found[mine, columns] = lane.v
    return found


def spmv(
    lanes: Sequence[Lane], rows: int, activations: np.ndarray, codebook: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return (b, work): b_i = Σ_j S[I_ij] · a_j over the entries stored (equation 3 before its ReLU), S the codebook, else the values.

    work: entries multiplied by each element for each activation that is not 0, [activations not 0, elements]; the
    others trigger none. Zeros that pad a run are work too. Arithmetic and its order are the dtype's own.
    """
    busy = np.flatnonzero(activations)
    given = np.zeros(rows, dtype=np.result_type(lanes[0].v if codebook is None else codebook, activations))
    work = np.zeros((len(busy), len(lanes)), dtype=np.int64)
    for at, lane in enumerate(lanes):
        columns, place = _places(lane)
        on = activations[columns] != 0
        value = lane.v[on] if codebook is None else codebook[lane.v[on]]
        np.add.at(given, place[on] * len(lanes) + at, value * activations[columns[on]])
        work[:, at] = np.diff(lane.pointers)[busy]
    return given, work


def padding_fraction(lanes: Sequence[Lane]) -> float:
    """Return the share of entries that are zeros stored because a run was too long (figure 12)."""
    total = sum(len(lane.v) for lane in lanes)
    return sum(int((lane.v == 0).sum()) for lane in lanes) / total if total else 0.0


def stored_bits(lanes: Sequence[Lane], value: int = 4, run: int = 4, pointer: int = 16) -> int:
    """Return the bits that the elements hold; the paper's widths: 4 for v and z each, 16 for a pointer."""
    return sum(len(lane.v) * (value + run) + len(lane.pointers) * pointer for lane in lanes)


def load_balance(work: np.ndarray, depth: int) -> float:
    """Return the share of the elements' cycles in which they multiply (figures 8 and 13), by a simple simulation.

    work: cycles of each element for each activation, [activations, elements]. One activation is broadcast a cycle, as
    long as every element's queue has a free place, of `depth`; an element takes the next from its queue in the cycle after
    it ended the last, and one without entries for it takes none of its time. 1 where there is no work.
    """
    if depth < 1:
        raise BadInput(f"depth={depth!r} is out of range; from 1")
    many, elements = work.shape
    begun = np.zeros((many, elements), dtype=np.int64)
    ended, sent = np.zeros(elements, dtype=np.int64), -1
    for at in range(many):
        # The place that this one takes was given free when the activation `depth` before it was begun everywhere.
        free = int(begun[at - depth].max()) if at >= depth else 0
        sent = max(sent + 1, free)
        begun[at] = np.maximum(ended, sent)
        ended = begun[at] + work[at]
    return float(work.sum()) / (int(ended.max()) * elements) if work.any() else 1.0


@part("code.eie", Card(title="EIE's compressed sparse columns", paper="arxiv:1602.01528", year=2016,
                       authors="Han, Liu, Mao, Pu, Pedram, Horowitz, Dally",
                       source="sections III-B and III-C; the example of figure 3", changes={"bytes"}))  # fmt: skip
@dataclass(frozen=True)
class Eie:
    """Store a matrix column by column as the elements of EIE hold it: values, runs of zeros, column pointers.

    elements: over how many the rows are spread; the paper's machine has 64. bits: of a run.
    A matrix has its columns; an array of any other number of dimensions is one column.

    Differs from the paper: values and pointers have the smallest width that holds them, not 4 and 16 bits.
    """

    elements: int = knob(4, low=1, high=1024)
    bits: int = knob(4, low=1, high=16)

    def encode(self, array: np.ndarray) -> bytes:
        """Return: columns, elements, bits, the pointers' width; pointers without the first, runs, values."""
        values = whole(array)
        if not values.size:
            return b""
        matrix = values if values.ndim == 2 else values.reshape(-1, 1)
        elements = min(self.elements, len(matrix))  # those without a row would have nothing but pointers
        v, z, entries = _spread(matrix, elements, self.bits)
        pointers = _pointers(entries)[:, 1:]
        width = width_of(pointers.max())
        writer = Writer()
        for number in (matrix.shape[1], elements, self.bits, width):
            writer.number(number)
        writer.fields(pointers.ravel(), width)
        writer.fields(z, self.bits)
        writer.values(v)
        return bytes(writer.out)

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the `size` integers (int64) that `encode` was given. Raises Damaged for what cannot be such a code."""
        if not believable(size):
            return np.zeros(0, dtype=np.int64)
        reader = Reader(data)
        columns, elements, bits, width = (reader.number(most) for most in (size, 1024, 16, 32))
        if columns == 0 or size % columns or elements == 0 or bits == 0:
            raise Damaged(f"{size} integers in {columns} columns over {elements} elements with runs of {bits} bits")
        if width == 0:  # no entry at all: the pointers need no room, so none is made for them
            reader.values(0)
            reader.end()
            return np.zeros(size, dtype=np.int64)
        told = reader.fields(width, elements * columns).astype(np.int64).reshape(elements, columns)
        pointers = np.pad(told, ((0, 0), (1, 0)))
        if (np.diff(pointers) < 0).any():
            raise Damaged("the column pointers fall")
        ends = np.cumsum(pointers[:, -1])
        z = reader.fields(bits, int(ends[-1])).astype(np.int64)
        v = reader.values(len(z))
        reader.end()
        split = zip(np.split(v, ends[:-1]), np.split(z, ends[:-1]), pointers, strict=True)
        return together([Lane(*held) for held in split], size // columns).ravel()
