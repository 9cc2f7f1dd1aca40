"""Whole numbers with two levels of steps: small integers for each short vector, a float for each channel."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.graph.blocks import Blocked, in_blocks
from paredown.graph.linear import symmetric


def two_levels(step: Tensor, scale_bits: int) -> tuple[Tensor, Tensor]:
    """Return (γ, s_q): a float for each row and unsigned integers with s_q · γ ≈ step (Dai et al. 2021, section 4).

    step: [rows, vectors], positive. γ = max step / (2^scale_bits − 1), [rows, 1]; s_q is at least 1.
    """
    high = 2**scale_bits - 1
    coarse = step.amax(1, keepdim=True) / high
    return coarse, (step / coarse).round().clamp(1, high)


@part("grid.vector_scaled", Card(title="VS-Quant: per-vector scaled quantization", paper="arxiv:2102.04503", year=2021,
                                 authors="Dai, Venkatesan, Ren, Zimmer, Dally, Khailany",
                                 source="VS-Quant, section 4"))  # fmt: skip
@dataclass(frozen=True)
class VectorScaled:
    """w ≈ γ · s_q · q: integers q, an unsigned integer s_q for each vector of `block` weights, a float γ for each channel.

    bits, scale_bits: widths of q and s_q; with 4, 4 and vectors of 16 a weight takes 4.25 bits, and each channel 32 more.
    Differs from the paper: q is rounded with the rounded step, which is never worse; a step rounded to zero becomes 1.
    """

    bits: int = knob(4, among=range(2, 9))
    scale_bits: int = knob(4, among=range(2, 11))
    block: int = knob(16, low=1, high=4096, log=True)

    def fit(self, weight: Tensor) -> Blocked:
        """Return the weight's codes with a two-level step for each vector."""
        largest = in_blocks(weight.detach(), self.block).abs().amax(2)
        step = symmetric(largest, self.bits).step
        step = torch.where(largest > 0, step, torch.zeros_like(step))
        step = torch.where(step.amax(1, keepdim=True) > 0, step, torch.ones_like(step))
        coarse, fine = two_levels(step, self.scale_bits)
        return Blocked.rounding(weight, fine, f"int{self.bits}", self.block, self.scale_bits, coarse=coarse)
