"""Whole numbers times a power of two that is the same for the tensor."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.graph.number import FixedPoint as Values
from paredown.graph.number import rounded
from paredown.graph.slots import Grid


def best_fraction(largest: float, bits: int) -> int:
    """Return the most fraction bits with which `largest` does not saturate: round(largest · 2^f) ≤ 2^(bits−1) − 1."""
    if not largest:
        return 0
    high = 2 ** (bits - 1) - 1
    least = math.floor(math.log2(high / largest))
    return max(f for f in (least - 1, least, least + 1) if round(largest * 2.0**f) <= high)


@part("grid.fixed_point", Card(title="Fixed point", paper="arxiv:1502.02551", year=2015,
                               authors="Gupta, Agrawal, Gopalakrishnan, Narayanan",
                               source="Deep Learning with Limited Numerical Precision, section 2"))  # fmt: skip
@dataclass(frozen=True)
class FixedPoint:
    """⟨IL, FL⟩ fixed point: k · 2^−fraction with k of `bits` bits, so that rescaling is a shift.

    fraction: the number of fraction bits FL, or None for the most with which the largest weight does not saturate.
    Differs from the paper: rounding is to nearest, not stochastic; −2^(bits−1) is not used, so that the codes are symmetric.
    """

    bits: int = knob(8, among=range(2, 17))
    fraction: int | None = None

    def fit(self, weight: Tensor) -> Grid:
        """Return the integers k with the step 2^−fraction."""
        plain = weight.detach()
        fraction = best_fraction(float(plain.abs().max()), self.bits) if self.fraction is None else self.fraction
        near = rounded(plain.double(), Values(self.bits, fraction, symmetric=True))
        step = torch.tensor(2.0**-fraction, device=plain.device)
        return Grid((near * 2.0**fraction).to(torch.int16), step, self.bits)
