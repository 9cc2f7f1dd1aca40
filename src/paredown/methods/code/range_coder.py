"""A binary range coder with adaptive contexts, and a model of whole numbers on top of it. Integers only; needs no torch.

Each model is written once and serves both directions: a coder's `bit(context, value)` writes `value`, or ignores it and
returns the bit that was written. So the encoder and the decoder cannot drift apart. `kernels/c/pdn_coder.h` does the same in C.
"""

from typing import Protocol

import numpy as np

from paredown.core.errors import Damaged

ONE = 1 << 22
"""A probability of 1 in a context."""
LIMIT = 255
"""A context learns as if it had seen no more bits than this, so that it follows changing data."""
LEFT_OUT = 64
"""At most so many zero bytes at the end of a code are left out; a decoder that has to make up more refuses."""
WIDEST = 66
"""Bits of the longest number that can be coded: what 64-bit integers need at most."""

LEAST = 1 << 5
"""No bit is taken to be less likely than this share of 65536: so a few bytes cannot stand for millions of bits."""

_SMALLEST, _MASK = 1 << 24, (1 << 32) - 1
_SHARE = tuple((1 << 16) // (seen + 2) for seen in range(LIMIT + 1))

Context = list[int]
"""[probability of a 1, times ONE; how many bits were seen, at most LIMIT]."""


class Coder(Protocol):
    """One direction of coding."""

    def bit(self, context: Context, value: int | None = None) -> int: ...
    def even(self, width: int, value: int | None = None) -> int: ...
    def position(self) -> int: ...


def context() -> Context:
    """Return a fresh binary context."""
    return [ONE // 2, 0]


def forget(ctx: Context, seen: int) -> None:
    """Let a context keep what it expects, but learn as if it had seen no more than `seen` bits."""
    ctx[1] = min(ctx[1], seen)


def _learn(ctx: Context, bit: int) -> None:
    """Move towards the bit by 1/(n + 2): Krichevsky and Trofimov's estimate for the first LIMIT bits, a fixed rate beyond."""
    p, seen = ctx
    ctx[0] = p + ((ONE - p) * _SHARE[seen] >> 16) if bit else p - (p * _SHARE[seen] >> 16)
    if seen < LIMIT:
        ctx[1] = seen + 1


class Encoder:
    """Writes bits (Martin 1979's range coder over bits, as in LZMA: 32 bits of range, carries go into the bytes written)."""

    def __init__(self) -> None:
        self.low, self.range = 0, _MASK
        self.out = bytearray()

    def bit(self, context: Context, value: int | None = None) -> int:
        """Write `value` (0 or 1) as the context expects it, and let the context learn it."""
        bound = (self.range >> 16) * min(max(context[0] >> 6, LEAST), (1 << 16) - LEAST)
        if value:
            self.range = bound
        else:
            self._up(bound)
            self.range -= bound
        _learn(context, 1 if value else 0)
        while self.range < _SMALLEST:
            self._shift()
        return 1 if value else 0

    def even(self, width: int, value: int | None = None) -> int:
        """Write the `width` low bits of `value`, most significant first, each taken to be as likely 0 as 1."""
        for at in range(width - 1, -1, -1):
            self.range >>= 1
            if (value or 0) >> at & 1:
                self._up(self.range)
            if self.range < _SMALLEST:
                self._shift()
        return value or 0

    def _up(self, by: int) -> None:
        self.low += by
        if self.low > _MASK:
            self.low &= _MASK
            self._carry()

    def _carry(self) -> None:
        at = len(self.out) - 1
        while self.out[at] == 255:
            self.out[at] = 0
            at -= 1
        self.out[at] += 1

    def _shift(self) -> None:
        self.out.append(self.low >> 24)
        self.low, self.range = self.low << 8 & _MASK, self.range << 8

    def position(self) -> int:
        """Return about how many bits were written so far."""
        return 8 * len(self.out) + 32 - self.range.bit_length()

    def finish(self) -> bytes:
        """Return the bytes: of all the codes that are left, the one that ends in the most zeros, and those left out.

        A decoder reads zeros past the end; no more than 64 of them are left out.
        """
        top = self.low + self.range - 1
        shift = next(s for s in range(32, -1, -1) if top >> s << s >= self.low)
        last = top >> shift << shift
        if last > _MASK:
            self._carry()
        packed = bytes(self.out) + (last & _MASK).to_bytes(4, "big")
        return packed[: max(len(packed.rstrip(b"\0")), len(packed) - LEFT_OUT)]


class Decoder:
    """Reads what an Encoder wrote."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.range, self.code = _MASK, 0
        for _ in range(4):
            self._shift()

    def _shift(self) -> None:
        byte = self.data[self.at] if self.at < len(self.data) else 0
        self.at += 1
        if self.at > len(self.data) + LEFT_OUT + 4:
            raise Damaged("the coded data ends too early")
        self.code = (self.code << 8 & _MASK) | byte

    def bit(self, context: Context, value: int | None = None) -> int:
        """Return the next bit, and let the context learn it."""
        bound = (self.range >> 16) * min(max(context[0] >> 6, LEAST), (1 << 16) - LEAST)
        bit = self.code < bound
        if bit:
            self.range = bound
        else:
            self.code -= bound
            self.range -= bound
        _learn(context, bit)
        while self.range < _SMALLEST:
            self.range <<= 8
            self._shift()
        return int(bit)

    def even(self, width: int, value: int | None = None) -> int:
        """Return the next `width` bits as a number."""
        number = 0
        for _ in range(width):
            self.range >>= 1
            bit = self.code >= self.range
            if bit:
                self.code -= self.range
            number = 2 * number + bit
            if self.range < _SMALLEST:
                self.range <<= 8
                self._shift()
        return number

    def position(self) -> int:
        """Return 0: nothing is written."""
        return 0

    def ended(self) -> bool:
        """Return whether all of the data has been read, but for what the last code could not avoid."""
        return self.at >= len(self.data)


class Counts:
    """A model of whole numbers from 0: Elias-gamma's shape with a learned context for each bit of the length."""

    def __init__(self) -> None:
        self.length = [context() for _ in range(WIDEST)]
        self.top = [context() for _ in range(WIDEST + 1)]

    def code(self, coder: Coder, value: int | None = None) -> int:
        """Write or read one number. Raises Damaged for one of more than 66 bits."""
        target = None if value is None else (value + 1).bit_length() - 1
        width = 0
        while coder.bit(self.length[width], None if target is None else target > width):
            width += 1
            if width == WIDEST:
                raise Damaged("a number in the coded data is too large")
        if width == 0:
            return 0
        first = coder.bit(self.top[width], None if value is None else (value + 1) >> (width - 1) & 1)
        rest = coder.even(width - 1, None if value is None else (value + 1) & ((1 << (width - 1)) - 1))
        return ((2 + first) << (width - 1) | rest) - 1


def integers(values: list[int]) -> np.ndarray:
    """Return the numbers as int64. Raises Damaged when one does not fit."""
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError as error:
        raise Damaged("a number in the coded data is too large") from error
