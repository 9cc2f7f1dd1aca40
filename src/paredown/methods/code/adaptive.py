"""An adaptive binary arithmetic coder, and models of integers on top of it. Integers only; needs no torch.

Each model is written once and serves both directions: a coder's `bit(context, value)` writes `value`, or ignores it and
returns the bit that was written. So the encoder and the decoder cannot drift apart.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from paredown.core.catalog import Card, part
from paredown.core.errors import Damaged

_TOP, _HALF, _QUARTER = 1 << 32, 1 << 31, 1 << 30
LIMIT = 1 << 10
"""A context's counts are halved when they reach this sum, so that it follows changing data."""

LEFT_OUT = 64
"""At most so many zero bytes at the end of a code are left out; a decoder that has to make up more refuses."""

WIDEST = 66
"""Bits of the longest number that can be coded: what 64-bit integers need at most."""

Context = list[int]


class Coder(Protocol):
    """One direction of coding."""

    def bit(self, context: Context, value: int | None = None) -> int: ...
    def even(self, width: int, value: int | None = None) -> int: ...


def context() -> Context:
    """Return a fresh binary context: how often 0 and 1 were seen, doubled plus one (Krichevsky–Trofimov)."""
    return [1, 1]


def _seen(ctx: Context, bit: int) -> None:
    ctx[bit] += 2
    if ctx[0] + ctx[1] > LIMIT:
        ctx[0], ctx[1] = ctx[0] // 2 | 1, ctx[1] // 2 | 1


class Encoder:
    """Writes bits (Witten, Neal & Cleary 1987, with 32-bit registers)."""

    def __init__(self) -> None:
        self.low, self.high, self.pending = 0, _TOP - 1, 0
        self.out: list[int] = []

    def bit(self, context: Context, value: int | None = None) -> int:
        """Write `value` (0 or 1) as the context expects it, and let the context learn it."""
        value = int(bool(value))
        split = self.low + (self.high - self.low) * context[0] // (context[0] + context[1])
        if value:
            self.low = split + 1
        else:
            self.high = split
        _seen(context, value)
        self._normalise()
        return value

    def even(self, width: int, value: int | None = None) -> int:
        """Write the `width` low bits of `value`, most significant first, each taken to be as likely 0 as 1."""
        for at in range(width - 1, -1, -1):
            self.bit([1, 1], (value or 0) >> at & 1)
        return value or 0

    def _emit(self, bit: int) -> None:
        self.out.append(bit)
        self.out.extend([1 - bit] * self.pending)
        self.pending = 0

    def _normalise(self) -> None:
        while True:
            if self.high < _HALF:
                self._emit(0)
            elif self.low >= _HALF:
                self._emit(1)
                self.low, self.high = self.low - _HALF, self.high - _HALF
            elif self.low >= _QUARTER and self.high < 3 * _QUARTER:
                self.pending += 1
                self.low, self.high = self.low - _QUARTER, self.high - _QUARTER
            else:
                return
            self.low, self.high = 2 * self.low, 2 * self.high + 1

    def finish(self) -> bytes:
        """Return the bytes. Up to 64 zero bytes at the end are left out: a decoder reads zeros past the end."""
        if self.low > 0 or self.pending:
            self.pending += 1
            self._emit(0 if self.low < _QUARTER else 1)
        packed = np.packbits(np.array(self.out, dtype=np.uint8)).tobytes()
        return packed[: max(len(packed.rstrip(b"\0")), len(packed) - LEFT_OUT)]


class Decoder:
    """Reads what an Encoder wrote."""

    def __init__(self, data: bytes) -> None:
        self.bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8)).tolist()
        self.at, self.low, self.high, self.code = 0, 0, _TOP - 1, 0
        for _ in range(32):
            self.code = 2 * self.code + self._next()

    def _next(self) -> int:
        self.at += 1
        if self.at > len(self.bits) + 8 * LEFT_OUT + 32:
            raise Damaged("the coded data ends too early")
        return self.bits[self.at - 1] if self.at <= len(self.bits) else 0

    def bit(self, context: Context, value: int | None = None) -> int:
        """Return the next bit, and let the context learn it."""
        split = self.low + (self.high - self.low) * context[0] // (context[0] + context[1])
        bit = int(self.code > split)
        if bit:
            self.low = split + 1
        else:
            self.high = split
        _seen(context, bit)
        self._normalise()
        return bit

    def even(self, width: int, value: int | None = None) -> int:
        """Return the next `width` bits as a number."""
        number = 0
        for _ in range(width):
            number = 2 * number + self.bit([1, 1])
        return number

    def _normalise(self) -> None:
        while True:
            if self.high < _HALF:
                shift = 0
            elif self.low >= _HALF:
                shift = _HALF
            elif self.low >= _QUARTER and self.high < 3 * _QUARTER:
                shift = _QUARTER
            else:
                return
            self.low, self.high = 2 * (self.low - shift), 2 * (self.high - shift) + 1
            self.code = 2 * (self.code - shift) + self._next()


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


class Levels:
    """A model of signed integers around zero, in rows: is it zero, its sign, its size step by step.

    Whether a level is zero is expected from the sizes of the two levels before it in its row (DeepCABAC's idea:
    Wiedemann et al. 2020, section III-B); sizes have one context for each step, Elias-gamma beyond 14.
    """

    def __init__(self) -> None:
        self.zero = [context() for _ in range(3)]
        self.sign = context()
        self.more = [context() for _ in range(14)]
        self.rest = Counts()

    def relax(self) -> "Levels":
        """Return the model for a tensor to come: what was learned counts, but no more than a few symbols' worth."""
        for ctx in (*self.zero, *self.more):
            while ctx[0] + ctx[1] > 12:
                ctx[0], ctx[1] = ctx[0] // 2 | 1, ctx[1] // 2 | 1
        self.sign = context()
        return self

    def code(self, coder: Coder, near: int, value: int | None = None) -> int:
        """Write or read one level whose two neighbours' sizes sum to `near`."""
        known = value is not None
        if not coder.bit(self.zero[min(near, 2)], value != 0 if known else None):
            return 0
        negative = coder.bit(self.sign, value < 0 if value is not None else None)
        size, target = 1, abs(value) if value is not None else None
        while size < 15 and coder.bit(self.more[size - 1], None if target is None else target > size):
            size += 1
        if size == 15:
            size += self.rest.code(coder, None if target is None else target - 15)
        return -size if negative else size

    def row(self, coder: Coder, count: int, values: list[int] | None = None) -> list[int]:
        """Write or read `count` levels in order."""
        done: list[int] = []
        before = last = 0
        for at in range(count):
            level = self.code(coder, abs(before) + abs(last), None if values is None else values[at])
            done.append(level)
            before, last = last, level
        return done


@part("code.adaptive", Card(title="Adaptive context-modelled arithmetic code", paper="arxiv:1907.11900", year=2020,
                            authors="Wiedemann, Kirchhoffer, Matlage, Haase, Marban, Marinc, Neumann, Nguyen, Schwarz, Wiegand, Marpe, Samek",
                            source="DeepCABAC, section III-B; arithmetic coding after Witten, Neal, Cleary 1987",
                            changes={"bytes"}))  # fmt: skip
@dataclass(frozen=True)
class Adaptive:
    """Code signed integers as they come, learning their distribution on the way; no table is stored."""

    def encode(self, array: np.ndarray) -> bytes:
        """Return the code of an integer array, read in C order."""
        coder = Encoder()
        Levels().row(coder, array.size, np.asarray(array).ravel().tolist())
        return coder.finish()

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the `size` integers (int64) that `encode` was given. Raises Damaged for what cannot be such a code."""
        return integers(Levels().row(Decoder(data), size))


def integers(values: list[int]) -> np.ndarray:
    """Return the numbers as int64. Raises Damaged when one does not fit."""
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError as error:
        raise Damaged("a number in the coded data is too large") from error
