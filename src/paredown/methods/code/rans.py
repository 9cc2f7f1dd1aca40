"""A static range asymmetric numeral system: the entropy of the whole array's frequencies, at two table look-ups a symbol."""

import heapq
from dataclasses import dataclass

import numpy as np

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput, Damaged
from paredown.methods.code.fields import Reader, Writer, believable, whole
from paredown.methods.code.range_coder import Counts, Decoder, Encoder, integers

BITS = 12
ONE = 1 << BITS
"""What normalised frequencies sum to; so there are at most so many symbols, the escape among them."""
LEAST = 1 << 16
"""The state is from LEAST to 2^32 − 1 and moves in words of 16 bits; it begins, and the decoder's ends, at LEAST."""

Table = list[tuple[int, int]]
"""(symbol, normalised frequency), by symbol."""


def normalised(counts: list[int], one: int = ONE) -> list[int]:
    """Return frequencies that sum to `one`, each at least 1, near the shares of the counts (all at least 1).

    From 1 for each, one by one, the frequency is raised that shortens the code most: count · log(1 + 1/f), to first order about the
    middle of the step; in integers, so that it is the same everywhere. Gains fall with f, so that this is the shortest code.
    """
    if not 0 < len(counts) <= one:
        raise BadInput(f"{len(counts)} symbols cannot share {one}")
    found = [1] * len(counts)
    heap = [(-((count << 64) // 3), at) for at, count in enumerate(counts)]
    heapq.heapify(heap)
    for _ in range(one - len(counts)):
        _, at = heap[0]
        found[at] += 1
        heapq.heapreplace(heap, (-((counts[at] << 64) // (2 * found[at] + 1)), at))
    return found


def push(slots: list[int], freqs: list[int], starts: list[int]) -> tuple[int, list[int]]:
    """Return (state, words in the order of reading) of symbols, given by their number in the table.

    C(s, x) = ⌊x / f⌋ · 2^12 + start + x mod f (Duda 2013, section 3.3's range variant), from the last symbol to the first; a word leaves
    before the state would pass 2^32.
    """
    state, words = LEAST, []
    full = [f << (32 - BITS) for f in freqs]
    for at in reversed(slots):
        if state >= full[at]:
            words.append(state & 0xFFFF)
            state >>= 16
        more, rest = divmod(state, freqs[at])
        state = (more << BITS) + starts[at] + rest
    return state, words[::-1]


def pop(state: int, words: list[int], freqs: list[int], size: int) -> list[int]:
    """Return the numbers in the table of `size` symbols; the inverse of `push`. Raises Damaged unless all is read exactly."""
    which = [at for at, f in enumerate(freqs) for _ in range(f)]
    # The slot less the symbol's start: what is left of the state that it came from.
    rest = [within for f in freqs for within in range(f)]
    found, ahead = [], iter(words)
    try:
        for _ in range(size):
            slot = state & (ONE - 1)
            at = which[slot]
            state = freqs[at] * (state >> BITS) + rest[slot]
            if state < LEAST:
                state = state << 16 | next(ahead)
            found.append(at)
    except StopIteration:
        raise Damaged(f"the code ends after {len(found)} of {size} values") from None
    if state != LEAST or next(ahead, None) is not None:
        raise Damaged("the code does not end where its values do")
    return found


def _starts(freqs: list[int]) -> list[int]:
    return [0, *np.cumsum(freqs[:-1]).tolist()]


def _table(coder: Encoder | Decoder, table: Table | None = None, escape: int = 0) -> tuple[Table, int]:
    """Write or read the symbols, as gaps from the lowest one, their frequencies but for the last, and the escape's."""
    counts, gaps, freqs = Counts(), Counts(), Counts()
    many = counts.code(coder, None if table is None else len(table))
    escape = freqs.code(coder, None if table is None else escape)
    if many > ONE or escape > ONE:
        raise Damaged(f"a table of {many} symbols beside an escape of {escape} is too large")
    found: Table = []
    left = ONE - escape
    for at in range(many):
        wanted = None if table is None else table[at][0] - (found[-1][0] + 1 if found else 0)
        if found:
            symbol = found[-1][0] + 1 + gaps.code(coder, wanted)
        else:
            told = counts.code(coder, None if wanted is None else 2 * wanted if wanted >= 0 else -2 * wanted - 1)
            symbol = -(told // 2) - 1 if told % 2 else told // 2
        freq = left if at == many - 1 else freqs.code(coder, None if table is None else table[at][1] - 1) + 1
        left -= freq
        found.append((symbol, freq))
    if left or (found and found[-1][1] < 1):
        raise Damaged(f"the table's frequencies do not sum to {ONE}")
    return found, escape


def _numbered(values: np.ndarray) -> tuple[Table, int, np.ndarray]:
    """Return the table, the escape's frequency (0: there is none), and each value's number in it (the last: escaped)."""
    symbols, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    kept = np.arange(len(symbols))
    if len(symbols) > ONE:
        kept = np.flatnonzero(counts * ONE >= counts.sum())
    escaped = int(counts.sum() - counts[kept].sum())
    number = np.full(len(symbols), len(kept))
    number[kept] = np.arange(len(kept))
    freqs = normalised([*counts[kept].tolist(), *([escaped] if escaped else [])])
    table = list(zip(symbols[kept].tolist(), freqs[: len(kept)], strict=True))
    return table, freqs[-1] if escaped else 0, number[which].reshape(-1)


def _slots(code: bytes, freqs: list[int], size: int) -> np.ndarray:
    """Return the numbers in the table of `size` symbols, from the state and the words. Raises Damaged."""
    if len(freqs) == 1 and not code:
        return np.zeros(size, dtype=np.int64)
    if len(code) < 4 or len(code) % 2 or len(freqs) == 1:
        raise Damaged(f"{len(code)} bytes are no state and words")
    state = int.from_bytes(code[:4], "little")
    if state < LEAST:
        raise Damaged(f"a state of {state} is too low")
    return np.array(pop(state, np.frombuffer(code[4:], dtype="<u2").tolist(), freqs, size), dtype=np.int64)


@part("code.rans", Card(title="Range asymmetric numeral system", paper="arxiv:1311.2540", year=2013, authors="Duda",
                        source="section 3, the range variant; table of frequencies in front", changes={"bytes"}))  # fmt: skip
@dataclass(frozen=True)
class Rans:
    """Code integers with static frequencies of 12 bits, a state of 32 bits and words of 16.

    The table is stored under the range coder. Where there are more than 4096 different integers, those that are at least
    1/4096 of all are in the table; the others are an escape, and stand in front of the code at a fixed width.

    Differs from the paper: frequencies are normalised greedily, in integers (`normalised`).
    """

    def encode(self, array: np.ndarray) -> bytes:
        """Return: length of the table, table, escaped values, state, words."""
        values = whole(array).ravel()
        if not values.size:
            return b""
        table, escape, slots = _numbered(values)
        coder, writer = Encoder(), Writer()
        _table(coder, table, escape)
        head = coder.finish()
        writer.number(len(head))
        writer.out += head
        if escape:
            others = values[slots == len(table)]
            writer.number(len(others))
            writer.values(others)
        freqs = [freq for _, freq in table] + ([escape] if escape else [])
        if len(freqs) > 1:  # of one symbol alone there is nothing to tell
            state, words = push(slots.tolist(), freqs, _starts(freqs))
            writer.out += state.to_bytes(4, "little") + np.array(words, dtype="<u2").tobytes()
        return bytes(writer.out)

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the `size` integers (int64) that `encode` was given. Raises Damaged for what cannot be such a code."""
        if not believable(size):
            return np.zeros(0, dtype=np.int64)
        reader = Reader(data)
        table, escape = _table(Decoder(reader.take(reader.number(len(data)))))
        others = reader.values(reader.number(size)) if escape else np.zeros(0, dtype=np.int64)
        symbols = integers([*(symbol for symbol, _ in table), 0])
        slots = _slots(data[reader.at :], [freq for _, freq in table] + ([escape] if escape else []), size)
        away = slots == len(table)
        if away.sum() != len(others):
            raise Damaged(f"{len(others)} values stand for {away.sum()} escapes")
        found = symbols[slots]
        found[away] = others
        return found
