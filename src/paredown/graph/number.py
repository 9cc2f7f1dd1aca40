"""Number formats: which values there are, which bit pattern stands for each, and where all others are rounded to.

A format has the same four words whatever it is made of: `bits`, `encode` (values to bit patterns: to nearest, ties to
even, saturating), `decode` (exact, float64) and `rounded`. A bit pattern is an integer from 0 to 2^bits − 1, int64.
"""

import re
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from paredown.core.errors import BadInput
from paredown.graph.patterns import FLOAT_SIZES


class Number(Protocol):
    """A format of at most 32 bits; see the module's docstring."""

    @property
    def bits(self) -> int:
        """The width of a bit pattern."""

    def encode(self, x: Tensor) -> Tensor:
        """Return the bit pattern of the nearest value."""

    def decode(self, codes: Tensor) -> Tensor:
        """Return the value of each bit pattern, in float64."""


def rounded(x: Tensor, number: Number) -> Tensor:
    """Return the nearest value of the format, in the type of `x`."""
    return number.decode(number.encode(x)).to(x.dtype)


def values(number: Number) -> Tensor:
    """Return what every bit pattern stands for, in order of the patterns: 2^bits values, float64."""
    return number.decode(torch.arange(2**number.bits))


@dataclass(frozen=True)
class FixedPoint:
    """k · 2^−fraction for the integers k of `bits` bits, two's complement: Q(bits − fraction).(fraction); intN is fraction 0.

    symmetric: −2^(bits−1) is never encoded, so that −x is there for every x; it can still be decoded.
    """

    bits: int
    fraction: int = 0
    signed: bool = True
    symmetric: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 32:
            raise BadInput(f"fixed point of {self.bits} bits is not there; allowed: 1 to 32")

    @property
    def low(self) -> int:
        """The smallest integer k."""
        return -(2 ** (self.bits - 1)) + self.symmetric if self.signed else 0

    @property
    def high(self) -> int:
        """The largest integer k."""
        return 2 ** (self.bits - self.signed) - 1

    def encode(self, x: Tensor) -> Tensor:
        """Return the bit pattern of the nearest value. Raises BadInput for NaN."""
        if bool(x.isnan().any()):
            raise BadInput(f"NaN cannot be held in fixed point of {self.bits} bits")
        whole = (x.double() * 2.0**self.fraction).round().clamp(self.low, self.high)
        return whole.long() & (2**self.bits - 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the value of each bit pattern, in float64."""
        whole = codes.long()
        if self.signed:
            whole = whole - ((whole >> (self.bits - 1)) << self.bits)
        return whole.double() * 2.0**-self.fraction


@dataclass(frozen=True)
class Minifloat:
    """Sign, exponent and mantissa: ±(1 + f / 2^mantissa) · 2^(E − bias), and ±f / 2^mantissa · 2^(1 − bias) where E = 0.

    specials: "ieee" keeps the highest exponent for infinities and NaN, "nan" only its last pattern for NaN, "none" has
    neither. Without mantissa bits this is zero and the powers of two (ties go up: there is no even neighbour).
    """

    exponent: int
    mantissa: int
    bias: int
    specials: str = "none"

    def __post_init__(self) -> None:
        if self.specials not in ("ieee", "nan", "none") or not 1 <= self.exponent <= 8 or not 0 <= self.mantissa <= 23:
            raise BadInput(f"{self} is no format; exponent 1 to 8, mantissa 0 to 23, specials one of ieee, nan, none")

    @property
    def bits(self) -> int:
        """The width of a bit pattern."""
        return 1 + self.exponent + self.mantissa

    @property
    def highest_exponent(self) -> int:
        """The exponent e of the largest finite value, 2^e ≤ value < 2^(e+1)."""
        return 2**self.exponent - 1 - (self.specials == "ieee") - self.bias

    @property
    def top(self) -> int:
        """The bit pattern of the largest finite value."""
        full = 2 ** (self.exponent + self.mantissa) - 1
        return full - {"ieee": 2**self.mantissa, "nan": 1, "none": 0}[self.specials]

    @property
    def largest(self) -> float:
        """The largest finite value."""
        return float(self.decode(torch.tensor(self.top)))

    def encode(self, x: Tensor, saturate: bool = True) -> Tensor:
        """Return the bit pattern of the nearest value; a saturating cast has no infinities, another has them (or NaN).

        Raises BadInput for NaN where the format has none.
        """
        size = x.double().abs().clamp(max=2 * self.largest)
        least = 1 - self.bias
        exponent = torch.where(size > 0, torch.frexp(size).exponent.long() - 1, least).clamp(min=least)
        steps = (size / power(exponent - self.mantissa)).round().long()
        code = ((exponent - least) << self.mantissa) + steps
        beyond = self.top if saturate or self.specials == "none" else self.top + 1
        code = torch.where(code > self.top, beyond, code)
        if bool((bad := x.isnan()).any()):
            if self.specials == "none":
                raise BadInput(f"NaN cannot be held in {self}")
            code = torch.where(bad, 2 ** (self.exponent + self.mantissa) - 1, code)
        return code + (x.signbit().long() << (self.bits - 1))

    def decode(self, codes: Tensor) -> Tensor:
        """Return the value of each bit pattern, in float64."""
        code = codes.long()
        fraction = code & (2**self.mantissa - 1)
        exponent = (code >> self.mantissa) & (2**self.exponent - 1)
        steps = torch.where(exponent > 0, fraction + 2**self.mantissa, fraction)
        size = steps * power(exponent.clamp(min=1) - self.bias - self.mantissa)
        beyond = (code & (2 ** (self.bits - 1) - 1)) - self.top
        first = torch.inf if self.specials == "ieee" else torch.nan
        size = torch.where(beyond > 0, torch.where(beyond == 1, first, torch.nan), size)
        return torch.where((code >> (self.bits - 1)) > 0, -size, size)


def power(exponent: Tensor) -> Tensor:
    """Return 2^exponent exactly, in float64, for −1022 … 1023: made of its bits, since exp2 may round."""
    return ((exponent.long() + 1023) << 52).view(torch.float64)


FLOATS: dict[str, Minifloat] = {name: Minifloat(*sizes) for name, sizes in FLOAT_SIZES.items()}
"""The named formats, from fp32 to fp4; `graph.patterns` has their sizes and sources."""


def number_named(name: str) -> Number:
    """Return the format called "fp8_e4m3", "int4" (symmetric), "uint4" or "q1.6". Raises BadInput."""
    if name in FLOATS:
        return FLOATS[name]
    if found := re.fullmatch(r"(u?)int(\d{1,2})", name):
        return FixedPoint(int(found[2]), signed=not found[1], symmetric=not found[1])
    if found := re.fullmatch(r"q(\d{1,2})\.(\d{1,2})", name):
        return FixedPoint(int(found[1]) + int(found[2]), int(found[2]), symmetric=True)
    raise BadInput(f"number format {name!r} is unknown; there are {', '.join(FLOATS)}, int4, uint4, q2.6 and the like")


def packed(codes: Tensor, bits: int) -> bytes:
    """Return bit patterns of `bits` bits end to end, least significant bit first, the last byte filled with zeros."""
    spread = (codes.flatten().long().cpu()[:, None] >> torch.arange(bits)) & 1
    flat = torch.nn.functional.pad(spread.flatten(), (0, -spread.numel() % 8)).view(-1, 8)
    return bytes((flat << torch.arange(8)).sum(1).tolist())


def unpacked(data: bytes, count: int, bits: int) -> Tensor:
    """Return the first `count` bit patterns of `bits` bits. Raises BadInput if there are fewer."""
    if len(data) * 8 < count * bits:
        raise BadInput(f"{len(data)} bytes do not hold {count} codes of {bits} bits")
    flat = (torch.tensor(list(data), dtype=torch.long)[:, None] >> torch.arange(8)) & 1
    return (flat.flatten()[: count * bits].view(count, bits) << torch.arange(bits)).sum(1)
