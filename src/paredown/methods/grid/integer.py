"""Whole numbers times a step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.graph.blocks import Blocked, in_blocks
from paredown.graph.linear import affine, symmetric, unsigned
from paredown.graph.number import FLOATS, rounded
from paredown.graph.slots import Grid


def spread(weight: Tensor, granularity: str) -> Tensor:
    """Return max |w| of the tensor as a scalar, or of each entry of the first dimension, shaped to broadcast."""
    if granularity == "tensor" or weight.dim() < 2:
        return weight.abs().max()
    return weight.abs().flatten(1).amax(1).view(-1, *[1] * (weight.dim() - 1))


def asymmetric(weight: Tensor, bits: int, block: int, whole: bool = False, step_bits: int = 32) -> Blocked:
    """Return step · (code − zero) with codes 0 … 2^bits − 1 (Jacob et al. 2018, section 2.1).

    block: weights that share a step and a zero point; 0 is a whole row. whole: all rows share them. step_bits: 32, or
    16 for steps that fp16 holds.
    """
    blocks = in_blocks(weight, block)
    dims = (0, 1, 2) if whole else (2,)
    least, most = blocks.amin(dims, True)[:, :, 0], blocks.amax(dims, True)[:, :, 0]
    step = affine(least, most, unsigned(bits)).step.clamp(min=1e-30)
    if step_bits == 16:
        step = rounded(step, FLOATS["fp16"]).clamp(min=2.0**-24)
    zero = (-least / step).round().clamp(0, 2**bits - 1)
    return Blocked.rounding(weight, step, f"uint{bits}", blocks.shape[2], step_bits, zero)


@part("grid.integer", Card(title="Integers times a step", paper="arxiv:1712.05877", year=2018,
                           authors="Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam, Kalenichenko",
                           source="Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, section 2.1"))  # fmt: skip
@dataclass(frozen=True)
class Integer:
    """Integers of `bits` bits times a step for each output channel or for the tensor.

    symmetric: −(2^(bits−1) − 1) … 2^(bits−1) − 1 around 0; else 0 … 2^bits − 1 less a zero point, so that the least and
    the largest weight (and 0) are the ends of the range: step · (code − zero). An asymmetric step is not below 1e-30.
    """

    bits: int = knob(8, among=range(2, 17))
    granularity: str = knob("channel", among=("channel", "tensor"))
    symmetric: bool = True

    def fit(self, weight: Tensor) -> Grid | Blocked:
        """Return the integers whose step maps the largest |w|, or the whole range of weights, to the outermost codes."""
        plain = weight.detach()
        if not self.symmetric:
            return asymmetric(plain, self.bits, 0, self.granularity == "tensor" or plain.dim() < 2)
        found = symmetric(spread(plain, self.granularity), self.bits)
        return Grid(found.encode(plain).to(torch.int16), found.step, self.bits)
