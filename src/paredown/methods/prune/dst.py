"""Thresholds below which weights count as zero, learned with the weights."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.kinds import Habit, Loss
from paredown.core.knob import knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.latent import Latent, hold_, learn_
from paredown.graph.net import Net
from paredown.graph.slots import Masked
from paredown.methods.loss.cross_entropy import CrossEntropy

LEAST = 0.01
"""The density at which a layer's thresholds go back to zero (section 4: "over 99 % sparse")."""


class _LongTail(torch.autograd.Function):
    """The unit step, 1 from 0 on; its gradient is 2 − 4|x| up to 0.4, then 0.4 up to 1, then 0 (equation 3)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        size = ctx.saved_tensors[0].abs()
        slope = torch.where(size <= 0.4, 2 - 4 * size, torch.where(size <= 1, 0.4, 0.0))
        return grads[0] * slope


def long_tail(x: Tensor) -> Tensor:
    """Return 1 where x ≥ 0 and 0 elsewhere, with a gradient that reaches as far as |x| = 1."""
    return _LongTail.apply(x)


class Thresholded(Latent):
    """A tensor whose call returns w · [|w| ≥ t] with a trained threshold t for each output."""

    form: ClassVar[str] = "masked"

    def __init__(self, value: Tensor) -> None:
        super().__init__(value)
        self.threshold = nn.Parameter(torch.zeros(len(value), dtype=value.dtype, device=value.device))

    def above(self) -> Tensor:
        """Return 1 where a weight reaches its threshold, else 0; differentiable."""
        t = self.threshold.view(-1, *[1] * (self.value.dim() - 1))
        return long_tail(self.value.abs() - t)

    def forward(self) -> Tensor:
        return self.value * self.above()

    @torch.no_grad()
    def held(self) -> Masked:
        """Return the slot that stores what the call returns."""
        return Masked(self.value, self.above() > 0)


@dataclass(frozen=True)
class _PayForWeights:
    """A habit: α Σ exp(−t) in the loss (equation 7); thresholds of a layer that is all but empty go back to zero."""

    rate: float

    def start(self, net: Net) -> dict:
        return {}

    def penalty(self, net: Net, state: dict) -> Tensor:
        return self.rate * sum(((-slot.threshold).exp().sum() for slot in _learning(net)), torch.zeros(()))

    @torch.no_grad()
    def step(self, net: Net, state: dict, t: float) -> dict:
        for slot in _learning(net):
            if slot.above().mean() < LEAST:
                slot.threshold.zero_()
        return state


def _learning(net: Net) -> list[Thresholded]:
    return [slot for slot in net.slots.values() if isinstance(slot, Thresholded)]


@part("prune.dst", Card(title="Dynamic sparse training", paper="arxiv:2005.06870", year=2020,
                        authors="Liu, Xu, Shi, Cheung, So",
                        source="Dynamic Sparse Training: Find Efficient Sparse Network From Scratch With Trainable Masked Layers, section 3",
                        changes=frozenset({"nonzero"}), needs=frozenset({"fit"}),
                        forbids=frozenset({"quantized", "shared", "masked"}), gives=frozenset({"masked"})))  # fmt: skip
@dataclass(frozen=True)
class DynamicSparse:
    """Train with a threshold for each output below which its weights are zero, learned; then hold the masks.

    strength: α of α Σ exp(−t), which raises the thresholds; more is sparser. How sparse the network gets is an outcome,
    not a setting. Differs from the paper: AdamW trains the thresholds too, not SGD.
    """

    strength: float = knob(1e-3, low=0.0, high=10.0)
    loss: Loss = CrossEntropy()
    habits: tuple[Habit, ...] = ()
    plan: Plan = Plan()

    def apply(self, net: Net, work: Work) -> Net:
        """Return a trained copy of `net` whose weights below their thresholds are masked."""
        learning = net.copy()
        learn_(learning, Thresholded, work.skip)
        paying = _PayForWeights(self.strength)
        work.use("fit")(learning, loss=self.loss, habits=(paying, *self.habits), plan=self.plan)
        return hold_(learning)
