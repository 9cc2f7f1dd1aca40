"""Weights rounded to a grid that leaves outliers outside, without training."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.linear import symmetric
from paredown.graph.net import Net
from paredown.graph.slots import Free, Grid, Masked
from paredown.graph.storing import storing

SHARES = 100


def least_squares_clip(rows: Tensor, bits: int) -> Tensor:
    """Return c for each row of [rows, values]: the k/100 of max |w| whose grid ±c has the least squared error.

    The grid is symmetric with 2^bits − 1 levels, the largest of which is c. Exhaustive over k = 1 … 100.
    """
    largest = rows.abs().amax(1, keepdim=True)
    tried = [largest * k / SHARES for k in range(1, SHARES + 1)]
    errors = [(symmetric(c, bits).rounded(rows) - rows).square().sum(1) for c in tried]
    return torch.cat(tried, 1).gather(1, torch.stack(errors, 1).argmin(1, keepdim=True))


def step_within(weight: Tensor, bits: int, reach: float, per_channel: bool = True) -> Tensor:
    """Return the step whose largest code stands for `reach` times the largest |w|, or for the least-squares clip with a reach of 0.

    One for each entry of the first dimension, shaped to broadcast, or a scalar.
    """
    each = per_channel and weight.dim() > 1
    rows = weight.flatten(1) if each else weight.reshape(1, -1)
    most = rows.abs().amax(1, keepdim=True) * reach if reach else least_squares_clip(rows, bits)
    return symmetric(most.view([-1, *[1] * (weight.dim() - 1)] if each else []), bits).step


def noise(clip: Tensor, bits: int, density: str) -> Tensor:
    """Return E(X − Q(X))² at a clip for unit "normal" or "laplace" values: what is cut off, and clip² / (3 · 4^bits).

    Banner et al. 2019, section 3; the second term takes rounding for uniform noise at 2^bits levels.
    """
    rounding = clip.square() / (3 * 4**bits)
    if density == "laplace":
        return 2 * (-clip).exp() + rounding
    tail = 0.5 * torch.erfc(clip / math.sqrt(2))
    peak = (-clip.square() / 2).exp() / math.sqrt(2 * math.pi)
    return 2 * ((1 + clip.square()) * tail - clip * peak) + rounding


def best_clip(bits: int, density: str) -> float:
    """Return the clip of least noise, in standard deviations of a normal or scales b of a Laplace (to 0.001)."""
    tried = torch.arange(0.001, 20, 0.001, dtype=torch.float64)
    return float(tried[noise(tried, bits, density).argmin()])


def modelled_clip(rows: Tensor, bits: int, density: str) -> Tensor:
    """Return c for each row of [rows, values] from its mean |w| (Laplace) or root mean square (normal), at most max |w|."""
    scale = rows.abs().mean(1, keepdim=True) if density == "laplace" else rows.square().mean(1, keepdim=True).sqrt()
    return torch.minimum(best_clip(bits, density) * scale, rows.abs().amax(1, keepdim=True))


@part("quantize.clipped", Card(title="ACIQ: analytical clipping for integer quantization", paper="arxiv:1810.05723", year=2019,
                               authors="Banner, Nahshan, Hoffer, Soudry",
                               source="Post-training 4-bit quantization of convolution networks for rapid-deployment, section 3",
                               changes={"bits", "bytes"}, forbids={"quantized", "shared"},
                               gives={"quantized"}))  # fmt: skip
@dataclass(frozen=True)
class Clipped:
    """Round weights to a symmetric grid that ends where the error is least, not at the largest weight; no training.

    bits: width of a code, 2 to 8. granularity: one clip for each output channel, or for the tensor.
    method: "mse" measures the squared error of 100 clips; "laplace" and "normal" are the paper's closed models.
    Differs from the paper: it is applied to weights; biases and activations stay as they are.
    """

    bits: int = knob(4, among=range(2, 9))
    granularity: str = knob("channel", among=("channel", "tensor"))
    method: str = knob("mse", among=("mse", "laplace", "normal"))

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with integer weights."""
        held = net.copy()
        for slot, bits in storing(held, {"weight": self.bits}, (Free, Masked, Grid), work.skip):
            if isinstance(held.slot(slot), Free | Masked):
                held.set_slot(slot, self._grid(held.slot(slot)().detach(), bits))
        return held

    def _grid(self, weight: Tensor, bits: int) -> Grid:
        rows = weight.flatten(1) if self.granularity == "channel" else weight.reshape(1, -1)
        clip = least_squares_clip(rows, bits) if self.method == "mse" else modelled_clip(rows, bits, self.method)
        shape = (-1, *[1] * (weight.dim() - 1)) if self.granularity == "channel" else ()
        found = symmetric(clip.reshape(shape), bits)
        return Grid(found.encode(weight).to(torch.int16), found.step, bits)
