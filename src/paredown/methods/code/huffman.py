"""Canonical Huffman codes."""

import heapq
from collections import Counter
from dataclasses import dataclass

import numpy as np

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput, Damaged
from paredown.core.knob import knob
from paredown.methods.code.range_coder import Counts, Decoder, Encoder, integers

MAX_LENGTH = 64


def code_lengths(weights: dict[int, int]) -> dict[int, int]:
    """Return {symbol: length in bits} of an optimal prefix code (Huffman 1952). One symbol alone: length 1."""
    if len(weights) == 1:
        return dict.fromkeys(weights, 1)
    heap: list[tuple[int, int, tuple[int, ...]]] = [
        (weight, at, (symbol,)) for at, (symbol, weight) in enumerate(sorted(weights.items()))
    ]
    heapq.heapify(heap)
    lengths, fresh = dict.fromkeys(weights, 0), len(heap)
    while len(heap) > 1:
        low, _, left = heapq.heappop(heap)
        high, _, right = heapq.heappop(heap)
        for symbol in left + right:
            lengths[symbol] += 1
        heapq.heappush(heap, (low + high, fresh, left + right))
        fresh += 1
    return lengths


def limited_lengths(weights: dict[int, int], limit: int) -> dict[int, int]:
    """Return {symbol: length} of the best prefix code with no length above `limit` (Larmore and Hirschberg 1990, package-merge).

    Each symbol is a coin of each face value 2^−1 … 2^−limit; of the cheapest coins worth n − 1 together, a symbol's length is
    the number of its own. Raises BadInput where 2^limit codes are not enough.
    """
    if len(weights) == 1:
        return dict.fromkeys(weights, 1)
    if len(weights) > 1 << limit:
        raise BadInput(f"{len(weights)} symbols have no codes of {limit} bits; take {(len(weights) - 1).bit_length()}")
    leaves = [(weight, symbol) for symbol, weight in sorted(weights.items(), key=lambda item: (item[1], item[0]))]
    levels: list[list[tuple[int, int | None]]] = [[*leaves]]
    for _ in range(limit - 1):
        below = levels[-1]
        packages = [(below[at][0] + below[at + 1][0], None) for at in range(0, len(below) - 1, 2)]
        levels.append(sorted([*leaves, *packages], key=lambda coin: coin[0]))
    lengths, wanted = dict.fromkeys(weights, 0), 2 * len(weights) - 2
    for level in reversed(levels):  # a package that is taken takes two coins of the level below
        taken = [symbol for _, symbol in level[:wanted]]
        for symbol in taken:
            if symbol is not None:
                lengths[symbol] += 1
        wanted = 2 * taken.count(None)
    return lengths


def canonical(lengths: dict[int, int]) -> dict[int, tuple[int, int]]:
    """Return {symbol: (code, length)}: codes in numerical order, shorter first, then by symbol."""
    code, previous, table = 0, 0, {}
    for symbol, length in sorted(lengths.items(), key=lambda item: (item[1], item[0])):
        code <<= length - previous
        table[symbol] = (code, length)
        code, previous = code + 1, length
    return table


def _header(coder: Encoder | Decoder, lengths: dict[int, int] | None = None) -> dict[int, int]:
    """Write or read the code book: symbols as gaps from the lowest one, and their lengths."""
    gaps, widths = Counts(), Counts()
    items = sorted(lengths.items()) if lengths is not None else None
    count = gaps.code(coder, None if items is None else len(items))
    if count > 1 << 20:
        raise Damaged(f"a Huffman table of {count} symbols is too large")
    found: dict[int, int] = {}
    symbol = 0
    for at in range(count):
        gap = None if items is None else items[at][0] - symbol
        if at == 0:
            folded = gaps.code(coder, None if gap is None else 2 * gap if gap >= 0 else -2 * gap - 1)
            symbol = folded // 2 if folded % 2 == 0 else -(folded + 1) // 2
        else:
            symbol += gaps.code(coder, gap)
        found[symbol] = widths.code(coder, None if items is None else items[at][1])
    return found


@part("code.huffman", Card(title="Huffman code", paper="doi:10.1109/JRPROC.1952.273898", year=1952, authors="Huffman",
                           source="A Method for the Construction of Minimum-Redundancy Codes; as used in arxiv:1510.00149, section 4",
                           changes={"bytes"}))  # fmt: skip
@dataclass(frozen=True)
class Huffman:
    """Code integers with a canonical Huffman code over their own frequencies; the code lengths are stored in front.

    limit: of a code's length in bits, for decoders with tables (doi:10.1145/79147.79150); 0 for none.
    """

    limit: int = knob(0, low=0, high=32, search=False)

    def encode(self, array: np.ndarray) -> bytes:
        """Return the code of an integer array, read in C order: length of the table, table, codes."""
        symbols = np.asarray(array).ravel().tolist()
        if not symbols:
            return b""
        weights = Counter(symbols)
        lengths = limited_lengths(weights, self.limit) if self.limit else code_lengths(weights)
        table = canonical(lengths)
        coder = Encoder()
        _header(coder, lengths)
        head = coder.finish()
        bits = "".join(format(code, f"0{length}b") for code, length in map(table.__getitem__, symbols))
        body = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
        return len(head).to_bytes(3, "big") + head + body

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the `size` integers (int64) that `encode` was given. Raises Damaged for what cannot be such a code."""
        if size == 0:
            return np.zeros(0, dtype=np.int64)
        split = 3 + int.from_bytes(data[:3], "big")
        lengths = _header(Decoder(data[3:split]))
        if not lengths or max(lengths.values()) > MAX_LENGTH or min(lengths.values()) < 1:
            raise Damaged("the Huffman table is not one")
        symbols = {(length, code): symbol for symbol, (code, length) in canonical(lengths).items()}
        values, code, length = [], 0, 0
        for bit in np.unpackbits(np.frombuffer(data[split:], dtype=np.uint8)).tolist():
            code, length = 2 * code + bit, length + 1
            if (length, code) in symbols:
                values.append(symbols[length, code])
                code = length = 0
                if len(values) == size:
                    return integers(values)
            elif length > MAX_LENGTH:
                break
        raise Damaged(f"the Huffman code ends after {len(values)} of {size} values")
