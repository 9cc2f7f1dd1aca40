"""Quantization-aware training: weights are rounded as they will be once the batch norms behind them are folded."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.kinds import Loss
from paredown.core.knob import knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.activations import hold_activations, learn_activations
from paredown.graph.fold import fold_batchnorm
from paredown.graph.latent import Latent, learnable, straight_through
from paredown.graph.net import Net
from paredown.graph.slots import Fixed, Free, Grid, short_float
from paredown.graph.spec import Node, Slot, Spec
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.quantize.learned_step import first_step
from paredown.methods.quantize.uniform import grid

FROZEN = Slot("norms.frozen")
"""The slot that says whether the norms compute with their long-term statistics in training too."""

LEAST = 1e-4
"""The smallest factor of a norm that is divided by; one nearer to zero has its sign."""


def rounded(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return (codes, step) of max-abs rounding by output channel, the step with four significant bits."""
    high = 2 ** (bits - 1) - 1
    step = short_float(grid(weight, bits)[1])
    return (weight / step).round().clamp(-high, high), step


class Norm(nn.Module):
    """What a batch norm multiplies by in the long run, γ / sqrt(running variance + eps); the call returns it."""

    def __init__(self, gain: nn.Module | None, variance: nn.Module, eps: float) -> None:
        super().__init__()
        self.gain, self.variance, self.eps = gain, variance, eps

    @torch.no_grad()
    def forward(self) -> Tensor:
        scale = torch.rsqrt(self.variance() + self.eps) * (1 if self.gain is None else self.gain())
        return torch.where(scale < 0, scale.clamp(max=-LEAST), scale.clamp(min=LEAST))


class Aware(Latent):
    """A tensor whose call returns its rounded values; where a norm follows, rounded as they are once it is folded.

    With the norm's long-term factor s: Q(W s) / s. The norm then divides by the batch's own spread, so that its output is
    Q(W s) x times (long-term spread / batch's spread): the correction of Krishnamoorthi 2018, section 3.2.2.
    """

    def __init__(self, value: Tensor, bits: int, norm: Norm | None = None) -> None:
        super().__init__(value)
        self.bits, self.norm = bits, norm

    def factor(self) -> Tensor:
        """Return s for each filter, shaped to broadcast over the weight."""
        scale = self.value.new_ones(len(self.value)) if self.norm is None else self.norm()
        return scale.view(-1, *[1] * (self.value.dim() - 1))

    @torch.no_grad()
    def parts(self) -> tuple[Tensor, Tensor]:
        """Return the codes and the steps of Q(W s)."""
        return rounded(self.value * self.factor(), self.bits)

    def forward(self) -> Tensor:
        codes, step = self.parts()
        return straight_through(self.value, codes * step / self.factor())

    def held(self) -> Grid:
        """Return the codes and a step for each filter; with a norm, those of the folded weight."""
        return Grid(*self.parts(), self.bits)


class AwareSteps(Aware):
    """An `Aware` whose steps, one for each filter, are learned too (Esser et al. 2020, equations 1-5), as logarithms.

    They start from LSQ's first steps of W s with the s of the beginning, and are used with four significant bits.
    """

    def __init__(self, value: Tensor, bits: int, norm: Norm | None = None) -> None:
        super().__init__(value, bits, norm)
        self.high = 2 ** (bits - 1) - 1
        self.log_step = nn.Parameter(first_step(self.value.detach() * self.factor(), bits, per_channel=True).log())

    def step(self) -> Tensor:
        """Return the steps as they are used, with the gradient of the unrounded ones times LSQ's 1 / sqrt(N Q)."""
        step = self.log_step.exp() / math.sqrt(self.value[0].numel() * self.high)
        return step + (short_float(self.log_step.detach().exp()) - step.detach())

    @torch.no_grad()
    def parts(self) -> tuple[Tensor, Tensor]:
        """Return the codes and the steps of Q(W s)."""
        step = self.step()
        return (self.value * self.factor() / step).clamp(-self.high, self.high).round(), step

    def forward(self) -> Tensor:
        factor, step = self.factor(), self.step()
        levels = (self.value * factor / step).clamp(-self.high, self.high)
        return straight_through(levels, levels.detach().round()) * step / factor


@dataclass(frozen=True)
class _FreezeNorms:
    """A habit: from t = `at` on, the norms compute with their long-term statistics, which then stay as they are."""

    at: float

    def start(self, net: Net) -> dict:
        return self.step(net, {}, 0.0)

    @torch.no_grad()
    def step(self, net: Net, state: dict, t: float) -> dict:
        if t >= self.at and FROZEN in net.slot_names():
            net.slot(FROZEN).value.fill_(True)
        return state


def freezable_(net: Net) -> None:
    """Let the batch norms follow the training only until the slot FROZEN holds True, which it does not yet; in place."""
    net.set_slot(FROZEN, Fixed(torch.tensor(False, device=next(net.parameters()).device)))
    _follow_(
        net, [n.name for n in net.spec.nodes if n.op == "batch_norm" and n.args["running_mean"] is not None], FROZEN
    )


def thaw_(net: Net) -> None:
    """Let the batch norms follow the training again, in place; the slot FROZEN is dropped."""
    _follow_(net, [n.name for n in net.spec.nodes if n.slot("training") == FROZEN], False)


def _follow_(net: Net, names: list[str], flag: Slot | bool) -> None:
    nodes = [n.with_args(training=flag) if n.name in names else n for n in net.spec.nodes]
    net.rewire(Spec(net.spec.inputs, tuple(nodes), net.spec.output))


def followers(net: Net) -> dict[str, Node]:
    """Return {weight slot: the batch norm behind its layer} for every norm that can be folded."""
    left = {name for name, _ in fold_batchnorm(net)[1]}
    norms = {n.args["input"]: n for n in net.spec.nodes if n.op == "batch_norm" and _name(n) not in left}
    return {name: norms[node.name] for name, node in net.weighted() if node.name in norms}


def _name(norm: Node) -> str:
    return str(norm.slot("weight") or norm.name).removesuffix(".weight")


@part("quantize.aware", Card(title="Quantization-aware training with folded batch norms", paper="arxiv:1806.08342", year=2018,
                             authors="Krishnamoorthi",
                             source="Quantizing deep convolutional networks for efficient inference, section 3.2; straight-through: arxiv:1308.3432",
                             changes={"bits", "bytes"}, needs={"fit", "calib"},
                             forbids={"quantized", "shared", "masked"}, gives={"quantized", "folded"}))  # fmt: skip
@dataclass(frozen=True)
class QuantizationAware:
    """Train with weights rounded by output channel, as they will be with their batch norms folded; then fold and hold.

    bits: of a weight's code, 2 to 8. activation_bits: 8 or 4 for the inputs of every convolution and linear layer, with a
    learned step each, or 0 to leave them in float. freeze_at: the share of the training after which the norms compute with
    their long-term statistics, so that training and inference agree (section 3.2.2); 1 is never. steps: of the weights,
    "largest": as max|W s| asks for, at every step anew; "learned": one for each filter, trained as in LSQ.

    Differs from the paper: the norms keep the batch's statistics to the end by default; steps have four significant bits;
    activations learn their steps in place of averaged ranges. Averaged weights are `Plan.ema`.
    """

    bits: int = knob(4, among=range(2, 9))
    activation_bits: int = knob(0, among=(0, 4, 8), search=False)
    loss: Loss = CrossEntropy()
    habits: tuple = ()
    plan: Plan = Plan()
    freeze_at: float = knob(1.0, low=0.0, high=1.0, search=False)
    steps: str = knob("largest", among=("largest", "learned"), search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with integer weights and without the norms that can be folded; others are noted."""
        learning = net.copy()
        for layer, why in fold_batchnorm(net)[1]:
            work.skip(layer, f"its norm is not folded: {why}")
        norms = followers(learning)
        for slot in list(learnable(learning, work.skip)):
            learning.set_slot(slot, self._aware(learning, slot, norms.get(slot)))
        if self.activation_bits:
            learn_activations(learning, self.activation_bits, work.use("calib")[0])
        late = () if self.freeze_at == 1 else (_FreezeNorms(self.freeze_at),)
        if late:
            freezable_(learning)
        work.use("fit")(learning, loss=self.loss, habits=(*late, *self.habits), plan=self.plan)
        thaw_(learning)
        hold_activations(learning)
        return self._folded(learning)

    def _aware(self, net: Net, slot: Slot, norm: Node | None) -> Aware:
        value, kind = net.slot(slot)().detach(), AwareSteps if self.steps == "learned" else Aware
        if norm is None:
            return kind(value, self.bits)
        gain = norm.slot("weight")
        parts = None if gain is None else net.slot(gain), net.slot(norm.args["running_var"]), norm.args["eps"]
        return kind(value, self.bits, Norm(*parts))

    def _folded(self, net: Net) -> Net:
        """Return the network with its norms folded into the layers before; the codes stay what they are."""
        held = {name: net.slot(name).held() for name, _ in net.weighted() if isinstance(net.slot(name), Aware)}
        for name in held:
            net.set_slot(name, Free(net.slot(name)().detach()))
        folded, _ = fold_batchnorm(net)
        for name, slot in held.items():
            folded.set_slot(name, slot)
        return folded
