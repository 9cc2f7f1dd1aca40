"""Bit lengths that are learned: the loss pays for every bit, and fractions of a bit are mixtures of two lengths."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.kinds import Loss
from paredown.core.knob import knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.count import layers
from paredown.graph.latent import Latent, hold_, learn_, signs, straight_through
from paredown.graph.net import Net
from paredown.graph.slots import Grid
from paredown.methods.loss.cross_entropy import CrossEntropy

MOST = 8
"""The longest length."""

PACE = 20.0
"""Bits to one unit of the parameter that is trained: AdamW moves every parameter by about lr a step."""


def levels(value: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return (codes, step) of `value` on the symmetric grid of a tensor's whole range: codes · step ≈ value.

    One bit: ±1 times max|v|. More: round(v / step) with step = max|v| / (2^(bits−1) − 1). The range [lmin, lmax] of
    Nikolić et al. 2020, section 3.1, with lmin = −lmax, and one level fewer, so that 0 is a level.
    """
    most = value.abs().max().clamp(min=1e-8)
    if bits == 1:
        return signs(value), most
    step = most / (2 ** (bits - 1) - 1)
    return (value / step).round(), step


def mixed(value: Tensor, bits: Tensor) -> Tensor:
    """Return (1 − a) Q(v, ⌊n⌋) + a Q(v, ⌊n⌋ + 1) with a = n − ⌊n⌋ (Nikolić et al. 2020, equation 3).

    Differentiable in n (a scalar from 1): its slope is Q(v, ⌊n⌋ + 1) − Q(v, ⌊n⌋). In v: straight through.
    """
    below = int(bits.detach().floor())
    low, high = (torch.mul(*levels(value.detach(), n)) for n in (below, below + 1))
    return straight_through(value, low + (bits - below) * (high - low))


class BitLength(Latent):
    """A tensor and its bit length n, a real number from 1 to 8 that is trained with it until it is settled."""

    whole: Tensor

    def __init__(self, value: Tensor, bits: float) -> None:
        super().__init__(value)
        self.length = nn.Parameter(torch.tensor(bits / PACE, device=value.device))
        self.register_buffer("whole", torch.tensor(0, device=value.device))

    def used(self) -> Tensor:
        """Return n: from 1 to 8, with a gradient at the ends too; a whole number without one once it is settled."""
        if int(self.whole):
            return self.whole.to(self.length.dtype)
        bits = PACE * self.length
        return bits + (bits.detach().clamp(1, MOST) - bits.detach())

    @torch.no_grad()
    def settle_(self) -> None:
        """Round the length up, for good."""
        self.whole.copy_((self.used() - 1e-4).ceil())

    def forward(self) -> Tensor:
        return mixed(self.value, self.used())

    def held(self) -> Grid:
        """Return the codes of the settled length and the step for the tensor."""
        return Grid(*levels(self.value, int(self.whole)), int(self.whole))


@dataclass(frozen=True)
class _PayForBits:
    """A habit: γ · Σ λᵢ nᵢ in the loss (equation 4) with lengths from 1 to 8, until they are settled at t = `until`."""

    rate: float
    shares: dict[str, float]
    until: float

    def start(self, net: Net) -> dict:
        return {}

    def penalty(self, net: Net, state: dict) -> Tensor:
        return self.rate * sum((self.shares[n] * slot.used() for n, slot in _lengths(net).items()), torch.zeros(()))

    @torch.no_grad()
    def step(self, net: Net, state: dict, t: float) -> dict:
        for slot in _lengths(net).values():
            slot.length.clamp_(1 / PACE, MOST / PACE)
            if t >= self.until and not int(slot.whole):
                slot.settle_()
        return state


def _lengths(net: Net) -> dict[str, BitLength]:
    return {name: net.slot(name) for name in net.slot_names() if isinstance(net.slot(name), BitLength)}


@part("quantize.bit_pruning", Card(title="BitPruning", paper="arxiv:2002.03090", year=2020,
                                   authors="Nikolić, Hacene, Bannon, Lascorz, Courbariaux, Akhlaghi, Gripon, Moshovos",
                                   source="BitPruning, section 3, equations 1-5",
                                   changes={"bits", "bytes"}, needs={"fit"},
                                   forbids={"quantized", "shared", "masked"}, gives={"quantized"}))  # fmt: skip
@dataclass(frozen=True)
class BitPruning:
    """Learn each layer's bit length with its weights, round the lengths up, train on with those, and hold the integers.

    rate: the paper's γ, what a bit of the average length costs in the loss. weigh: what the lengths are averaged over,
    "layers" alike, or by their "weights" (footprint) or "macs". start: bits at the beginning. tune: the share of the
    training that is left for fixed lengths.

    Differs from the paper: weights only; a length is trained as 1/20 of itself, so that it can move by more than the rate
    of learning a step; ranges are symmetric, so that zero stays zero (see `levels`); lengths end at 8.
    """

    rate: float = knob(1.0, low=0.0, high=100.0)
    weigh: str = knob("layers", among=("layers", "weights", "macs"))
    start: int = knob(8, among=range(1, MOST + 1), search=False)
    tune: float = knob(0.5, low=0.05, high=0.95)
    loss: Loss = CrossEntropy()
    habits: tuple = ()
    plan: Plan = Plan()

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` whose weights are integers of as many bits as each layer was found to need."""
        learning = net.copy()
        learn_(learning, lambda value: BitLength(value, self.start), work.skip)
        paying = _PayForBits(self.rate, self.shares(net), 1 - self.tune)
        work.use("fit")(learning, loss=self.loss, habits=(paying, *self.habits), plan=self.plan)
        return hold_(learning)

    def shares(self, net: Net) -> dict[str, float]:
        """Return {slot name: λ}, which sum to 1 over the convolutions and linear layers."""
        rows = {name: next(row for row in layers(net) if row.slot == name) for name, _ in net.weighted()}
        sizes = {n: {"layers": 1, "weights": row.weights, "macs": row.macs}[self.weigh] for n, row in rows.items()}
        return {name: size / max(1, sum(sizes.values())) for name, size in sizes.items()}
