"""Weights in blocks and small floats, in the packed container: bit patterns at their width, steps in theirs.

One description serves writing and reading, so they cannot drift. See docs/packed-format.md. Needs no torch.
"""

import math

import numpy as np

from paredown.core.errors import BadInput, Damaged
from paredown.graph.frozen import Blocks
from paredown.graph.patterns import FLOAT_SIZES, WIDEST, integers, whole_number, width
from paredown.targets.scribe import Scribe

BLOCKED = 17
"""In the place of a tensor's width: it is in blocks. Readers that do not know blocks refuse it as too wide."""

NUMBERS = ("int", "uint", "q", "bf16", "fp16", "fp8_e4m3", "fp8_e5m2", "fp6_e3m2", "fp6_e2m3", "fp4_e2m1")
SCALES = ("float", "half", "power", "paired", "whole")
PAIR, SHARED = 2, 8
"""Weights to a microexponent, and pairs to a shared exponent (`grid.shared_microexponents`)."""

MOST_WHOLE = 4095
"""The largest whole number that steps are coded as by a table of contexts."""


class BlockScribe(Scribe):
    """Writes or reads weights in blocks; every method takes what to write, or None."""

    def blocks(self, shape: tuple[int, ...], stored: Blocks | None = None) -> Blocks:
        """The format, the steps and zero points, the codes."""
        number, block = self.charged("graph", self.layout, stored)
        told = None if stored is None else (len(stored.step) == 1, stored.coarse is not None, stored.zero is not None)
        single, two, shifted = (
            self.charged("graph", self.flag, name, None if told is None else told[at])
            for at, name in enumerate(("one row", "two levels", "zero point"))
        )
        rows, inner = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))
        dims = (1 if single else rows, -(-inner // block))
        coarse = None
        if two:
            given = None if stored is None else stored.coarse
            coarse = self.charged("scales", self.scales, (dims[0], 1), block, given)
        step = self.charged("scales", self.scales, dims, block, None if stored is None else stored.step)
        zero = self.charged("scales", self.zeros, dims, stored) if shifted else None
        made = Blocks(np.zeros(shape, np.uint8) if stored is None else stored.codes, step, number, block, zero, coarse)
        item = "weights" if len(shape) > 1 else "biases"
        codes = self.charged(item, self.patterns, made, stored is not None)
        return Blocks(codes, step, number, block, zero, coarse)

    def layout(self, stored: Blocks | None = None) -> tuple[str, int]:
        """The number format and the length of a block."""
        whole = None if stored is None else whole_number(stored.number)
        name = None if stored is None else whole[0] if whole else stored.number
        if name is not None and name not in NUMBERS:
            raise BadInput(f"weights of the number format {name} cannot be packed; allowed: {', '.join(NUMBERS)}")
        number = NUMBERS[self.count("number", None if name is None else NUMBERS.index(name))]
        if number in ("int", "uint", "q"):
            bits = self.count("number bits", None if whole is None else whole[1])
            if not 1 <= bits <= WIDEST:
                raise Damaged(f"codes of {bits} bits are not allowed")
            fraction = self.count("fraction", None if whole is None else whole[2]) if number == "q" else 0
            if fraction > bits:
                raise Damaged(f"{bits} bits have no {fraction} fraction bits")
            number = f"q{bits - fraction}.{fraction}" if number == "q" else f"{number}{bits}"
        block = self.count("block", None if stored is None else stored.block)
        if block < 1:
            raise Damaged("a block of no weights is not allowed")
        return number, block

    def scales(self, dims: tuple[int, int], block: int, values: np.ndarray | None = None) -> np.ndarray:
        """Steps, float32 of shape `dims`, in the narrowest form that holds them all exactly."""
        if values is not None and values.shape != dims:
            raise BadInput(f"steps of shape {values.shape} cannot be packed; allowed: {dims}")
        told = None if values is None else SCALES.index(step_form(values, block))
        form = SCALES[self.count("scale form", told)]
        flat = None if values is None else values.ravel()
        found = getattr(self, f"scales_{form}")(dims, flat)
        return np.array(found, dtype=np.float32).reshape(dims)

    def scales_float(self, dims: tuple[int, int], values: np.ndarray | None = None) -> list[float]:
        """Floats of four significant bits where they are enough, else of 32."""
        return [self.step(None if values is None else float(values[at])) for at in range(math.prod(dims))]

    def scales_half(self, dims: tuple[int, int], values: np.ndarray | None = None) -> np.ndarray:
        """Half precision: the exponent as the change from the last one, ten even bits."""
        given = None if values is None else values.astype(np.float16).view(np.uint16).tolist()
        found, last = [], 0
        for at in range(math.prod(dims)):
            last += self.integer("half exponent", None if given is None else (given[at] >> 10) - last)
            found.append(last << 10 | self.coder.even(10, None if given is None else given[at] & 1023))
        if not all(0 <= pattern < 0x7C00 for pattern in found):
            raise Damaged("a step is beyond half precision")
        return np.array(found, dtype=np.uint16).view(np.float16)

    def scales_power(self, dims: tuple[int, int], values: np.ndarray | None = None) -> np.ndarray:
        """Powers of two: the exponent as the change from the last one."""
        given = None if values is None else exponents_of(values).tolist()
        found, last = [], 0
        for at in range(math.prod(dims)):
            last += self.integer("power", None if given is None else given[at] - last)
            found.append(last)
        return _powers(found)

    def scales_paired(self, dims: tuple[int, int], values: np.ndarray | None = None) -> np.ndarray:
        """Powers of two, each one shared by 8 steps of a row as a power, and one flag a step: half of it."""
        given = None if values is None else exponents_of(values).reshape(dims)
        found, last = [], 0
        for row, at in ((row, at) for row in range(dims[0]) for at in range(0, dims[1], SHARED)):
            part = None if given is None else given[row, at : at + SHARED].tolist()
            last += self.integer("power", None if part is None else max(part) - last)
            for place in range(min(SHARED, dims[1] - at)):
                found.append(last - self.flag("lower", None if part is None else part[place] < last))
        return _powers(found)

    def scales_whole(self, dims: tuple[int, int], values: np.ndarray | None = None) -> np.ndarray:
        """Small whole numbers, through a tree of contexts."""
        most = self.count("largest scale", None if values is None else int(values.max()))
        if most > MOST_WHOLE:
            raise Damaged(f"whole steps up to {most} are not allowed")
        return self.indices(math.prod(dims), most + 1, None if values is None else values.astype(np.int64))

    def zeros(self, dims: tuple[int, int], stored: Blocks | None = None) -> np.ndarray:
        """Zero points, each as the change from the last one."""
        given = None if stored is None or stored.zero is None else stored.zero.ravel().tolist()
        found, last = [], 0
        for at in range(math.prod(dims)):
            last += self.integer("zero point", None if given is None else int(given[at]) - last)
            found.append(last)
        return np.array(found, dtype=np.int32).reshape(dims)

    def patterns(self, made: Blocks, writing: bool) -> np.ndarray:
        """The codes: whole numbers as levels around 0 or their zero point, others through a tree of contexts.

        Unsigned ones of up to 8 bits too: less their zero points they would spread over twice as many levels.
        """
        bits, shape, size = width(made.number), made.shape, made.codes.size
        flat = made.codes.ravel().astype(np.int32) if writing else None
        if flat is not None and size and not 0 <= flat.min() <= flat.max() < 2**bits:
            raise Damaged(f"a code does not fit its {bits} bits")
        if whole_number(made.number) is None:
            found = self.float_patterns(made.number, shape, flat)
        elif made.number[0] == "u" and bits <= 8:
            found = self.indices(size, 1 << bits, flat).astype(np.int32)
        else:
            zero = 0 if made.zero is None else np.broadcast_to(made.spread(made.zero.astype(np.int32)), shape)
            levels = (integers(made.codes, made.number) - zero).reshape(1, -1) if writing else None
            kind = "matrix" if len(shape) > 1 else "vector"
            read = self.levels([kind], size, levels, shape).reshape(shape) + zero
            low, high = (0, 2**bits - 1) if made.number[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
            if size and not low <= read.min() <= read.max() <= high:
                raise Damaged(f"a code does not fit its {bits} bits")
            found = read & (2**bits - 1)
        if made.zero is not None and made.zero.size and not 0 <= made.zero.min() <= made.zero.max() < 2**bits:
            raise Damaged(f"a zero point does not fit its {bits} bits")
        return found.astype(np.uint8 if bits <= 8 else np.int32).reshape(shape)

    def float_patterns(self, number: str, shape: tuple[int, ...], codes: np.ndarray | None = None) -> np.ndarray:
        """Bit patterns of a float format; of more than 8 bits the mantissa is as it is, bit by bit."""
        bits, mantissa, size = width(number), FLOAT_SIZES[number][1], math.prod(shape)
        low = mantissa if bits > 8 else 0
        upper = None if codes is None else codes >> low
        found = self.indices(size, 1 << (bits - low), upper, shape).astype(np.int32) << low
        if not low:
            return found
        places = np.arange(low - 1, -1, -1)
        spread = None if codes is None else np.packbits((codes[:, None] >> places & 1).astype(np.uint8))
        raw = self.blob(np.dtype(np.uint8), -(-size * low // 8), spread)
        rest = np.unpackbits(raw, count=size * low).reshape(size, low).astype(np.int32)
        return found | (rest << places).sum(1, dtype=np.int32)


def step_form(values: np.ndarray, block: int) -> str:
    """Return the narrowest form of SCALES that holds these steps exactly; one step alone is a float."""
    if values.size < 2 or not (np.isfinite(values).all() and (values > 0).all()):
        return "float"
    if (np.frexp(values)[0] == 0.5).all():
        return "paired" if block == PAIR and _is_paired(exponents_of(values)) else "power"
    if values.max() <= MOST_WHOLE and (values == np.rint(values)).all():
        return "whole"
    with np.errstate(over="ignore"):
        half = values.astype(np.float16).astype(np.float32)
    return "half" if (half == values).all() else "float"


def _is_paired(exponents: np.ndarray) -> bool:
    """Return whether no step is below half of the largest of its 8 neighbours."""
    for at in range(0, exponents.shape[1], SHARED):
        part = exponents[:, at : at + SHARED]
        if (part.max(1) - part.min(1) > 1).any():
            return False
    return True


def exponents_of(values: np.ndarray) -> np.ndarray:
    """Return e of each power of two 2^e."""
    return np.frexp(values)[1].astype(np.int64) - 1


def _powers(exponents: list[int]) -> np.ndarray:
    if not all(-149 <= exponent <= 127 for exponent in exponents):
        raise Damaged("a step is beyond the powers of two that float32 has")
    return np.ldexp(np.float32(1), np.array(exponents, dtype=np.int32)).astype(np.float32)
