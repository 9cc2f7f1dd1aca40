"""Activations with a learned clipping level."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.kinds import Loss
from paredown.core.knob import knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.activations import LEARNABLE, hold_activations, insert
from paredown.graph.latent import hold_, learn_
from paredown.graph.net import Net
from paredown.graph.slots import Fixed, short_float
from paredown.graph.spec import Node, Slot, Spec, Value, mapped
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.quantize.dorefa import TanhWeight, readable


class Clip(nn.Module):
    """A clipping level α while it is trained; the call returns 2^bits − 1 steps of four significant bits."""

    def __init__(self, level: Tensor, bits: int) -> None:
        super().__init__()
        self.high = 2**bits - 1
        self.value = nn.Parameter(level.detach().clone().view(1))

    def step(self) -> Tensor:
        """Return the distance between two levels."""
        return short_float((self.value.detach() / self.high).clamp(min=1e-6))

    def forward(self) -> Tensor:
        return self.value + (self.step() * self.high - self.value.detach())


class ClipStep(nn.Module):
    """The step that belongs to a clipping level, without a gradient."""

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.clip = clip

    def forward(self) -> Tensor:
        return self.clip.step()


def clip_inputs_(net: Net, tops: dict[str, float], bits: int) -> None:
    """Make the layers that read these values read round(min(x, α) · (2^k − 1) / α) · α / (2^k − 1) instead, in place.

    tops: the first α of each value. The gradient of α is the sum over the entries above it, that of x is 1 below it
    (Choi et al. 2018, equations 1-3).
    """
    clips = {value: Clip(torch.tensor(max(top, 1e-3)), bits) for value, top in tops.items()}
    for value, clip in clips.items():
        net.set_slot(f"{value}.clip", clip.to(next(net.parameters()).device))
    insert(net, {v: Node(f"{v}_clipped", "minimum", {"self": Value(v), "other": Slot(f"{v}.clip")}) for v in clips})
    for value, clip in clips.items():
        net.set_slot(f"{value}.step", ClipStep(clip))
        net.set_slot(f"{value}.zero", Fixed(torch.zeros_like(clip.value)))
    insert(net, {f"{value}_clipped": _rounding(value, clip.high) for value, clip in clips.items()})


def _rounding(value: str, high: int) -> Node:
    slots = {"scale": Slot(f"{value}.step"), "zero_point": Slot(f"{value}.zero")}
    args = {"self": Value(f"{value}_clipped"), **slots, "quant_min": 0, "quant_max": high}
    return Node(f"{value}_quantized", LEARNABLE, args)


def hold_clips_(net: Net) -> None:
    """Turn the clipped quantizers into constant ones, in place; a constant quantizer clips by itself."""
    hold_activations(net)
    through = {node.name: node.args["self"] for node in net.spec.nodes if _is_clip(net, node)}

    def past(leaf: object) -> object:
        return through.get(leaf, leaf) if isinstance(leaf, Value) else leaf

    nodes = [replace(n, args=mapped(n.args, past)) for n in net.spec.nodes if n.name not in through]
    net.rewire(Spec(net.spec.inputs, tuple(nodes), net.spec.output))


def _is_clip(net: Net, node: Node) -> bool:
    slot = node.slot("other") if node.op == "minimum" else None
    return slot is not None and isinstance(net.slot(slot), Clip)


@dataclass(frozen=True)
class _Decay:
    """A habit: rate · Σ α² in the loss (section 3.2)."""

    rate: float

    def start(self, net: Net) -> dict:
        return {}

    def penalty(self, net: Net, state: dict) -> Tensor:
        clips = [slot for slot in net.slots.values() if isinstance(slot, Clip)]
        return self.rate * sum((clip.value.square().sum() for clip in clips), torch.zeros(()))

    def step(self, net: Net, state: dict, t: float) -> dict:
        return state


@part("quantize.pact", Card(title="PACT: parameterized clipping activation", paper="arxiv:1805.06085", year=2018,
                            authors="Choi, Wang, Venkataramani, Chuang, Srinivasan, Gopalakrishnan",
                            source="PACT, section 3, equations 1-3; weights as in DoReFa-Net",
                            changes={"bits", "bytes"}, needs={"fit", "calib"},
                            forbids={"quantized", "shared", "masked"}, gives={"quantized", "shared"}))  # fmt: skip
@dataclass(frozen=True)
class Pact:
    """Train with activations of few bits whose clipping level is learned, and weights as DoReFa's; then hold both.

    bits: of a weight, 1 to 8 (see `quantize.dorefa`). activation_bits: of an inner layer's input that is never negative on
    the calibration split, 1 to 8. decay: of the squared clipping levels in the loss. real_ends: leave the first and the last
    layer real, as the paper does.

    Differs from the paper: a level starts at the value's maximum over the calibration split; steps have four
    significant bits, in training too.
    """

    bits: int = knob(4, among=range(1, 9))
    activation_bits: int = knob(4, among=range(1, 9))
    decay: float = knob(2e-4, low=0.0, high=1.0)
    real_ends: bool = knob(True, among=(True, False), search=False)
    loss: Loss = CrossEntropy()
    habits: tuple = ()
    plan: Plan = Plan()

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` whose inner layers hold codes and read codes."""
        learning = net.copy()
        taken = learn_(learning, lambda value: TanhWeight(value, self.bits, True), work.skip, self.real_ends)
        read = readable(net.copy(), taken, work.use("calib")[0], work.skip)
        clip_inputs_(learning, read, self.activation_bits)
        work.use("fit")(learning, loss=self.loss, habits=(_Decay(self.decay), *self.habits), plan=self.plan)
        hold_clips_(learning)
        return hold_(learning)
