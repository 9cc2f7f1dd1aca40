"""Quantization-aware training: weights are rounded as they will be once the batch norms behind them are folded."""

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
from paredown.graph.slots import Free, Grid, short_float
from paredown.graph.spec import Node, Slot
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.quantize.uniform import grid

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
    learned step each, or 0 to leave them in float.

    Differs from the paper: the norms keep the batch's statistics to the end, so those are never frozen; steps have four
    significant bits; activations learn their steps in place of averaged ranges.
    """

    bits: int = knob(4, among=range(2, 9))
    activation_bits: int = knob(0, among=(0, 4, 8), search=False)
    loss: Loss = CrossEntropy()
    habits: tuple = ()
    plan: Plan = Plan()

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
        work.use("fit")(learning, loss=self.loss, habits=self.habits, plan=self.plan)
        hold_activations(learning)
        return self._folded(learning)

    def _aware(self, net: Net, slot: Slot, norm: Node | None) -> Aware:
        value = net.slot(slot)().detach()
        if norm is None:
            return Aware(value, self.bits)
        gain = norm.slot("weight")
        parts = None if gain is None else net.slot(gain), net.slot(norm.args["running_var"]), norm.args["eps"]
        return Aware(value, self.bits, Norm(*parts))

    def _folded(self, net: Net) -> Net:
        """Return the network with its norms folded into the layers before; the codes stay what they are."""
        held = {name: net.slot(name).held() for name, _ in net.weighted() if isinstance(net.slot(name), Aware)}
        for name in held:
            net.set_slot(name, Free(net.slot(name)().detach()))
        folded, _ = fold_batchnorm(net)
        for name, slot in held.items():
            folded.set_slot(name, slot)
        return folded
