"""Whole numbers times a step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.graph.linear import symmetric
from paredown.graph.slots import Grid


def spread(weight: Tensor, granularity: str) -> Tensor:
    """Return max |w| of the tensor as a scalar, or of each entry of the first dimension, shaped to broadcast."""
    if granularity == "tensor" or weight.dim() < 2:
        return weight.abs().max()
    return weight.abs().flatten(1).amax(1).view(-1, *[1] * (weight.dim() - 1))


@part("grid.integer", Card(title="Integers times a step", paper="arxiv:1712.05877", year=2018,
                           authors="Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam, Kalenichenko",
                           source="Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, section 2.1"))  # fmt: skip
@dataclass(frozen=True)
class Integer:
    """The integers −(2^(bits−1) − 1) … 2^(bits−1) − 1, times a step for each output channel or for the tensor."""

    bits: int = knob(8, among=range(2, 17))
    granularity: str = knob("channel", among=("channel", "tensor"))

    def fit(self, weight: Tensor) -> Grid:
        """Return the integers whose step maps the largest |w| to the largest code."""
        found = symmetric(spread(weight.detach(), self.granularity), self.bits)
        return Grid(found.encode(weight.detach()).to(torch.int16), found.step, self.bits)
