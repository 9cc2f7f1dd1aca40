"""High biases moved into the next layer, so that activations have a smaller range."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.net import Net
from paredown.graph.pairs import MOVES, Pair, by_inputs, own_bias_, pairs
from paredown.graph.ranges import moments

PASSING = frozenset({"relu", "max_pool2d", "adaptive_avg_pool2d", "mean.dim"}) | MOVES
"""Operators with f(x + c) = f(x) + c for each channel's c > 0, as long as x > 0."""


def absorbed(mean: Tensor, deviation: Tensor, sigmas: float) -> Tensor:
    """Return c = max(0, β − sigmas · γ) of each channel (Nagel et al. 2019, section 4.1.3; there 3 sigmas)."""
    return (mean - sigmas * deviation).clamp(min=0)


def obstacle(pair: Pair) -> str:
    """Return why a pair cannot pass a constant on, or nothing."""
    if blocked := [node.op for node in pair.between if node.op not in PASSING]:
        return f"{blocked[0]} does not pass a constant on"
    padding = pair.reader.args.get("padding", 0)
    padded = padding not in (0, "valid") and any(padding)
    return "the layer after it pads with zeros, which stand for another value then" if padded else ""


@torch.no_grad()
def absorb_(net: Net, pair: Pair, constant: Tensor) -> None:
    """Take `constant` from the maker's biases and give W₂ · constant to the reader's, in place."""
    maker, reader = (net.slot(own_bias_(net, net.spec.node(n.name))).value for n in (pair.maker, pair.reader))
    maker.sub_(constant)
    inputs = by_inputs(net.slot(pair.weights()[1])(), pair).sum(3)
    reader.add_((inputs * constant.view(pair.groups, 1, -1)).sum(2).flatten())


@part("edit.absorb_bias", Card(title="High-bias absorption", paper="arxiv:1906.04721", year=2019,
                               authors="Nagel, van Baalen, Blankevoort, Welling",
                               source="Data-Free Quantization Through Weight Equalization and Bias Correction, section 4.1.3",
                               needs={"calib"}, forbids={"quantized", "shared"}))  # fmt: skip
@dataclass(frozen=True)
class AbsorbBias:
    """Move what a channel before a ReLU always has into the next layer's bias; activations lose that part of their range.

    sigmas: a channel gives c = max(0, mean − sigmas · deviation); below c, in 0.1 % of normal values for 3, the function
    changes slightly. Differs from the paper: mean and deviation are measured on the calibration split, because norms are
    folded by then; a layer that pads with zeros takes nothing, which keeps its borders right.
    """

    sigmas: float = knob(3.0, low=0.0, high=10.0, search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with lower biases; layers that give nothing are noted."""
        out = net.copy()
        found, why = pairs(out)
        for name, reason in why.items():
            work.skip(name, reason)
        for pair in found:
            if reason := obstacle(pair):
                work.skip(pair.weights()[0], reason)
                continue
            mean, deviation = moments(out, work.use("calib")[0])[pair.maker.name]
            constant = absorbed(mean, deviation, self.sigmas)
            if constant.any():
                absorb_(out, pair, constant)
            else:
                work.skip(pair.weights()[0], "none of its channels is always above zero")
        return out
