"""Post-training quantization on a uniform grid."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.activations import fix_activations
from paredown.graph.net import Net
from paredown.graph.slots import Free, Grid, Masked
from paredown.graph.storing import storing


def grid(weight: Tensor, bits: int, per_channel: bool = True) -> tuple[Tensor, Tensor]:
    """Return (codes, step) of symmetric max-abs rounding: codes · step ≈ weight, |error| ≤ step / 2.

    codes: int16, the weight's shape, from −(2^(bits−1) − 1) to 2^(bits−1) − 1. step: one value for each entry of the first dimension,
    shaped to broadcast, or a scalar. A tensor of zeros has step 1.
    """
    high = 2 ** (bits - 1) - 1
    if per_channel and weight.dim() > 1:
        largest = weight.abs().flatten(1).amax(1).view(-1, *[1] * (weight.dim() - 1))
    else:
        largest = weight.abs().max()
    step = torch.where(largest > 0, largest / high, torch.ones_like(largest))
    return (weight / step).round().clamp(-high, high).to(torch.int16), step


@part("quantize.uniform", Card(title="Uniform post-training quantization", paper="arxiv:1806.08342", year=2018,
                               authors="Krishnamoorthi",
                               source="Quantizing deep convolutional networks for efficient inference, section 2",
                               changes={"bits", "bytes"}, needs={"calib"}, forbids={"quantized", "shared"},
                               gives={"quantized"}))  # fmt: skip
@dataclass(frozen=True)
class Uniform:
    """Round convolution and linear weights to a symmetric grid, and activations to an asymmetric one; no training.

    bits: width of a weight's code, 2 to 8. granularity: one step for each output channel, or for the tensor.
    bias_bits: width of a bias's code (one step for the tensor), or 0 to leave biases in float.
    activation_bits: 8 or 4 with min-max ranges over the calibration split, or 0 to leave activations in float.
    """

    bits: int = knob(8, among=range(2, 9))
    granularity: str = knob("channel", among=("channel", "tensor"))
    bias_bits: int = knob(0, among=(0, 4, 5, 6, 7, 8, 16), search=False)
    activation_bits: int = knob(0, among=(0, 4, 8), search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with integer weights."""
        held = net.copy()
        if self.activation_bits:
            fix_activations(held, self.activation_bits, work.use("calib")[0])
        widths = {"weight": self.bits, "bias": self.bias_bits}
        for slot, bits in storing(held, widths, (Free, Masked, Grid), work.skip):
            if not isinstance(held.slot(slot), Grid):
                codes, step = grid(held.slot(slot)().detach(), bits, self.granularity == "channel")
                held.set_slot(slot, Grid(codes, step, bits))
        return held
