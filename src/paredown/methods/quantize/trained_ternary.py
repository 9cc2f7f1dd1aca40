"""Ternary weights whose two sizes are learned."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.kinds import Loss
from paredown.core.knob import knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.latent import Latent, hold_, learn_, short_through, straight_through
from paredown.graph.net import Net
from paredown.graph.slots import Codebook
from paredown.methods.loss.cross_entropy import CrossEntropy

LEAST = 1e-6
"""The smallest size a learned value may take."""


def sides(weight: Tensor, threshold: float, sparsity: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return (where w > Δ, where w < −Δ) with Δ = threshold · max|W| (Zhu et al. 2017, equation 9).

    sparsity: in its place, the share of the entries that lie between (section 3): Δ is the |w| at that rank.
    """
    size = weight.abs()
    if not sparsity:
        border = threshold * size.max()
    else:
        rank = round(sparsity * size.numel())
        border = size.flatten().kthvalue(rank).values if rank else size.new_tensor(-1.0)
    return (weight >= 0) & (size > border), (weight < 0) & (size > border)


class TrainedTernary(Latent):
    """A tensor whose call returns Wp, 0 or −Wn (Zhu et al. 2017, section 3, equations 6-8).

    The gradient of Wp is the sum over the positive entries, of −Wn over the negative ones; the real values get the
    gradient times Wp, 1 or Wn.
    """

    def __init__(self, value: Tensor, threshold: float, sparsity: float = 0.0) -> None:
        super().__init__(value)
        self.threshold, self.sparsity = threshold, sparsity
        plus, minus = self.sides()
        self.sizes = nn.Parameter(torch.stack([_mean(value[plus]), _mean(-value[minus])]))

    def sides(self) -> tuple[Tensor, Tensor]:
        """Return (where the call returns Wp, where it returns −Wn)."""
        return sides(self.value.detach(), self.threshold, self.sparsity)

    def used(self) -> Tensor:
        """Return [Wp, Wn] as they are used: positive, with the four significant bits that a file holds."""
        return short_through(self.sizes.clamp(min=LEAST))

    def forward(self) -> Tensor:
        plus, minus = self.sides()
        high, low = self.used()
        slope = torch.where(plus, high.detach(), torch.where(minus, low.detach(), torch.ones_like(high)))
        return straight_through(self.value, high * plus - low * minus, slope)

    @torch.no_grad()
    def held(self) -> Codebook:
        """Return the three values −Wn, 0, Wp and an index of two bits for each entry."""
        plus, minus = self.sides()
        high, low = self.used()
        return Codebook(1 + plus.int() - minus.int(), torch.stack([-low, torch.zeros_like(low), high]))


def _mean(value: Tensor) -> Tensor:
    return value.mean() if value.numel() else value.new_tensor(LEAST)


@part("quantize.trained_ternary", Card(title="Trained ternary quantization", paper="arxiv:1612.01064", year=2017,
                                       authors="Zhu, Han, Mao, Dally",
                                       source="Trained Ternary Quantization, section 3, equations 6-9",
                                       changes={"bits", "bytes"}, needs={"fit"},
                                       forbids={"quantized", "shared", "masked"}, gives={"shared"}))  # fmt: skip
@dataclass(frozen=True)
class TrainedTernaryQuantization:
    """Train with weights of −Wn, 0 and +Wp, both sizes learned for each layer; then hold a codebook of three values.

    threshold: Δ / max|W|, the paper's t. real_ends: leave the first and the last layer real, as the paper does.
    sparsity: the paper's other rule, if it is not 0: the share of each layer's weights that are 0 throughout the training.

    Differs from the paper: the sizes start at the mean of what they stand for, and are used with four significant bits,
    in training too, so that a file holds what was trained.
    """

    threshold: float = knob(0.05, low=0.0, high=0.9)
    real_ends: bool = knob(True, among=(True, False), search=False)
    loss: Loss = CrossEntropy()
    habits: tuple = ()
    plan: Plan = Plan()
    sparsity: float = knob(0.0, low=0.0, high=0.95, search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` whose convolutions and linear layers hold indices into three values."""
        learning = net.copy()
        learn_(learning, lambda value: TrainedTernary(value, self.threshold, self.sparsity), work.skip, self.real_ends)
        work.use("fit")(learning, loss=self.loss, habits=self.habits, plan=self.plan)
        return hold_(learning)
