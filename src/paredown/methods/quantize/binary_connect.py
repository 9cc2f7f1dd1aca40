"""Weights of one bit, with real ones behind them during training."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.kinds import Loss
from paredown.core.knob import knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.latent import Latent, hold_, learn_, signs, straight_through
from paredown.graph.net import Net
from paredown.graph.slots import Free, Grid, short_float
from paredown.methods.habit.clip_latents import ClipLatents
from paredown.methods.loss.cross_entropy import CrossEntropy


def hard_sigmoid(value: Tensor) -> Tensor:
    """Return clip((w + 1) / 2, 0, 1): the probability of +1 (Courbariaux et al. 2015, equation 3)."""
    return ((value + 1) / 2).clamp(0, 1)


def tossed(value: Tensor) -> Tensor:
    """Return +1 with the probability `hard_sigmoid(value)`, else −1, drawn from torch's generator (equation 2)."""
    return (torch.rand_like(value) < hard_sigmoid(value)).to(value.dtype) * 2 - 1


def glorot(shape: tuple[int, ...]) -> float:
    """Return sqrt(1.5 / (inputs + outputs)) of a layer's weight: the size that its values begin with (section 2.5)."""
    taps = math.prod(shape[2:])
    return math.sqrt(1.5 / max(1, taps * (shape[0] + (shape[1] if len(shape) > 1 else 0))))


class Tossed(Latent):
    """A tensor whose call returns ±step; the gradient goes to the real values unchanged (Courbariaux et al., algorithm 1)."""

    limit = 1.0
    step: Tensor

    def __init__(self, value: Tensor, step: Tensor, stochastic: bool, real: bool) -> None:
        super().__init__(value)
        self.stochastic, self.real = stochastic, real
        self.register_buffer("step", step)

    def forward(self) -> Tensor:
        if self.training:
            chosen = tossed(self.value) if self.stochastic else signs(self.value)
            return straight_through(self.value, chosen.detach()) * self.step
        return self.value.clamp(-1, 1) * self.step if self.real else signs(self.value) * self.step

    def held(self) -> Grid | Free:
        """Return codes of −1 and +1 with their step, or the real values if those are to be kept."""
        if self.real:
            return Free(self.value.clamp(-1, 1) * self.step)
        return Grid(signs(self.value), self.step, 1)


@part("quantize.binary_connect", Card(title="BinaryConnect", paper="arxiv:1511.00363", year=2015,
                                      authors="Courbariaux, Bengio, David",
                                      source="BinaryConnect, equations 1-3 and algorithm 1",
                                      changes={"bits", "bytes"}, needs={"fit"},
                                      forbids={"quantized", "shared", "masked"}, gives={"quantized"}))  # fmt: skip
@dataclass(frozen=True)
class BinaryConnect:
    """Train with weights of ±1 that stand for real ones, clipped to [−1, 1]; then hold the signs, one bit each.

    Wants batch norms behind the layers, which take up the size of ±1. stochastic: draw the sign anew at every
    step, +1 with probability clip((w + 1) / 2, 0, 1), instead of taking it. inference: what is held, "binary" or, as
    the paper has it for the stochastic kind, "real" (then nothing gets smaller). scale: the size of a weight, "one",
    or "glorot", sqrt(1.5 / (inputs + outputs)) with four significant bits, for layers without a norm.

    Differs from the paper: the real weights start at the network's own, divided by the Glorot size, so a trained
    network keeps its signs; AdamW and the given loss in place of SGD and the squared hinge.
    """

    stochastic: bool = knob(False, among=(False, True))
    inference: str = knob("binary", among=("binary", "real"), search=False)
    scale: str = knob("one", among=("one", "glorot"))
    real_ends: bool = knob(False, among=(False, True), search=False)
    loss: Loss = CrossEntropy()
    habits: tuple = ()
    plan: Plan = Plan(lr=1e-2)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` whose convolutions and linear layers hold ±1 times one step."""
        learning = net.copy()
        learn_(learning, self._tossed, work.skip, self.real_ends)
        work.use("fit")(learning, loss=self.loss, habits=(ClipLatents(), *self.habits), plan=self.plan)
        return hold_(learning)

    def _tossed(self, value: Tensor) -> Tossed:
        size = glorot(tuple(value.shape))
        step = short_float(torch.tensor(size if self.scale == "glorot" else 1.0)).to(value.device)
        return Tossed((value / size).clamp(-1, 1), step, self.stochastic, self.inference == "real")
