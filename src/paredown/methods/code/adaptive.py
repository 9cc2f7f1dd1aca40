"""A model of signed integers around zero under the range coder, and the codec that it makes. Needs no torch."""

from dataclasses import dataclass

import numpy as np

from paredown.core.catalog import Card, part
from paredown.core.errors import Damaged
from paredown.methods.code.range_coder import WIDEST, Coder, Context, Decoder, Encoder, context, forget, integers
from paredown.methods.code.zeros import Zeros

STEPS = 2
"""How far beyond 1 a size is told step by step; what is beyond that has the shape of Elias's gamma code."""
TOLD = 3
"""So many digits after the first one of what is beyond have contexts, the rest are even."""
KEPT = 6
"""What was learned from one tensor counts as so many bits for the next."""

_NEAR = (0, 1, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 6)
_COARSE = (0, 1, 2)
NEXT = ((0, 2), (5, 7), (1, 3), (6, 4), (2, 0), (4, 6), (3, 1), (7, 5))
"""The trellis of dependent rounding: the state after a level of even and of odd number (ISO/IEC 15938-17, 8 states)."""


def neighbourhood(near: int, fine: bool) -> int:
    """Return the class, 0 to 9 (fine) or 0 to 2, of two neighbours whose sizes sum to `near`."""
    if not fine:
        return _COARSE[min(near, 2)]
    return _NEAR[near] if near <= 20 else 7 if near <= 40 else 8 if near <= 80 else 9


class Levels:
    """A model of signed integers around zero: is it zero, its sign, its size.

    What is expected depends on the sizes of the two levels before it (DeepCABAC's idea: Wiedemann et al. 2020, section
    III-B). fine: by ten classes for zeros and sizes; else, for few levels, by three for zeros alone. Sizes above 3 have
    contexts for the number of their binary digits and for the three digits after the first.
    """

    def __init__(self, fine: bool = False) -> None:
        self.fine = fine
        classes = 10 if fine else 1
        self.zero = [context() for _ in range(20 if fine else 6)]
        self.sign = context()
        self.more = [[context() for _ in range(STEPS)] for _ in range(classes)]
        self.length = [[context() for _ in range(WIDEST + 1)] for _ in range(classes)]
        self.digits = [[context() for _ in range((1 << TOLD) - 1)] for _ in range(WIDEST + 1)]

    def relax(self) -> "Levels":
        """Return the model for a tensor to come: what was learned counts, but no more than a few symbols' worth."""
        for ctx in self.zero:
            forget(ctx, KEPT)
        for group in (*self.more, *self.length, *self.digits):
            for ctx in group:
                forget(ctx, KEPT)
        self.sign = context()
        return self

    def code(
        self, coder: Coder, near: int, value: int | None = None, other: int = 0, zeros: Zeros | None = None
    ) -> int:
        """Write or read one level whose two neighbours' sizes sum to `near`. other: 1 for the second of two roundings."""
        seen = neighbourhood(near, self.fine)
        there = None if zeros is None else zeros.told(coder, None if value is None else value != 0)
        if there is None:
            zero = self.zero[seen + (len(self.zero) // 2 if other else 0)]
            there = bool(coder.bit(zero, None if value is None else value != 0))
        if not there:
            return 0
        negative = coder.bit(self.sign, None if value is None else value < 0)
        target = None if value is None else abs(value)
        kind = seen if self.fine else 0
        size = 1
        for ctx in self.more[kind]:
            if not coder.bit(ctx, None if target is None else target > size):
                return -size if negative else size
            size += 1
        size += self._beyond(coder, self.length[kind], None if target is None else target - size)
        return -size if negative else size

    def _beyond(self, coder: Coder, length: list[Context], value: int | None = None) -> int:
        """Write or read a number from 0."""
        target = None if value is None else (value + 1).bit_length() - 1
        width = 0
        while coder.bit(length[width], None if target is None else target > width):
            width += 1
            if width == WIDEST:
                raise Damaged("a number in the coded data is too large")
        told = min(TOLD, width)
        place = 1
        for at in range(1, told + 1):
            bit = coder.bit(self.digits[width][place - 1], None if value is None else (value + 1) >> (width - at) & 1)
            place = 2 * place + bit
        rest = width - told
        low = coder.even(rest, None if value is None else (value + 1) & ((1 << rest) - 1))
        return (place << rest | low) - 1

    def row(self, coder: Coder, count: int, values: list[int] | None = None, zeros: Zeros | None = None) -> list[int]:
        """Write or read `count` levels in order; `zeros` tells first of those that lie by a pattern."""
        done: list[int] = []
        before = last = 0
        for at in range(count):
            level = self.code(coder, before + last, None if values is None else values[at], 0, zeros)
            done.append(level)
            before, last = last, abs(level)
        return done

    def dependent_row(
        self, coder: Coder, count: int, values: list[int] | None = None, zeros: Zeros | None = None
    ) -> list[int]:
        """Write or read `count` levels of which each is even, or odd or zero, as the numbers before it say.

        A level v stands as the number k: v = 2k where the state is below 4, else v = 2k − sign(k); k's last bit
        chooses the next state (NEXT). So the numbers are half as large as the levels. The levels must be `dependent`.
        """
        done: list[int] = []
        before = last = state = 0
        for at in range(count):
            odd = state > 3
            number = None if values is None else _number(values[at], odd)
            number = self.code(coder, before + last, number, odd, zeros)
            done.append(2 * number - (odd * ((number > 0) - (number < 0))))
            before, last, state = last, abs(number), NEXT[state][number & 1]
        return done


def _number(level: int, odd: bool) -> int:
    return (level + ((level > 0) - (level < 0))) // 2 if odd else level // 2


def numbers(values: np.ndarray) -> np.ndarray:
    """Return what dependent levels stand as, in one dimension."""
    state, found = 0, []
    for level in map(int, values.flat):
        found.append(_number(level, state > 3))
        state = NEXT[state][found[-1] & 1]
    return np.array(found, dtype=np.int64)


def dependent(values: np.ndarray) -> bool:
    """Return whether integers, read in C order, can be told by `Levels.dependent_row`."""
    state = 0
    for level in map(int, values.flat):  # one by one: most are found out within a few
        odd = state > 3
        if level and level % 2 != odd:
            return False
        state = NEXT[state][_number(level, odd) & 1]
    return True


@part("code.adaptive", Card(title="Adaptive context-modelled arithmetic code", paper="arxiv:1907.11900", year=2020,
                            authors="Wiedemann, Kirchhoffer, Matlage, Haase, Marban, Marinc, Neumann, Nguyen, Schwarz, Wiegand, Marpe, Samek",
                            source="DeepCABAC, section III-B; range coding after Martin 1979",
                            changes={"bytes"}))  # fmt: skip
@dataclass(frozen=True)
class Adaptive:
    """Code signed integers as they come, learning their distribution on the way; no table is stored."""

    def encode(self, array: np.ndarray) -> bytes:
        """Return the code of an integer array, read in C order."""
        coder = Encoder()
        values = np.asarray(array).ravel().tolist()
        Levels(len(values) >= FINE).row(coder, len(values), values)
        return coder.finish()

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the `size` integers (int64) that `encode` was given. Raises Damaged for what cannot be such a code."""
        return integers(Levels(size >= FINE).row(Decoder(data), size))


FINE = 2048
"""From so many levels on the fine model is the smaller: measured on networks of 1,600 to 270,000 weights."""
