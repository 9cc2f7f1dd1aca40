"""Bit lengths that are learned: the loss pays for every bit, and fractions of a bit are mixtures of two lengths."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.kinds import Loss
from paredown.core.knob import knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.count import layers
from paredown.graph.activations import insert
from paredown.graph.latent import Latent, hold_, learn_, signs, straight_through
from paredown.graph.linear import affine, unsigned
from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.ranges import Range
from paredown.graph.slots import Grid
from paredown.graph.spec import Node, Spec, Value
from paredown.graph.watched import Watched
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.quantize.activations import quantizer

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
    return straight_through(value, _between(bits, lambda n: torch.mul(*levels(value.detach(), n))))


def mixed_range(value: Tensor, bits: Tensor, found: Range) -> Tensor:
    """Return the same mixture with Q on the 2^n levels of a range, zero being one of them (section 3.1).

    In v: straight through, 0 for what is beyond the range.
    """
    ends = [torch.tensor(end, dtype=torch.float64, device=value.device) for end in found]
    held = value.detach()
    inside = (held >= min(found[0], 0.0)) & (held <= max(found[1], 0.0))
    made = _between(bits, lambda n: affine(ends[0], ends[1], unsigned(n)).rounded(held).to(value.dtype))
    return straight_through(value, made, inside.to(value.dtype))


def _between(bits: Tensor, rounded: Callable[[int], Tensor]) -> Tensor:
    below = int(bits.detach().floor())
    low, high = rounded(below), rounded(below + 1)
    return low + (bits - below) * (high - low)


class Length(nn.Module):
    """A bit length n, a real number from 1 to 8 that is trained until it is settled; the call returns it."""

    whole: Tensor

    def __init__(self, bits: float, device: torch.device) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(bits / PACE, device=device))
        self.register_buffer("whole", torch.tensor(0, device=device))

    def forward(self) -> Tensor:
        """Return n: from 1 to 8, with a gradient at the ends too; a whole number without one once it is settled."""
        if int(self.whole):
            return self.whole.to(self.value.dtype)
        bits = PACE * self.value
        return bits + (bits.detach().clamp(1, MOST) - bits.detach())

    @torch.no_grad()
    def settle_(self) -> None:
        """Round the length up, for good."""
        self.whole.copy_((self() - 1e-4).ceil())

    @torch.no_grad()
    def clip_(self) -> None:
        """Put what is trained back to where n is from 1 to 8."""
        self.value.clamp_(1 / PACE, MOST / PACE)


class BitLength(Latent):
    """A tensor and its bit length, which is trained with it."""

    def __init__(self, value: Tensor, bits: float) -> None:
        super().__init__(value)
        self.length = Length(bits, value.device)

    def forward(self) -> Tensor:
        return mixed(self.value, self.length())

    def held(self) -> Grid:
        """Return the codes of the settled length and the step for the tensor."""
        bits = int(self.length.whole)
        return Grid(*levels(self.value, bits), bits)


class InputLength(nn.Module):
    """A value that flows, rounded at a bit length that is trained.

    In training the range is that of the batch, as in the paper; its moving average (0.95 of the old one a batch) is the
    range once the length is settled, and in inference.
    """

    ends: Tensor

    def __init__(self, bits: float, device: torch.device) -> None:
        super().__init__()
        self.length = Length(bits, device)
        self.register_buffer("ends", torch.full((2,), torch.nan, device=device))

    def range(self) -> Range:
        """Return the averaged (minimum, maximum)."""
        low, high = self.ends.tolist()
        return low, high

    def forward(self, value: Tensor) -> Tensor:
        if not self.training:
            return value if self.ends.isnan().any() else mixed_range(value, self.length(), self.range())
        now = torch.stack(value.detach().float().aminmax())
        self.ends.copy_(torch.where(self.ends.isnan(), now, now.lerp(self.ends, 0.95)))
        if int(self.length.whole):
            return mixed_range(value, self.length(), self.range())
        return mixed_range(value, self.length(), (float(now[0]), float(now[1])))


@dataclass(frozen=True)
class _PayForBits:
    """A habit: γ · Σ λᵢ nᵢ in the loss (equation 4) with lengths from 1 to 8, until they are settled at t = `until`."""

    rate: float
    shares: dict[str, float]
    until: float

    def start(self, net: Net) -> dict:
        return {}

    def penalty(self, net: Net, state: dict) -> Tensor:
        return self.rate * sum((self.shares[n] * length() for n, length in _lengths(net).items()), torch.zeros(()))

    @torch.no_grad()
    def step(self, net: Net, state: dict, t: float) -> dict:
        for length in _lengths(net).values():
            length.clip_()
            if t >= self.until and not int(length.whole):
                length.settle_()
        return state


def _lengths(net: Net) -> dict[str, Length]:
    """Return {weight slot, or node that an input passes through: its length}."""
    found = {name: net.slot(name).length for name in net.slot_names() if isinstance(net.slot(name), BitLength)}
    if isinstance(net, Watched):
        inputs = {node.name: net.passing(node.name) for node in net.spec.nodes}
        found |= {name: module.length for name, module in inputs.items() if module is not None}
    return found


def measured_(net: Net, bits: float) -> Watched:
    """Return `net` with what its convolutions and linear layers read passing through an `InputLength` for each value."""
    read = dict.fromkeys(n.args["input"] for n in net.spec.nodes if n.op in WEIGHTED)
    insert(net, {str(value): Node(measured(value), "clone", {"self": Value(value)}) for value in read})
    device = next(net.parameters()).device
    return Watched(net, {measured(value): InputLength(bits, device) for value in read})


def measured(value: str) -> str:
    """Return the name of the node that rounds a value."""
    return f"{value}_quantized"


def settled(net: Watched) -> Net:
    """Return the network with constant quantizers of the settled lengths and averaged ranges."""
    plain, nodes = net.plain(), []
    for node in plain.spec.nodes:
        module = net.passing(node.name)
        if module is not None:
            node = quantizer(str(node.args["self"]), module.range(), int(module.length.whole))
        nodes.append(node)
    plain.rewire(Spec(plain.spec.inputs, tuple(nodes), plain.spec.output))
    return plain


@part("quantize.bit_pruning", Card(title="BitPruning", paper="arxiv:2002.03090", year=2020,
                                   authors="Nikolić, Hacene, Bannon, Lascorz, Courbariaux, Akhlaghi, Gripon, Moshovos",
                                   source="BitPruning, section 3, equations 1-5",
                                   changes={"bits", "bytes"}, needs={"fit"},
                                   forbids={"quantized", "shared", "masked"}, gives={"quantized"}))  # fmt: skip
@dataclass(frozen=True)
class BitPruning:
    """Learn each layer's bit length with its weights, round the lengths up, train on with those, and hold the integers.

    rate: the paper's γ, what a bit of the average length costs in the loss. weigh: what the lengths are averaged over,
    "layers" alike, or by their "weights" (footprint: of an input, its values) or "macs". start: bits at the beginning.
    tune: the share of the training that is left for fixed lengths. activations: learn the lengths of what convolutions and
    linear layers read as well, each value one, and leave constant quantizers there.

    Differs from the paper: weights only by default; a length is trained as 1/20 of itself, so that it can move by more than
    the rate of learning a step; ranges of weights are symmetric, so that zero stays zero (see `levels`), those of inputs
    hold zero and are averaged for inference; lengths end at 8.
    """

    rate: float = knob(1.0, low=0.0, high=100.0)
    weigh: str = knob("layers", among=("layers", "weights", "macs"))
    start: int = knob(8, among=range(1, MOST + 1), search=False)
    tune: float = knob(0.5, low=0.05, high=0.95)
    loss: Loss = CrossEntropy()
    habits: tuple = ()
    plan: Plan = Plan()
    activations: bool = knob(False, among=(False, True), search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` whose weights are integers of as many bits as each layer was found to need."""
        learning = net.copy()
        learn_(learning, lambda value: BitLength(value, self.start), work.skip)
        if self.activations:
            learning = measured_(learning, self.start)
        paying = _PayForBits(self.rate, self.shares(net), 1 - self.tune)
        work.use("fit")(learning, loss=self.loss, habits=(paying, *self.habits), plan=self.plan)
        return hold_(settled(learning) if isinstance(learning, Watched) else learning)

    def shares(self, net: Net) -> dict[str, float]:
        """Return {weight slot, or node that rounds an input: λ}, which sum to 1 over all that have a length."""
        rows = {name: next(row for row in layers(net) if row.slot == name) for name, _ in net.weighted()}
        sizes = {n: {"layers": 1, "weights": row.weights, "macs": row.macs}[self.weigh] for n, row in rows.items()}
        if self.activations:
            sizes |= self._inputs(net)
        return {name: size / max(1, sum(sizes.values())) for name, size in sizes.items()}

    def _inputs(self, net: Net) -> dict[str, int]:
        """Return {node that rounds an input: its size}; the MACs of one that several layers read are all of theirs."""
        found: dict[str, int] = {}
        nodes = [node for node in net.spec.nodes if node.op in WEIGHTED]
        for node, row in zip(nodes, [row for row in layers(net) if row.op in WEIGHTED], strict=True):
            name = measured(node.args["input"])
            more = found.get(name, 0) + row.macs
            found[name] = {"layers": 1, "weights": math.prod(net.shapes()[node.args["input"]]), "macs": more}[
                self.weigh
            ]
        return found
