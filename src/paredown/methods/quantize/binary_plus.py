"""Binary training with a smoother gradient, and weights pulled to the two values that stand for them."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.kinds import Loss
from paredown.core.knob import knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.latent import Latent, hold_, learn_, short_through, signs
from paredown.graph.net import Net
from paredown.graph.signs import read_signs_, settle_signs_
from paredown.graph.slots import Grid
from paredown.graph.spec import Slot
from paredown.methods.loss.cross_entropy import CrossEntropy

LEAST = 1e-6
"""The smallest scale."""

STEEPEST = 50.0
"""The largest b of SignSwish; the smallest is 1."""

INPUTS = Slot("signs.steepness")
"""The slot of the inputs' b where it is learned."""


def sign_swish(value: Tensor, steepness: float | Tensor) -> Tensor:
    """Return SS_b(x) = 2 σ(bx) (1 + bx (1 − σ(bx))) − 1, which tends to sign(x) as b grows (Darabi et al. 2019, eq. 5)."""
    share = torch.sigmoid(steepness * value)
    return 2 * share * (1 + steepness * value * (1 - share)) - 1


def sign_swish_slope(value: Tensor, steepness: float | Tensor) -> Tensor:
    """Return dSS_b/dx = b (2 − bx tanh(bx / 2)) / (1 + cosh(bx)) (Darabi et al. 2019, equation 6)."""
    bx = (steepness * value).clamp(-80, 80)
    return steepness * (2 - bx * torch.tanh(bx / 2)) / (1 + torch.cosh(bx))


def pull(value: Tensor, scale: Tensor, power: int) -> Tensor:
    """Return Σ |a − |w||^power, least where every |w| is a (Darabi et al. 2019, equations 7 and 8). power: 1 or 2."""
    return (scale - value.abs()).abs().pow(power).sum()


class Steepness(nn.Module):
    """SignSwish's b while it is trained, as its logarithm; the call returns it, from 1 to STEEPEST, with a gradient at the ends."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(start)))

    def forward(self) -> Tensor:
        b = self.log.exp()
        return b + (b.detach().clamp(1.0, STEEPEST) - b.detach())


class _SignSwish(torch.autograd.Function):
    """sign(x) forwards, SS_b(x) backwards: dSS/dx to x, and dSS/db = (x / b) dSS/dx, summed, to b."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, steepness: Tensor) -> Tensor:
        ctx.save_for_backward(value, steepness)
        return signs(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        value, steepness = ctx.saved_tensors
        through = grads[0] * sign_swish_slope(value, steepness)
        return through, (through * value / steepness).sum()


class BinaryPlus(Latent):
    """A tensor whose call returns a·sign(w) with SignSwish's derivative; a is a scale for each filter.

    steepness: b, a number, or a module that returns it and learns. scale: "trained", from mean|w| on; or "mean" or "median"
    of |w|, anew at every step: where R2 and where R1 of the filter are least.
    """

    def __init__(self, value: Tensor, steepness: float | nn.Module, scale: str = "trained") -> None:
        super().__init__(value)
        self.steepness, self.kind = steepness, scale
        self.scale = nn.Parameter(self.found("mean")) if scale == "trained" else None

    @torch.no_grad()
    def found(self, kind: str) -> Tensor:
        """Return the "mean" or the "median" of |w| for each filter (of a vector, for all), shaped to broadcast."""
        rows = self.value.abs().flatten(1) if self.value.dim() > 1 else self.value.abs()[None]
        middle = rows.mean(1) if kind == "mean" else rows.median(1).values
        shape = (-1, *[1] * (self.value.dim() - 1)) if self.value.dim() > 1 else ()
        return middle.view(shape).clamp(min=LEAST)

    def used(self) -> Tensor:
        """Return the scales as they are used: positive, with the four significant bits that a file holds."""
        return short_through(self.found(self.kind) if self.scale is None else self.scale.clamp(min=LEAST))

    def forward(self) -> Tensor:
        b = self.steepness() if isinstance(self.steepness, nn.Module) else self.value.new_tensor(self.steepness)
        return self.used() * _SignSwish.apply(self.value, b)

    def held(self) -> Grid:
        """Return codes of −1 and +1 and a step for each filter."""
        return Grid(signs(self.value), self.used(), 1)


@dataclass(frozen=True)
class _Pull:
    """A habit: λ · t · Σ R in the loss, growing over the training."""

    rate: float
    power: int

    def start(self, net: Net) -> dict:
        return {"t": 0.0}

    def penalty(self, net: Net, state: dict) -> Tensor:
        slots = [slot for slot in net.slots.values() if isinstance(slot, BinaryPlus)]
        return self.rate * state["t"] * sum((pull(s.value, s.used(), self.power) for s in slots), torch.zeros(()))

    def step(self, net: Net, state: dict, t: float) -> dict:
        return {"t": t}


@part("quantize.binary_plus", Card(title="BNN+: improved binary training", paper="arxiv:1812.11800", year=2018,
                                   authors="Darabi, Belbahri, Courbariaux, Partovi Nia",
                                   source="BNN+, sections 3.1-3.3 (Regularized Binary Network Training)",
                                   changes={"bits", "bytes"}, needs={"fit"},
                                   forbids={"quantized", "shared", "masked"}, gives={"quantized"}))  # fmt: skip
@dataclass(frozen=True)
class BinaryPlusTraining:
    """Train with weights a·sign(w) under SignSwish's derivative and a pull of |w| to a, one a for each filter.

    steepness: b of SignSwish, 5 in the paper. pull: λ, which grows from 0 to this over the training. power: 1 for
    Σ|a − |w||, 2 for Σ(a − |w|)². binary_inputs: read the signs of the inputs too, as the paper does. real_ends: leave the
    first and the last layer real. scale: a, "trained", or the "mean" or "median" of |w| of the filter at every step.
    learn_steepness: train b from `steepness` on, one for each weight and one for all inputs, with SignSwish's own derivative
    in b.

    Differs from the paper: scales have four significant bits; the sign of an input is −1 at zero, that of a weight +1.
    """

    steepness: float = knob(5.0, low=1.0, high=50.0)
    pull: float = knob(1e-5, low=0.0, high=1.0)
    power: int = knob(1, among=(1, 2))
    binary_inputs: bool = knob(True, among=(True, False))
    real_ends: bool = knob(True, among=(True, False), search=False)
    loss: Loss = CrossEntropy()
    habits: tuple = ()
    plan: Plan = Plan()
    scale: str = knob("trained", among=("trained", "mean", "median"), search=False)
    learn_steepness: bool = knob(False, among=(False, True), search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` whose inner layers hold signs and a scale for each filter."""
        learning = net.copy()
        taken = learn_(learning, self._weight, work.skip, self.real_ends)
        sources = self._read_signs_(learning, taken, work) if self.binary_inputs else []
        habits = (_Pull(self.pull, self.power), *self.habits)
        work.use("fit")(learning, loss=self.loss, habits=habits, plan=self.plan)
        settle_signs_(learning, sources)
        return hold_(learning)

    def _weight(self, value: Tensor) -> BinaryPlus:
        steepness = Steepness(self.steepness).to(value.device) if self.learn_steepness else self.steepness
        return BinaryPlus(value, steepness, self.scale)

    def _read_signs_(self, net: Net, taken: list[Slot], work: Work) -> list[str]:
        if not self.learn_steepness:
            return read_signs_(net, taken, False, work.skip, self.steepness)
        net.set_slot(INPUTS, Steepness(self.steepness).to(next(net.parameters()).device))
        return read_signs_(net, taken, False, work.skip, INPUTS)
