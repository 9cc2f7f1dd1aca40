"""Binary filters with a scale each: the nearest a·B to a weight."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.kinds import Loss
from paredown.core.knob import knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.latent import Latent, by_filter, hold_, learn_, signs, straight_through
from paredown.graph.net import Net
from paredown.graph.slots import Grid, short_float
from paredown.methods.loss.cross_entropy import CrossEntropy


def binarize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return (B, a): signs in {−1, +1} and one scale for each filter such that ‖W − a·B‖² is least.

    a = mean |W| over the filter, B = sign(W), sign(0) = +1 (Rastegari et al. 2016, equations 4-6). a has the weight's
    rank and broadcasts over the first dimension; of a vector it is a scalar.
    """
    scale = weight.abs().mean(by_filter(weight), keepdim=weight.dim() > 1)
    return signs(weight), scale


class BinaryFilters(Latent):
    """A tensor whose call returns a·sign(W), with the paper's gradient (Rastegari et al. 2016, section 3.1)."""

    def forward(self) -> Tensor:
        codes, scale = self.parts()
        size = self.value[0].numel() if self.value.dim() > 1 else self.value.numel()
        slope = 1 / size + scale * (self.value.detach().abs() <= 1)
        return straight_through(self.value, codes * scale, slope)

    @torch.no_grad()
    def parts(self) -> tuple[Tensor, Tensor]:
        """Return the signs, and the scales with the four significant bits that a file holds."""
        codes, scale = binarize(self.value)
        return codes, short_float(scale.clamp(min=1e-8))

    def held(self) -> Grid:
        """Return codes of −1 and +1 and a step for each filter."""
        return Grid(*self.parts(), 1)


@part("quantize.binary_weights", Card(title="Binary-Weight-Networks", paper="arxiv:1603.05279", year=2016,
                                      authors="Rastegari, Ordonez, Redmon, Farhadi",
                                      source="XNOR-Net, section 3.1, equations 1-6 and algorithm 1",
                                      changes={"bits", "bytes"}, needs={"fit"},
                                      forbids={"quantized", "shared", "masked"}, gives={"quantized"}))  # fmt: skip
@dataclass(frozen=True)
class BinaryWeights:
    """Train with weights a·sign(W), a = mean|W| of each filter taken anew at every step; then hold one bit each.

    real_ends: leave the first and the last layer real, as the paper does.

    Differs from the paper: a scale is used with four significant bits, in training too, so that a file holds what was
    trained; biases and norms are trained as the plan says.
    """

    real_ends: bool = knob(True, among=(True, False))
    loss: Loss = CrossEntropy()
    habits: tuple = ()
    plan: Plan = Plan()

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` whose convolutions and linear layers hold signs and a scale for each filter."""
        learning = net.copy()
        learn_(learning, BinaryFilters, work.skip, self.real_ends)
        work.use("fit")(learning, loss=self.loss, habits=self.habits, plan=self.plan)
        return hold_(learning)
