"""Linear quantization: real = step · (code − zero), symmetric and asymmetric, at every granularity, and clips.

Granularity is a block length along each row (`graph.blocks`): 0 is one step for each output channel; "tensor" is the
weight seen as one row.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.errors import BadInput


@dataclass(frozen=True, eq=False)
class Affine:
    """The map between reals and the codes low … high: real = step · (code − zero). step, zero broadcast over the values."""

    step: Tensor
    zero: Tensor
    low: int
    high: int

    def encode(self, x: Tensor) -> Tensor:
        """Return the nearest code of each value, ties to even, saturating; as floats of the type of `x`."""
        return ((x / self.step).round() + self.zero).clamp(self.low, self.high)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the real that each code stands for."""
        return self.step * (codes - self.zero)

    def rounded(self, x: Tensor) -> Tensor:
        """Return the nearest real that has a code."""
        return self.decode(self.encode(x))


def affine(least: Tensor, most: Tensor, codes: tuple[int, int]) -> Affine:
    """Return S = (most − least) / (high − low) and Z = round(low − least / S), clamped (Jacob et al. 2018, sections 2.1 and 3).

    codes: (low, high). The range is widened to hold zero, which then has the code Z exactly. A range of one point has step 1.
    """
    low, high = codes
    least, most = least.clamp(max=0), most.clamp(min=0)
    step = (most - least) / (high - low)
    step = torch.where(step > 0, step, torch.ones_like(step))
    return Affine(step, (low - least / step).round().clamp(low, high), low, high)


def symmetric(largest: Tensor, bits: int) -> Affine:
    """Return the map with zero point 0 and codes ±(2^(bits−1) − 1) for the range ±largest. A range of nothing has step 1."""
    high = 2 ** (bits - 1) - 1
    if high < 1:
        raise BadInput(f"{bits} bits hold no symmetric integers; allowed: 2 or more")
    step = torch.where(largest > 0, largest / high, torch.ones_like(largest))
    return Affine(step, torch.zeros_like(step), -high, high)


def unsigned(bits: int) -> tuple[int, int]:
    """Return the codes (0, 2^bits − 1)."""
    return 0, 2**bits - 1


def signed(bits: int) -> tuple[int, int]:
    """Return the codes (−2^(bits−1), 2^(bits−1) − 1)."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
