"""Undoing one thing at a time: changes to a quantized network, each of which takes one cause of its error away."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import build
from paredown.core.diagnosis import Range
from paredown.core.work import Work
from paredown.cost.count import stored_bits
from paredown.diagnose.errors import affine_of
from paredown.diagnose.twins import Twins, is_quantizer, with_node, with_slots, without
from paredown.graph.activations import CONSTANT
from paredown.graph.linear import affine, symmetric, unsigned
from paredown.graph.net import Net
from paredown.graph.pairs import own_bias_, pairs
from paredown.graph.ranges import calibrate, moments
from paredown.graph.slots import Free, Grid
from paredown.graph.spec import Node, Value


@dataclass(frozen=True, eq=False)
class Change:
    """One change: what it is in words, a function from a network to a changed copy, and the uncoded bytes that it costs.

    whole: it changes every layer, so that it comes before changes to single ones, and once.
    """

    what: str
    make: Callable[[Net], Net]
    bytes: int = 0
    whole: bool = False


def rounded(weight: Tensor, bits: int, per_channel: bool) -> Grid:
    """Return a weight rounded to nearest on a symmetric grid that ends at its largest size, by channel or as a whole."""
    if per_channel and weight.dim() > 1:
        largest = weight.abs().flatten(1).amax(1).view(-1, *[1] * (weight.dim() - 1))
    else:
        largest = weight.abs().max()
    found = symmetric(largest, bits)
    return Grid(found.encode(weight).to(torch.int16), found.step, bits)


def nearest(weight: Tensor, held: Grid) -> Grid:
    """Return a weight rounded to nearest with the steps and the width that are there."""
    high = 2 ** (held.bits - 1) - 1
    return Grid((weight / held.step).round().clamp(-high - 1, high).to(torch.int16), held.step, held.bits)


def clipped(weight: Tensor, bits: int, per_channel: bool) -> Grid:
    """Return a weight on the symmetric grid of least squared error, of 40 ends each (as `quantize.clipped` finds it)."""
    rows = weight.flatten(1) if per_channel and weight.dim() > 1 else weight.reshape(1, -1)
    largest = rows.abs().amax(1, keepdim=True)
    ends = [largest * k / 40 for k in range(1, 41)]
    errors = torch.stack([(symmetric(end, bits).rounded(rows) - rows).square().sum(1) for end in ends], 1)
    best = torch.cat(ends, 1).gather(1, errors.argmin(1, keepdim=True))
    shape = (-1, *[1] * (weight.dim() - 1)) if len(rows) > 1 else ()
    found = symmetric(best.reshape(shape), bits)
    return Grid(found.encode(weight).to(torch.int16), found.step, bits)


def exchange(both: Twins, slot: str, held: torch.nn.Module, what: str) -> Change:
    """Return the change that stores a weight in another way."""
    more = stored_bits(held) - stored_bits(both.quantized.slot(slot))
    return Change(what, lambda net: with_slots(net, {slot: held}), -(-more // 8))


def float_layer(both: Twins, slot: str, node: Node) -> Change:
    """Return the change that puts a layer's float weight and bias back."""
    names = [slot, *filter(None, [node.slot("bias")])]
    held = {name: Free(both.plain.slot(name)().detach()) for name in names if name in both.quantized.slot_names()}
    more = sum(stored_bits(free) - stored_bits(both.quantized.slot(name)) for name, free in held.items())
    return Change("its float weights", lambda net: with_slots(net, held), -(-more // 8))


def reranged(both: Twins, node: Node, found: Range, bits: int, what: str) -> Change:
    """Return the change that gives a quantizer another range and width."""
    levels = affine(torch.tensor(found[0]).double(), torch.tensor(found[1]).double(), unsigned(bits))
    args = {
        "scale": float(levels.step),
        "zero_point": int(levels.zero),
        "quant_min": levels.low,
        "quant_max": levels.high,
    }

    def make(net: Net) -> Net:
        there = {n.name: n for n in net.spec.nodes}
        if node.name not in there:
            return net
        return with_node(net, Node(node.name, CONSTANT, {"self": there[node.name].args["self"], **args}))

    return Change(what, make)


def unquantized(node: Node) -> Change:
    """Return the change that lets the values flow in float."""
    return Change("float values", lambda net: without(net, {node.name}).eval())


def bias_corrected(both: Twins, node: Node, x: Tensor) -> Change:
    """Return the change that gives a layer the bias with which its channels have the means of the plain twin over `x`."""

    @torch.no_grad()
    def make(net: Net) -> Net:
        out = net.copy()
        shift = moments(both.plain, x)[node.name][0] - moments(out, x)[node.name][0]
        slot = own_bias_(out, out.spec.node(node.name))
        out.set_slot(slot, Free(out.slot(slot)().detach() + shift))
        return out.eval()

    bias = node.slot("bias")
    held = both.quantized.slot(bias) if bias else None
    extra = 32 * both.quantized.shapes()[node.name][1] if bias is None else 0
    if isinstance(held, Grid):
        extra = 32 * held.codes.numel() - stored_bits(held)
    return Change("its bias corrected (quantize.correct_bias)", make, -(-extra // 8))


def equalized(both: Twins, slot: str, x: Tensor) -> Change | None:
    """Return the change that equalizes the plain twin's layers and rounds it again as it was, or None for a layer in no pair.

    Weights keep their widths and granularity; the quantizers of what feeds layers are given min-max ranges anew.
    """
    found, _ = pairs(both.plain)
    if slot not in {name for pair in found for name in pair.weights()}:
        return None
    level: Net = build({"part": "edit.equalize"}).apply(both.plain, Work()).eval()
    ranges = {name: one.extremes for name, one in calibrate(level, x).items()} if _quantizers(both.quantized) else {}

    @torch.no_grad()
    def make(net: Net) -> Net:
        out = net.copy()
        for name in out.slot_names():
            held, value = out.slot(name), level.slot(name)().detach() if name in level.slot_names() else None
            if value is None or not value.is_floating_point() or bool((value == both.plain.slot(name)()).all()):
                continue
            fresh = rounded(value, held.bits, held.step.numel() > 1) if isinstance(held, Grid) else Free(value)
            out.set_slot(name, fresh)
        for node in _quantizers(out):
            if (source := str(node.args["self"])) in ranges:
                bits = (affine_of(out, node).high - affine_of(out, node).low).bit_length()
                out = reranged(both, node, ranges[source], bits, "").make(out)
        return out.eval()

    return Change("edit.equalize before the rounding", make, whole=True)


def _quantizers(net: Net) -> list[Node]:
    return [n for n in net.spec.nodes if is_quantizer(n) and isinstance(n.args["self"], Value)]


def all_weights(both: Twins) -> Change:
    """Return the change that puts every float weight and bias back."""
    changes = [float_layer(both, slot, node) for slot, node in both.layers()]

    def make(net: Net) -> Net:
        for change in changes:
            net = change.make(net)
        return net

    return Change("all weights in float", make, sum(change.bytes for change in changes))


def all_activations(both: Twins) -> Change:
    """Return the change that lets all values flow in float."""
    names = {n.name for n in _quantizers(both.quantized)}
    return Change("all activations in float", lambda net: without(net, names).eval())


def rounded_again(both: Twins) -> Change:
    """Return the change that rounds the older weights of a trained network, without the training, as the trained ones are."""
    fresh: dict[str, torch.nn.Module] = {
        slot: rounded(both.plain.slot(slot)().detach(), max(2, held.bits), held.step.numel() > 1)
        for slot, _ in both.layers()
        if isinstance(held := both.quantized.slot(slot), Grid) and slot not in both.unlike
    }
    for _, node in both.layers():
        if (bias := node.slot("bias")) is not None:
            fresh[bias] = Free(both.plain.slot(bias)().detach())
    return Change("the float network rounded without training", lambda net: with_slots(net, fresh))
