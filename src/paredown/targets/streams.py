"""The streams of large tensors in a packed file: the models of levels and of indices, beginning afresh. Needs no torch.

Python is the reference; where the kernels were built, C (`kernels/c/pdn_*.c`) writes and reads the same bytes.
"""

from collections.abc import Sequence

import numpy as np

import paredown.kernels.streams as native
from paredown.core.errors import Damaged
from paredown.graph.zero_pattern import Layout
from paredown.methods.code.adaptive import Levels
from paredown.methods.code.range_coder import LEFT_OUT, Coder, Decoder, Encoder, context
from paredown.methods.code.zeros import zeros

Kind = str | int
MOST_PER_BYTE = 8 * 2048
"""No byte stands for more levels than this: a bit takes at least 1/1420 of one (range_coder.LEAST)."""


def write_levels(
    values: np.ndarray, kinds: Sequence[Kind], fine: bool, trellis: bool, layout: Layout | None = None
) -> bytes:
    """Return the stream of signed integers in rows: `values` is [rows, size]; each row has the model of its kind.

    layout: of a row that is a whole weight, where its zeros lie by a pattern.
    """
    which, count = _numbered(kinds)
    if native.built():
        return native.write_levels(values, which, count, fine, trellis, layout)
    models = [Levels(fine) for _ in range(count)]
    coder = Encoder()
    for row, at in zip(values, which, strict=True):
        own = None if layout is None else zeros(layout, row)
        (models[at].dependent_row if trellis else models[at].row)(coder, len(row), row.tolist(), own)
    return coder.finish()


def read_levels(
    data: bytes, kinds: Sequence[Kind], size: int, fine: bool, trellis: bool, layout: Layout | None = None
) -> np.ndarray:
    """Return the integers, int64 [rows, size]. Raises Damaged for what cannot be such a stream."""
    which, count = _numbered(kinds)
    _bounded(data, len(which) * size)
    if native.built():
        return native.read_levels(data, which, count, size, fine, trellis, layout)
    models = [Levels(fine) for _ in range(count)]
    coder = Decoder(data)
    own = None if layout is None else zeros(layout)
    rows = [(models[at].dependent_row if trellis else models[at].row)(coder, size, None, own) for at in which]
    _must_end(coder)
    return np.array(rows, dtype=np.int64).reshape(len(which), size)


def write_indices(values: np.ndarray, width: int, layout: Layout | None = None) -> bytes:
    """Return the stream of indices of `width` bits."""
    if native.built():
        return native.write_indices(values, width, layout)
    coder = Encoder()
    tree(coder, width, values.size, values, layout)
    return coder.finish()


def read_indices(data: bytes, size: int, width: int, layout: Layout | None = None) -> np.ndarray:
    """Return the indices, int64. Raises Damaged for what cannot be such a stream."""
    _bounded(data, size)
    if native.built():
        return native.read_indices(data, size, width, layout)
    coder = Decoder(data)
    found = tree(coder, width, size, None, layout)
    _must_end(coder)
    return found


def tree(
    coder: Coder, width: int, size: int, values: np.ndarray | None = None, layout: Layout | None = None
) -> np.ndarray:
    """Write or read indices through a binary tree of contexts: most significant bit first, each after those before it.

    Where a pattern tells that an index is 0, or below 2 and not 0, nothing more is coded of it.
    """
    nodes = [context() for _ in range(1 << width)]
    own = None if layout is None else zeros(layout, values)
    given = None if values is None else values.tolist()
    done = []
    for at in range(size):
        there = None if own is None else own.told(coder, None if given is None else given[at] != 0)
        if there is False or (there and width == 1):
            done.append(int(there))
            continue
        place = 1
        for bit in range(width - 1, -1, -1):
            place = 2 * place + coder.bit(nodes[place], None if given is None else given[at] >> bit & 1)
        done.append(place - (1 << width))
    return np.array(done, dtype=np.int64)


def _numbered(kinds: Sequence[Kind]) -> tuple[list[int], int]:
    """Return for each row the number of its model, in order of first use, and how many there are."""
    order = {kind: at for at, kind in enumerate(dict.fromkeys(kinds))}
    return [order[kind] for kind in kinds], len(order)


def _bounded(data: bytes, count: int) -> None:
    if count > MOST_PER_BYTE * (len(data) + LEFT_OUT + 4):
        raise Damaged(f"{len(data)} bytes cannot stand for {count} codes")


def _must_end(coder: Decoder) -> None:
    if not coder.ended():
        raise Damaged("a stream has bytes that nothing reads")
