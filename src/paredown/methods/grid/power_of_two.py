"""Signed powers of two and zero: a multiplication becomes a shift."""

import math
from dataclasses import dataclass

from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.graph.number import Minifloat, values
from paredown.graph.slots import Codebook


def highest_power(largest: float) -> int:
    """Return n₁ = ⌊log₂(4 largest / 3)⌋, the exponent of the power of two nearest to `largest` (INQ, section 2.1)."""
    return math.floor(math.log2(4 * largest / 3)) if largest else 0


def powers(bits: int) -> Minifloat:
    """Return the format of zero and ±2^0, ±2^−1 … with `bits` bits: a floating point without mantissa bits."""
    return Minifloat(bits - 1, 0, 2 ** (bits - 1) - 1)


@part("grid.power_of_two", Card(title="Powers of two", paper="arxiv:1702.03044", year=2017,
                                authors="Zhou, Yao, Guo, Xu, Chen",
                                source="Incremental Network Quantization, section 2.1"))  # fmt: skip
@dataclass(frozen=True)
class PowerOfTwo:
    """Zero and ±2^n₁, ±2^(n₁−1), … with one sign bit and bits − 1 for the exponent; n₁ follows the largest weight.

    Weights go to the nearest value: 1.5 · 2^n goes up, and what lies below half of the smallest power is zero.
    """

    bits: int = knob(4, among=range(2, 9))

    def fit(self, weight: Tensor) -> Codebook:
        """Return the weight's codes with the table of powers."""
        plain, number = weight.detach(), powers(self.bits)
        step = 2.0 ** highest_power(float(plain.abs().max()))
        return Codebook(number.encode(plain.double() / step), (values(number) * step).to(plain))
