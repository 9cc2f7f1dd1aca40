"""Errors by layer: the quantized network beside its plain twin on the same samples, in one pass over them."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.diagnosis import ActivationError, LayerError, Range
from paredown.diagnose.twins import Twins, is_quantizer, moved
from paredown.graph.frozen import code_range
from paredown.graph.linear import Affine
from paredown.graph.net import Net
from paredown.graph.ranges import Histogram, Seen, percentile, seen
from paredown.graph.slots import Codebook, Grid
from paredown.graph.spec import Node, Spec, Value
from paredown.graph.vectors import VectorCodebook

BATCH = 128

SHARES = (0.9999, 0.999, 0.995, 0.99)
FAR = 4.0
"""How many times wider than what most values need a range must be for the rest to be called outliers."""


def decibels(signal: float, error: float) -> float | None:
    """Return 10 · log10(signal / error), None where one of the two powers is nothing.

    >>> decibels(100.0, 1.0), decibels(1.0, 0.0)
    (20.0, None)
    """
    return 10 * math.log10(signal / error) if signal > 0 and error > 0 else None


@dataclass
class Tally:
    """Sums over samples and places, by channel: of the float output, its square, the local and the accumulated error."""

    count: int
    output: Tensor
    output2: Tensor
    local: Tensor
    local2: Tensor
    run2: Tensor

    @staticmethod
    def of(plain: Tensor, alone: Tensor, ran: Tensor) -> "Tally":
        """Return the sums of one batch; rows are channels."""
        error = alone - plain
        return Tally(
            plain.shape[1], plain.sum(1), plain.square().sum(1), error.sum(1), error.square().sum(1), (ran - plain).square().sum(1)
        )  # fmt: skip

    def plus(self, more: "Tally") -> "Tally":
        """Return the sums of both."""
        return Tally(**{key: getattr(self, key) + getattr(more, key) for key in vars(self)})

    def noise(self) -> tuple[float, float, float]:
        """Return (noise, shift, constant) as `LayerError` has them; channels whose output never changes are left out."""
        spread = self.output2 / self.count - (self.output / self.count).square()
        alive = spread > 1e-12 * spread.max().clamp(min=1e-30)
        if not bool(alive.any()):
            return 0.0, 0.0, 0.0
        relative = (self.local2 / self.count)[alive] / spread[alive]
        mean = (self.local / self.count).square()[alive] / spread[alive]
        constant = mean.clamp(max=1).sum() / relative.clamp(max=1).sum() if float(relative.sum()) > 0 else mean.sum()
        return float(relative.clamp(max=1).mean()), float(mean.mean().sqrt()), min(1.0, float(constant))


def rows(value: Tensor, op: str) -> Tensor:
    """Return a layer's output as [channels, values], float64."""
    return value.detach().movedim(-1 if op == "linear" else 1, 0).flatten(1).double()


def alone(net: Net, node: Node) -> Net:
    """Return a network of one layer, which shares its weight and bias with `net`."""
    spec = Spec((("x", ()),), (node.with_args(input=Value("x")),), Value(node.name))
    return Net(spec, {str(slot): net.slot(slot) for slot in node.slots()}).eval()


@dataclass
class Watched:
    """What one pass found: sums by weight slot; by quantizer node what it read in the plain and in the quantized network."""

    layers: dict[str, Tally]
    floats: dict[str, Seen]
    powers: dict[str, Tensor]
    codes: dict[str, Tensor]


def affine_of(net: Net, node: Node) -> Affine:
    """Return the map of a quantizer node."""

    def number(name: str) -> Tensor:
        value = node.args[name]
        held = net.slot(value)().detach().reshape(-1)[0] if isinstance(value, str) else torch.tensor(float(value))
        return held.double()

    return Affine(
        number("scale"), number("zero_point").round(), int(node.args["quant_min"]), int(node.args["quant_max"])
    )


@torch.no_grad()
def watch(both: Twins, x: Tensor) -> Watched:
    """Return what one pass over the samples `x` shows of both networks, in batches."""
    looking = _Looking(both)
    for part in x.split(BATCH):
        looking.floats = {both.plain.spec.inputs[0][0]: part}
        looking.local = {}
        both.plain.run(part, watch=looking.in_plain)
        both.quantized.run(part, watch=looking.in_quantized)
    return looking.found


class _Looking:
    """One pass: what the plain twin makes is kept for a batch, and the quantized network's values are held beside it."""

    def __init__(self, both: Twins) -> None:
        self.found = Watched({}, {}, {}, {})
        self.single = {node.name: (slot, alone(both.quantized, node)) for slot, node in both.layers()}
        quantizers = [node for node in both.quantized.spec.nodes if is_quantizer(node)]
        self.sources = {n.name: (_source(both, n), affine_of(both.quantized, n)) for n in quantizers}
        self.floats: dict[str, Tensor] = {}
        self.local: dict[str, Tensor] = {}

    def in_plain(self, node: Node, value: object) -> None:
        """Keep a value, and what the quantized layer makes of its float input."""
        if isinstance(value, Tensor):
            self.floats[node.name] = value
        if node.name in self.single and isinstance(node.args["input"], Value):
            self.local[node.name] = self.single[node.name][1](self.floats[node.args["input"]])

    def in_quantized(self, node: Node, value: Tensor) -> None:
        """Add a layer's or a quantizer's value to the sums."""
        if node.name in self.local:
            slot, layers = self.single[node.name][0], self.found.layers
            sums = Tally.of(*(rows(v, node.op) for v in (self.floats[node.name], self.local[node.name], value)))
            layers[slot] = layers[slot].plus(sums) if slot in layers else sums
        elif node.name in self.sources:
            source, levels = self.sources[node.name]
            _note(self.found, node.name, self.floats[source], value, levels)


def _source(both: Twins, node: Node) -> str:
    """Return the name, in the plain twin, of what a quantizer rounds."""
    nodes = {n.name: n for n in both.quantized.spec.nodes}
    name = str(node.args["self"])
    while name in nodes and is_quantizer(nodes[name]):
        name = str(nodes[name].args["self"])
    return name


def _note(found: Watched, name: str, floats: Tensor, value: Tensor, levels: Affine) -> None:
    plain, ran = floats.detach().double(), value.detach().double()
    sums = torch.stack([
        plain.square().sum(), (levels.rounded(plain) - plain).square().sum(), (ran - plain).square().sum(),
        (levels.rounded(plain) != levels.decode((plain / levels.step).round() + levels.zero)).sum(),
        torch.tensor(float(plain.numel())),
    ])  # fmt: skip
    codes = torch.bincount((levels.encode(ran) - levels.low).long().flatten(), minlength=levels.high - levels.low + 1)
    first = name not in found.floats
    found.floats[name] = seen(floats) if first else found.floats[name].with_values(floats)
    found.powers[name] = sums if first else found.powers[name] + sums
    found.codes[name] = codes if first else found.codes[name] + codes


def layer_errors(both: Twins, found: Watched) -> tuple[LayerError, ...]:
    """Return the error of every layer with a stored weight, in order."""
    return tuple(
        _layer(both, slot, node, found.layers.get(slot), place)
        for (slot, node), place in zip(both.layers(), _places(both), strict=True)
    )


def _places(both: Twins) -> list[str]:
    layers = both.layers()
    found = []
    for at, (slot, node) in enumerate(layers):
        weight = both.quantized.slot(slot)()
        deep = int(node.args.get("groups", 1)) > 1 and weight.shape[1] == 1
        ends = "first layer" if at == 0 else "last layer" if at == len(layers) - 1 else ""
        found.append(", ".join(filter(None, (ends, "depthwise" if deep else ""))))
    return found


@torch.no_grad()
def _layer(both: Twins, slot: str, node: Node, sums: Tally | None, place: str) -> LayerError:
    held, plain = both.quantized.slot(slot), both.plain.slot(slot)().detach().double()
    stored = held().detach().double()
    grid, clipped, used, codes, steps = _codes(held, plain)
    by_channel = channels(plain, node).abs().amax(1)
    alive = by_channel[by_channel > 1e-6 * by_channel.max()]
    fresh = (channels(stored, node).abs().amax(1) == 0) & (by_channel > 0)
    noise, shift, constant = sums.noise() if sums else (0.0, 0.0, 0.0)
    unlike = both.unlike.get(slot, "")
    return LayerError(
        name=both.names[slot], node=node.name, op=node.op, place=place, params=plain.numel(), bits=int(getattr(held, "bits", 32)),
        steps=steps, weight_db=decibels(float(plain.square().sum()), float((stored - plain).square().sum())),
        local_db=decibels(float(sums.output2.sum()), float(sums.local2.sum())) if sums else None,
        accumulated_db=decibels(float(sums.output2.sum()), float(sums.run2.sum())) if sums else None,
        noise=noise, range=(float(plain.min()), float(plain.max())), grid=grid, clipped=clipped, codes_used=used, codes=codes,
        ranges_ratio=float(alive.max() / alive.min()) if len(alive) > 1 else None,
        zeroed=float(fresh.double().mean()), shift=shift, constant=constant, moved=moved(both, slot), unlike=unlike,
    )  # fmt: skip


def channels(weight: Tensor, node: Node) -> Tensor:
    """Return a weight as [output channels, values]."""
    return weight.movedim(1 if "transpose" in node.op else 0, 0).flatten(1)


def _codes(held: torch.nn.Module, plain: Tensor) -> tuple[Range | None, float, int, int, int]:
    """Return (grid, share clipped, codes used, codes there are, steps)."""
    if isinstance(held, Codebook):
        return None, 0.0, int(held.codes.unique().numel()), held.centroids.numel(), 0
    if isinstance(held, VectorCodebook):
        return None, 0.0, int(held.codes.unique().numel()), held.centroids.shape[1], 0
    if not isinstance(held, Grid):
        return None, 0.0, 0, 0, 0
    low, high = code_range(held.bits)
    step = held.step.double()
    beyond = (plain > (high + 0.5) * step) | (plain < (low - 0.5) * step)
    ends = float(low * step.max()), float(high * step.max())
    return ends, float(beyond.double().mean()), int(held.codes.unique().numel()), 2**held.bits, step.numel()


def activation_errors(both: Twins, found: Watched) -> tuple[ActivationError, ...]:
    """Return the error of every quantizer of values that flow, in order."""
    nodes = [n for n in both.quantized.spec.nodes if n.name in found.floats]
    return tuple(_activation(both, node, found) for node in nodes)


def _activation(both: Twins, node: Node, found: Watched) -> ActivationError:
    levels, was = affine_of(both.quantized, node), found.floats[node.name]
    power, local, ran, clipped, count = found.powers[node.name].tolist()
    bits = bits_of(levels)
    low, high = grid_of(levels)
    readers = {n.name: both.names[slot] for slot, n in both.layers()}
    feeds = [readers[n.name] for n in both.quantized.spec.users(node.name) if n.name in readers]
    least, most = bulk_range(was, (low, high))
    bulk = bulk_power(was.histogram)
    name = _source(both, node)
    return ActivationError(
        name="input" if name == both.quantized.spec.inputs[0][0] else name, node=node.name, feeds=", ".join(feeds), bits=bits,
        local_db=decibels(power, local), accumulated_db=decibels(power, ran), noise=local / (count * bulk) if bulk > 0 else 0.0,
        range=was.extremes, grid=(low, high), clipped=clipped / count, codes_used=int((found.codes[node.name] > 0).sum()),
        codes=levels.high - levels.low + 1, outliers=_outliers(was.histogram), tail=_tail(was.histogram, 2 * least, 2 * most),
        stretch=(high - low) / max(most - least, 1e-30),
    )  # fmt: skip


def bits_of(levels: Affine) -> int:
    """Return the bits that a quantizer's codes take."""
    return max(1, math.ceil(math.log2(levels.high - levels.low + 1)))


def grid_of(levels: Affine) -> Range:
    """Return the least and the largest value that has a code."""
    return float(levels.decode(torch.tensor(float(levels.low)))), float(levels.decode(torch.tensor(float(levels.high))))


def _outliers(counts: Histogram) -> float:
    low, high = percentile(counts, 0.999)
    most = len(counts.sizes()) * counts.width
    return most / max(abs(low), abs(high), counts.width)


def bulk_range(was: Seen, grid: Range) -> Range:
    """Return (least, most) without the outliers: the widest of four percentile ranges that is a quarter of the grid or less.

    Where none is, there are no outliers to speak of, and the narrowest (1 % beyond either end) is returned.
    """
    found = was.extremes
    for share in SHARES:
        least, most = percentile(was.histogram, share)
        found = max(was.extremes[0], least), min(was.extremes[1], most)
        if FAR * (found[1] - found[0]) <= grid[1] - grid[0]:
            break
    return min(0.0, found[0]), max(0.0, found[1])


def bulk_power(counts: Histogram) -> float:
    """Return the mean square of the values without the outermost per cent at either end; of all where that leaves nothing."""
    least, most = percentile(counts, SHARES[-1])
    centres = counts.centres()
    inside = counts.counts * ((centres >= least) & (centres <= most))
    power = float((inside * centres.square()).sum() / inside.sum().clamp(min=1))
    return power or float((counts.counts * centres.square()).sum() / counts.counts.sum())


def _tail(counts: Histogram, least: float, most: float) -> float:
    centres = counts.centres()
    beyond = counts.counts[(centres < least) | (centres > most)].sum()
    return float(beyond / counts.counts.sum())
