"""Widths chosen layer by layer or channel by channel: the least harm within budgets."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.kinds import Loss, Sensitivity
from paredown.core.knob import check_fields, knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.count import layers
from paredown.cost.memory import timeline
from paredown.graph.activations import CONSTANT, LEARNABLE, insert
from paredown.graph.allocate import Budget, Moment, Peak, Products, Sum, allocate
from paredown.graph.latent import signs, straight_through
from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.ranges import calibrate, chosen
from paredown.graph.slots import Free, Grid, LearnedStep, Masked, short_float
from paredown.graph.spec import Node
from paredown.graph.storing import storing
from paredown.graph.widths import Place, Trials, coded, held, slot_of, with_slots
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.quantize.activations import quantizer
from paredown.methods.quantize.learned_step import first_step, hold_weights_
from paredown.methods.sensitivity.leave_one_out import LeaveOneOut

WIDEST = 8


@dataclass(frozen=True)
class Limits:
    """Budgets beside the mean width; 0 is none. All hold at once.

    weight_bytes: of the codes of all weights that are rounded. bops: MACs × weight bits × activation bits of the network,
    as `cost.count` counts them. ram_bytes: the peak of live activations, nothing in place. coded: weights count as an
    entropy coder takes them (the codes' zero-order entropy), not at their widths; it holds for the mean width too.
    """

    weight_bytes: int = knob(0, low=0, high=1 << 40, search=False)
    bops: int = knob(0, low=0, high=1 << 60, search=False)
    ram_bytes: int = knob(0, low=0, high=1 << 40, search=False)
    coded: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


class MixedStep(LearnedStep):
    """A weight in training whose output channels have widths and learned steps of their own: LSQ for each channel.

    The gradient of a step is scaled by 1 / sqrt(N Q) of its channel. A channel of 1 bit has the levels −1 and +1, one of 0
    bits is zero.
    """

    highs: Tensor
    widths: Tensor

    def __init__(self, value: Tensor, step: Tensor, widths: list[int]) -> None:
        super().__init__(value, max(2, *widths), step)
        shape = (-1, *[1] * (value.dim() - 1))
        self.register_buffer("widths", torch.tensor(widths, device=value.device).view(shape))
        highs = [0 if bits == 0 else max(1, 2 ** (bits - 1) - 1) for bits in widths]
        self.register_buffer("highs", torch.tensor(highs, dtype=value.dtype, device=value.device).view(shape))

    def step(self) -> Tensor:
        """Return the steps as they are used: of four significant bits, with LSQ's scaled gradient."""
        count = self.value.numel() // max(1, len(self.value))
        step = self.log_step.exp() / (count * self.highs.clamp(min=1)).sqrt()
        return step + (short_float(self.log_step.detach().exp()) - step.detach())

    def levels(self) -> Tensor:
        """Return `clip(value / step)`, differentiable."""
        return (self.value / self.step()).clamp(-self.highs, self.highs)

    def codes(self, levels: Tensor) -> Tensor:
        """Return the integers that levels are rounded to."""
        return torch.where(self.widths == 1, signs(self.value), levels.round()).detach()

    def forward(self) -> Tensor:
        levels = self.levels()
        return straight_through(levels, self.codes(levels)) * self.step()

    @torch.no_grad()
    def held(self) -> Grid:
        """Return the integers that the call computes with."""
        step = torch.where(self.widths > 0, self.step(), torch.ones_like(self.log_step))
        return slot_of(self.codes(self.levels()), step, self.widths.flatten().tolist())


def stored_places(net: Net, able: Sequence[str], granularity: str) -> list[Place]:
    """Return a place for each weight, or for each entry of its first dimension."""
    if granularity == "layer":
        return [Place(name) for name in able]
    return [Place(name, c) for name in able for c in range(len(net.slot(name)()))]


def bit_budget(trials: Trials, limits: Limits, mean_bits: float) -> list[Budget]:
    """Return the budgets on the weights' codes: bits per weight on average, and bytes."""
    total = sum(trials.size(place) for place in trials.places)
    bits = [
        [trials.code_bits(p, b) if limits.coded and not p.flows else float(trials.size(p) * b) for b in widths]
        for p, widths in zip(trials.places, trials.widths, strict=True)
    ]
    found: list[Budget] = []
    if mean_bits:
        found.append(Sum(f"bits ({mean_bits:g} a weight)", bits, mean_bits * total))
    if limits.weight_bytes:
        found.append(Sum("bytes of weights", [[b / 8 for b in row] for row in bits], limits.weight_bytes))
    return found


def operation_budget(trials: Trials, most: float) -> Products:
    """Return the budget on bit operations: each weight's MACs times its width times that of the value it reads."""
    places = {place: at for at, place in enumerate(trials.places)}
    rows = layers(trials.net)
    nodes = (node for node in trials.net.spec.nodes if node.op in WEIGHTED)
    fixed = sum(row.bops for row in rows)
    alone: dict[int, list[float]] = {}
    pairs: dict[tuple[int, int], list[list[float]]] = {}
    for node, row in zip(nodes, (row for row in rows if row.op in WEIGHTED), strict=True):
        own = [at for place, at in places.items() if not place.flows and place.name == row.slot]
        source = places.get(Place(str(node.args["input"]), flows=True))
        fixed -= row.bops if own else 0
        for at in own:
            macs = row.macs * trials.size(trials.places[at]) // row.weights
            if source is None:
                old = alone.get(at, [0.0] * len(trials.widths[at]))
                alone[at] = [c + macs * w * row.activation_bits for c, w in zip(old, trials.widths[at], strict=True)]
            else:
                pairs[at, source] = [[float(macs * w * a) for a in trials.widths[source]] for w in trials.widths[at]]
    return Products("bit operations", pairs, most, alone, fixed)


def memory_budget(trials: Trials, most: float) -> Peak:
    """Return the budget on peak memory: each live tensor is as wide as the widest of the quantizers that decide it."""
    flowing = {at: place for at, place in enumerate(trials.places) if place.flows}

    def live(at: int = -1, bits: int = 0) -> list[Mapping[str, int]]:
        tried = trials.net.copy()
        tried.remember(trials.net.shapes())
        insert(tried, {p.name: trials.node(p, bits if i == at else trials.widths[i][0]) for i, p in flowing.items()})
        return [moment.live for moment in timeline(tried)]

    narrow = live()
    tables = {at: [live(at, bits) for bits in trials.widths[at]] for at in flowing}
    moments = []
    for now, alive in enumerate(narrow):
        fixed, buffers = 0, []
        for name, size in alive.items():
            rows = {at: [float(times[now][name]) for times in table] for at, table in tables.items()}
            buffer = {at: row for at, row in rows.items() if max(row) > size}
            buffers += [buffer] if buffer else []
            fixed += 0 if buffer else size
        moments.append(Moment(fixed, tuple(buffers)))
    return Peak("bytes of memory", tuple(moments), most)


def budgets_of(trials: Trials, limits: Limits, mean_bits: float) -> list[Budget]:
    """Return all budgets that are set."""
    found = bit_budget(trials, limits, mean_bits)
    found += [operation_budget(trials, limits.bops)] if limits.bops else []
    found += [memory_budget(trials, limits.ram_bytes)] if limits.ram_bytes else []
    return found


def widths_of(trials: Trials, chosen_bits: Sequence[int]) -> dict[str, list[int]]:
    """Return {weight: its width, or one for each channel} of the widths chosen at the places."""
    found: dict[str, list[int]] = {}
    for place, bits in zip(trials.places, chosen_bits, strict=True):
        if not place.flows:
            found.setdefault(place.name, []).append(bits)
    return found


def tried(trials: Trials, chosen_bits: Sequence[int]) -> Net:
    """Return a network in eval mode with those widths, to be looked at only: it shares slots with the trials' network."""
    weights: dict[str, Tensor] = {}
    flowing = {}
    for place, bits in zip(trials.places, chosen_bits, strict=True):
        if place.flows:
            flowing[place.name] = trials.node(place, bits)
        elif place.channel is None:
            weights[place.name] = trials.rounded(place, bits)
        else:
            weights.setdefault(place.name, trials.value(Place(place.name)).clone())[place.channel] = trials.rounded(
                place, bits
            )[0]
    out = with_slots(trials.net, weights)
    insert(out, flowing)
    return out


@dataclass(frozen=True)
class Rounding:
    """How widths become codes: nearest levels with steps by `fit`, or trained; and the biases' width."""

    way: str
    bias_bits: int
    loss: Loss
    habits: tuple
    plan: Plan

    def applied(self, trials: Trials, chosen_bits: Sequence[int], work: Work) -> Net:
        """Return a copy of the trials' network with those widths."""
        out = trials.net.copy()
        values = [(p, b) for p, b in zip(trials.places, chosen_bits, strict=True) if p.flows]
        insert(out, {place.name: trials.node(place, bits) for place, bits in values})
        for name, widths in widths_of(trials, chosen_bits).items():
            weight = out.slot(name)().detach()
            out.set_slot(name, held(weight, widths, trials.fit))
            if self.way == "trained":
                each = widths if len(widths) > 1 else widths * len(weight)
                out.set_slot(name, MixedStep(weight, out.slot(name).step, each))
        self._biases(out)
        if self.way == "trained":
            work.use("fit")(out, loss=self.loss, habits=self.habits, plan=self.plan)
            hold_weights_(out)
        return out

    def _biases(self, net: Net) -> None:
        for slot, bits in storing(net, {"bias": self.bias_bits}, (Free, Grid, LearnedStep), lambda *_: None):
            if not isinstance(net.slot(slot), Free):
                continue
            value = net.slot(slot)().detach()
            if self.way == "trained":
                net.set_slot(slot, LearnedStep(value, bits, first_step(value, bits)))
            else:
                codes, step = coded(value.view(1, -1), bits, "max")
                net.set_slot(slot, Grid(codes.view(-1), step.view(()), bits))


def trials_of(net: Net, step: "Mixed", work: Work) -> Trials:
    """Return what `step` chooses from on `net`: its weights, and the values that feed them if those have widths."""
    forms = (Free,) if step.rounding == "trained" else (Free, Masked)
    able = dict.fromkeys(str(slot) for slot, _ in storing(net, {"weight": 1}, forms, work.skip))
    places = stored_places(net, list(able), step.granularity)
    widths: list[tuple[int, ...]] = [tuple(sorted(step.widths))] * len(places)
    ranges = calibrate(net, work.use("calib")[0]) if step.activation_widths else {}
    operators = {node.name: node.op for node in net.spec.nodes}
    for name in ranges:
        if operators.get(name) in (CONSTANT, LEARNABLE):
            work.skip(name, "it is quantized already")
        else:
            places.append(Place(name, flows=True))
            widths.append(tuple(sorted(step.activation_widths)))

    @functools.cache
    def node(name: str, bits: int) -> Node:
        return quantizer(name, chosen(ranges[name], "mse", bits), bits)

    return Trials(net, tuple(places), tuple(widths), "max" if step.rounding == "max" else "mse", node)


@part("quantize.mixed", Card(title="Mixed precision by integer programming", paper="arxiv:2011.10680", year=2021,
                             authors="Yao, Dong, Zheng, Gholami, Yu, Tan, Wang, Huang, Wang, Mahoney, Keutzer",
                             source="HAWQ-V3, section 3.4, equation 11; channels of 0 bits: van Baalen et al. 2020, arxiv:2005.07093",
                             changes={"bits", "bytes"}, needs={"calib", "fit"}, forbids={"quantized", "shared"},
                             gives={"quantized"}))  # fmt: skip
@dataclass(frozen=True)
class Mixed:
    """Choose each weight's width, or each output channel's, with the least Σ harm within budgets; then round to them.

    mean_bits: what a weight takes on average, at most; 0 leaves it to `limits`, which hold besides. widths: to choose from,
    0 to 8; 0 takes a layer or channel away, 1 is ±mean |w|. activation_widths: to choose from for each value that feeds a
    convolution or linear layer, 2 to 8, or () to leave activations in float. granularity: of the weights' widths.
    sensitivity: the part that says what each width harms. rounding: "max" and "mse" round after training with steps by
    largest weight or least squared error, one for each output channel, of four significant bits; "trained" learns
    weights and steps at the chosen widths. bias_bits: of the biases' codes, or 0 to leave them in float.

    Differs from the paper: harms by any sensitivity; widths of channels; activations have widths of their own.
    """

    mean_bits: float = knob(4.0, low=0.0, high=8.0)
    granularity: str = knob("layer", among=("layer", "channel"))
    sensitivity: Sensitivity = field(default_factory=LeaveOneOut)
    rounding: str = knob("mse", among=("max", "mse", "trained"))
    bias_bits: int = knob(8, among=(0, 4, 5, 6, 7, 8), search=False)
    widths: tuple = (0, 2, 3, 4, 5, 6, 8)
    activation_widths: tuple = ()
    limits: Limits = Limits()
    loss: Loss = CrossEntropy()
    habits: tuple = ()
    plan: Plan = Plan()

    def __post_init__(self) -> None:
        check_fields(self)
        check_widths("Mixed.widths", self.widths, 0)
        check_widths("Mixed.activation_widths", self.activation_widths, 2)
        if not self.widths:
            raise BadInput("Mixed.widths=() leaves nothing to choose from; allowed: numbers from 0 to 8")
        if not (self.mean_bits or self.limits.weight_bytes or self.limits.bops or self.limits.ram_bytes):
            raise BadInput("Mixed.mean_bits=0 needs a budget in limits: weight_bytes, bops or ram_bytes")

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` at the chosen widths. Raises BadInput where the budgets cannot be met."""
        trials = trials_of(net.copy().eval(), self, work)
        rounding = Rounding(self.rounding, self.bias_bits, self.loss, self.habits, self.plan)
        return rounding.applied(trials, self.choose(trials, work), work)

    def choose(self, trials: Trials, work: Work) -> list[int]:
        """Return the width of each place."""
        name, card = type(self.sensitivity).part_name, type(self.sensitivity).card  # type: ignore[attr-defined]
        harms = self.sensitivity.harms(trials, work.scoped(name, card.needs))
        if not all(math.isfinite(harm) for row in harms for harm in row):
            raise BadInput(f"{name} found harms that are not finite; the network's scores overflow")
        at = allocate(harms, budgets_of(trials, self.limits, self.mean_bits))
        return [widths[k] for widths, k in zip(trials.widths, at, strict=True)]


def check_widths(name: str, widths: Sequence[object], least: int) -> None:
    """Raise BadInput unless widths are different whole numbers from `least` to 8."""
    whole = all(type(bits) is int and least <= bits <= WIDEST for bits in widths)
    if not whole or len(set(widths)) < len(widths):
        raise BadInput(f"{name}={tuple(widths)!r} is not allowed; different whole numbers from {least} to {WIDEST}")
