"""Rounding up or down, whichever serves the layer's output."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.latent import by_filter
from paredown.graph.moments import value_at
from paredown.graph.net import Net
from paredown.graph.slots import Free, Grid
from paredown.graph.spec import Node, Spec, Value
from paredown.graph.storing import storing
from paredown.methods.quantize.clipped import step_within

ZETA, GAMMA = 1.1, -0.1
WARM = 0.2
"""The share of the iterations before roundings are pushed to 0 or 1."""


class Rounding(nn.Module):
    """A weight whose entries are each between two neighbouring levels: step · clip(⌊w / step⌋ + h(V)), equation 22.

    h(V) = clip(σ(V) (ζ − γ) + γ, 0, 1) starts where the weight is. With one bit the levels are −step and +step, and an
    entry beyond them starts at the nearer one. A form for training; `held` ends it.
    """

    form = "quantized"
    floor: Tensor
    step: Tensor

    def __init__(self, weight: Tensor, step: Tensor, bits: int) -> None:
        super().__init__()
        self.bits, self.high, self.gap = bits, max(1, 2 ** (bits - 1) - 1), 2 if bits == 1 else 1
        scaled = weight.detach() / step
        self.register_buffer("floor", scaled.floor() if bits > 1 else torch.full_like(scaled, -1))
        self.register_buffer("step", step.detach().clone())
        share = ((scaled - self.floor) / self.gap).clamp(0, 1)
        self.v = nn.Parameter(torch.logit((share - GAMMA) / (ZETA - GAMMA)))

    def opened(self) -> Tensor:
        """Return h(V), 0 (down) to 1 (up), equation 23."""
        return (self.v.sigmoid() * (ZETA - GAMMA) + GAMMA).clamp(0, 1)

    def forward(self) -> Tensor:
        return self.step * (self.floor + self.gap * self.opened()).clamp(-self.high, self.high)

    @torch.no_grad()
    def held(self) -> Grid:
        """Return the integers, each entry rounded to the nearer side."""
        codes = (self.floor + self.gap * (self.opened() >= 0.5)).clamp(-self.high, self.high)
        return Grid(codes.to(torch.int16), self.step, self.bits)


def penalty(opened: Tensor, beta: float) -> Tensor:
    """Return Σ 1 − |2h − 1|^β, which is zero where every h is 0 or 1 (equation 24)."""
    return (1 - (2 * opened - 1).abs() ** beta).sum()


def annealed(t: float) -> float:
    """Return β at progress t: 20 until the warm start is over, then down to 2 in a straight line."""
    return 20 - 18 * max(0.0, (t - WARM) / (1 - WARM))


def layer_net(net: Net, node: Node) -> Net:
    """Return a network of this layer, and of the ReLU that alone reads it, on the slots of `net`: it shares them."""
    users = net.spec.users(node.name)
    nodes = (node, users[0]) if len(users) == 1 and users[0].op == "relu" else (node,)
    source = str(node.args["input"])
    spec = Spec(((source, net.shapes()[source][1:]),), nodes, Value(nodes[-1].name))
    return Net(spec, {name: net.slot(name) for name in spec.slot_users()})


@part("quantize.adaround", Card(title="AdaRound", paper="arxiv:2004.10568", year=2020,
                                authors="Nagel, Amjad, van Baalen, Louizos, Blankevoort",
                                source="Up or Down? Adaptive Rounding for Post-Training Quantization, section 3",
                                changes={"bits", "bytes"}, needs={"calib"}, forbids={"quantized", "shared", "masked"},
                                gives={"quantized"}))  # fmt: skip
@dataclass(frozen=True)
class AdaRound:
    """Round each weight up or down so that its layer's output, after ReLU, stays nearest on the calibration split.

    bits: width of a code, 1 to 8; of one bit the levels are ± mean|w|. granularity: one step for each output channel, or for the tensor. reach: the largest
    code's share of the largest weight, or 0 for the share whose nearest rounding has the least squared error. iterations, lr, batch: of Adam, for each layer. strength: λ of the penalty.
    Layers are rounded in order, each on what the rounded ones before make of the samples (equation 25).

    Differs from the paper: 1,000 iterations at 3 · 10⁻² and λ = 1 instead of 10,000 at 10⁻³ and 0.01, so that roundings
    close in that time (λ is in units of the layer's squared error; far below it, weights stay at nearest rounding); all of
    the calibration split instead of 1,024 samples; entries still between go to the nearer side. Biases stay in float.
    """

    bits: int = knob(4, among=range(1, 9))
    granularity: str = knob("channel", among=("channel", "tensor"))
    reach: float = knob(1.0, low=0.0, high=1.0)
    iterations: int = knob(1000, low=1, high=100_000, log=True)
    lr: float = knob(3e-2, low=1e-5, high=1.0, log=True)
    strength: float = knob(1.0, low=0.0, high=10.0)
    batch: int = knob(64, low=1, high=65_536, search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with integer weights."""
        held, x = net.copy(), work.use("calib")[0]
        able = {str(slot) for slot, _ in storing(held, {"weight": self.bits}, (Free,), work.skip)}
        for name, node in list(net.weighted()):
            if name in able:
                own = layer_net(held, node)
                inputs = value_at(held, x, str(node.args["input"]))
                wanted = value_at(net, x, own.spec.nodes[-1].name)
                held.set_slot(name, self._rounded(own, name, inputs, wanted, work.seed))
        return held

    def step_of(self, weight: Tensor) -> Tensor:
        """Return the step between the levels of a weight."""
        each = self.granularity == "channel"
        if self.bits > 1:
            return step_within(weight, self.bits, self.reach, each)
        return weight.abs().mean(by_filter(weight), keepdim=True) if each and weight.dim() > 1 else weight.abs().mean()

    def _rounded(self, own: Net, name: str, inputs: Tensor, wanted: Tensor, seed: int) -> Grid:
        weight = own.slot(name)().detach()
        rounding = Rounding(weight, self.step_of(weight), self.bits)
        own.set_slot(name, rounding)
        optimiser = torch.optim.Adam([rounding.v], lr=self.lr)
        draw = torch.Generator().manual_seed(seed)
        for at in range(self.iterations):
            chosen = torch.randint(len(inputs), (min(self.batch, len(inputs)),), generator=draw)
            loss = (own(inputs[chosen]) - wanted[chosen]).square().flatten(1).sum(1).mean()
            if (t := at / self.iterations) >= WARM:
                loss = loss + self.strength * penalty(rounding.opened(), annealed(t))
            optimiser.zero_grad()
            loss.backward(inputs=[rounding.v])
            optimiser.step()
        return rounding.held()
