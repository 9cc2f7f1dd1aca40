"""Quantization-aware training with learned step sizes."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.kinds import Loss
from paredown.core.knob import knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.activations import hold_activations, learn_activations
from paredown.graph.latent import by_filter
from paredown.graph.net import Net
from paredown.graph.slots import Free, LearnedStep
from paredown.graph.storing import storing
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.quantize.clipped import step_within


def first_step(value: Tensor, bits: int, per_channel: bool = False) -> Tensor:
    """Return LSQ's initial step, 2 · mean|v| / sqrt(Q) with Q the highest level (Esser et al. 2020, section 2.1).

    A scalar, or with `per_channel` one for each entry of the first dimension of a weight, shaped to broadcast over it.
    """
    high, size = 2 ** (bits - 1) - 1, value.detach().abs()
    mean = size.mean(by_filter(size), keepdim=True) if per_channel and value.dim() > 1 else size.mean()
    return (2 * mean / math.sqrt(high)).clamp(min=1e-6)


@part("quantize.learned_step", Card(title="Learned step size quantization", paper="arxiv:1902.08153", year=2020,
                                    authors="Esser, McKinstry, Bablani, Appuswamy, Modha",
                                    source="Learned Step Size Quantization, equations 1-5",
                                    changes={"bits", "bytes"}, needs={"fit", "calib"},
                                    forbids={"quantized", "shared", "masked"}, gives={"quantized"}))  # fmt: skip
@dataclass(frozen=True)
class LearnedStepQuantization:
    """Train with rounded weights (and activations) and learn each tensor's step; then hold the integers.

    bits: width of a weight's code, 2 to 8. bias_bits: of a bias's, 4 to 8, or 0 to leave biases in float.
    granularity: one step for the tensor, as in the paper, or for each output channel. symmetric: levels −Q…Q in place of
    the paper's −(Q + 1)…Q; with 2 bits those are three levels and four. start: the first steps, the paper's "mean", or "mse",
    those of the least squared error: a short training begins nearer to its end with them.
    activation_bits: 8 or 4 for the inputs of every convolution and linear layer, or 0 to leave them in float.

    Differs from the paper: the step is learned as its logarithm and used with four significant bits, so that a file can
    hold it in a few; the first and last layer have the same width as the others.
    """

    bits: int = knob(4, among=range(2, 9))
    bias_bits: int = knob(6, among=(0, 4, 5, 6, 7, 8))
    activation_bits: int = knob(0, among=(0, 4, 8), search=False)
    loss: Loss = CrossEntropy()
    habits: tuple = ()
    plan: Plan = Plan()
    granularity: str = knob("tensor", among=("tensor", "channel"), search=False)
    symmetric: bool = knob(True, among=(True, False), search=False)
    start: str = knob("mean", among=("mean", "mse"), search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` whose convolutions and linear layers hold integer codes."""
        learning = net.copy()
        self._learn_weights(learning, work)
        if self.activation_bits:
            learn_activations(learning, self.activation_bits, work.use("calib")[0], start=self.start)
        work.use("fit")(learning, loss=self.loss, habits=self.habits, plan=self.plan)
        hold_weights_(learning)
        hold_activations(learning)
        return learning

    def _learn_weights(self, net: Net, work: Work) -> None:
        widths = {"weight": self.bits, "bias": self.bias_bits}
        for slot, bits in storing(net, widths, (Free, LearnedStep), work.skip):
            if isinstance(net.slot(slot), Free):
                value, each = net.slot(slot)(), self.granularity == "channel"
                step = first_step(value, bits, each)
                if self.start == "mse":
                    step = step_within(value, bits, 0.0, each).clamp(min=1e-6)
                net.set_slot(slot, LearnedStep(value, bits, step, self.symmetric))


def hold_weights_(net: Net) -> None:
    """Turn every learned slot of `net` into the integers that it stands for, in place."""
    with torch.no_grad():
        for name in net.slot_names():
            if isinstance(net.slot(name), LearnedStep):
                net.set_slot(name, net.slot(name).held())
