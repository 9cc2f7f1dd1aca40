"""What looks wrong with a layer or a quantizer: the symptom in words with numbers, and the changes that would undo it.

A symptom is named after the cheapest change that takes most of the layer's noise away: rounding to nearest on the same
grid, a range that fits, one step for each channel, a clip of least squared error, a corrected bias, more bits.
"""

from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from paredown.core.diagnosis import ActivationError, LayerError
from paredown.diagnose.errors import Watched, affine_of, bulk_range, channels
from paredown.diagnose.twins import Twins
from paredown.diagnose.undo import (
    Change,
    bias_corrected,
    clipped,
    equalized,
    exchange,
    float_layer,
    nearest,
    reranged,
    rounded,
    unquantized,
)  # fmt: skip
from paredown.graph.linear import affine, unsigned
from paredown.graph.pairs import by_inputs, pairs
from paredown.graph.ranges import Seen, chosen
from paredown.graph.slots import Codebook, Grid
from paredown.graph.spec import Node
from paredown.graph.vectors import VectorCodebook

LOUD = 1e-3
"""The noise (power over power, 30 dB) from which a layer or a quantizer is suspected; sound eight-bit ones have a tenth of it."""
UNEVEN = 8.0
"""How many times ranges must differ to be called uneven: three bits are lost there."""


@dataclass(frozen=True, eq=False)
class Suspect:
    """A symptom before it is measured: `noise` orders the suspects; `changes` undo it, cheapest first."""

    kind: str
    layer: str
    text: str
    remedy: str
    noise: float
    changes: tuple[Change, ...]


def per_cent(share: float) -> str:
    """Return a share in words.

    >>> per_cent(0.034), per_cent(0.0034), per_cent(0.34)
    ('3.4 %', '0.34 %', '34 %')
    """
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def weight_noise(plain: Tensor, held: Tensor, node: Node) -> float:
    """Return the mean over output channels of error power over power, each at most 1; channels of zeros are left out."""
    was, now = channels(plain.double(), node), channels(held.double(), node)
    power = was.square().sum(1)
    alive = power > 0
    return float(((now - was).square().sum(1)[alive] / power[alive]).clamp(max=1).mean()) if bool(alive.any()) else 0.0


def of_layers(both: Twins, errors: tuple[LayerError, ...], x: Tensor) -> list[Suspect]:
    """Return what looks wrong with weights. Layers that have no float counterpart, or were trained on, are left out."""
    others = [row.local_db for row in errors if row.local_db is not None]
    usual = median(others) if others else 0.0
    found = []
    for (slot, node), row in zip(both.layers(), errors, strict=True):
        if row.noise < LOUD or slot in both.unlike or both.trained:
            continue
        held = both.quantized.slot(slot)
        if isinstance(held, Grid):
            found.append(_Weight(both, slot, node, row, x).suspect(usual))
        elif isinstance(held, Codebook | VectorCodebook):
            what = "values" if isinstance(held, Codebook) else "vectors"
            text = f"{row.name}'s weights: {row.codes} shared {what} stand for {row.params:,}"
            back = float_layer(both, slot, node)
            found.append(Suspect("few_values", row.name, text, "more centroids for this layer", row.noise, (back,)))
    return _without_other_sides(both, found)


def _without_other_sides(both: Twins, found: list[Suspect]) -> list[Suspect]:
    """Return the suspects without the layers that only read what an uneven layer before them makes: it is one disease."""
    kinds = {one.layer: one.kind for one in found}
    makers = {both.names[b]: both.names[a] for a, b in (pair.weights() for pair in pairs(both.plain)[0])}
    return [
        one
        for one in found
        if not (one.kind == "input_ranges" and kinds.get(makers.get(one.layer, "")) == "channel_ranges")
    ]


def spread_of(ranges: Tensor) -> float:
    """Return the largest over the smallest range; those below a millionth of the largest stand for dead channels."""
    alive = ranges[ranges > 1e-6 * ranges.max()]
    return float(alive.max() / alive.min()) if len(alive) else 1.0


@dataclass(frozen=True, eq=False)
class _Weight:
    """One rounded weight, and what other ways of rounding it would leave of its noise."""

    both: Twins
    slot: str
    node: Node
    row: LayerError
    x: Tensor

    @property
    def held(self) -> Grid:
        """The weight as it is stored."""
        found: Grid = self.both.quantized.slot(self.slot)
        return found

    @property
    def plain(self) -> Tensor:
        """The float weight."""
        value: Tensor = self.both.plain.slot(self.slot)().detach()
        return value

    def noise(self, held: torch.nn.Module) -> float:
        """Return the weight's noise in another form."""
        return weight_noise(self.plain, held(), self.node)

    def suspect(self, usual: float) -> Suspect:
        """Return what is wrong: the first symptom whose remedy takes the larger part of the noise away."""
        single, bits, row = self.held.step.numel() == 1, max(2, self.held.bits), self.row
        if self.held.bits == 1:
            return self._few_bits(usual)
        fitting, by_channel = rounded(self.plain, bits, not single), rounded(self.plain, bits, True)
        level, fitted = self.noise(nearest(self.plain, self.held)), self.noise(fitting)
        if row.clipped > LOUD and fitted < 0.5 * level:
            return self._clipped(fitting)
        if row.grid and max(map(abs, row.range)) < 0.5 * row.grid[1] and fitted < 0.5 * level:
            return self._unused(fitting)
        if self.uneven_inputs() >= UNEVEN:
            return self._inputs()
        if single and self.uneven() >= UNEVEN and self.noise(by_channel) < 0.5 * min(level, fitted):
            return self._channels(by_channel)
        if row.constant > 0.6 and row.shift > 0.03 and level < 0.5 * self.noise(self.held):
            return self._shifted()
        cut = clipped(self.plain, bits, not single)
        if self.stretched() >= UNEVEN and self.noise(cut) < 0.6 * min(level, fitted):
            return self._outliers(cut)
        return self._few_bits(usual, cut, by_channel)

    def uneven(self) -> float:
        """Return how many times the ranges of the output channels differ."""
        return spread_of(channels(self.plain, self.node).abs().amax(1))

    def stretched(self) -> float:
        """Return the largest weight over the 99th percentile of the sizes, in the row where that is most."""
        rows = self.plain.abs().reshape(1, -1) if self.held.step.numel() == 1 else self.plain.abs().flatten(1)
        return float((rows.amax(1) / rows.quantile(0.99, 1).clamp(min=1e-12)).max()) if rows.shape[1] < 2**24 else 1.0

    def uneven_inputs(self) -> float:
        """Return how many times the ranges of the weights differ by input channel, where a layer before could even them out."""
        for pair in pairs(self.both.plain)[0]:
            if pair.weights()[1] == self.slot:
                ranges = by_inputs(self.plain, pair).abs().amax((1, 3)).flatten()
                made = channels(self.both.plain.slot(pair.weights()[0])().detach(), pair.maker).abs().amax(1)
                return min(spread_of(ranges), spread_of(made))
        return 1.0

    def _found(self, kind: str, text: str, remedy: str, *changes: Change | None) -> Suspect:
        ways = [change for change in changes if change is not None]
        where = f" ({self.row.place})" if self.row.place else ""
        ways += (
            []
            if self.held.bits >= 8
            else [exchange(self.both, self.slot, rounded(self.plain, 8, True), "8 bits for it")]
        )
        ways.append(float_layer(self.both, self.slot, self.node))
        return Suspect(kind, self.row.name, f"{self.row.name}{where}: {text}", remedy, self.row.noise, tuple(ways))

    def _clipped(self, fitting: Grid) -> Suspect:
        end, far = self.row.grid[1] if self.row.grid else 0.0, max(map(abs, self.row.range))
        text = f"{per_cent(self.row.clipped)} of its weights are cut off: the grid ends at {end:.3g}, the weights reach {far:.3g}"
        change = exchange(self.both, self.slot, fitting, "a range that holds all weights")
        return self._found("clipped_weights", text, "a wider range, or a learned one (quantize.learned_step)", change)

    def _unused(self, fitting: Grid) -> Suspect:
        end, far = self.row.grid[1] if self.row.grid else 0.0, max(map(abs, self.row.range))
        used = f"only {self.row.codes_used} of {self.row.codes} codes are used"
        text = f"{used}: the grid reaches to {end:.3g}, the weights only to {far:.3g}"
        change = exchange(self.both, self.slot, fitting, "a range that fits the weights")
        return self._found("dead_codes", text, "a range that fits the weights", change)

    def _channels(self, by_channel: Grid) -> Suspect:
        count = channels(self.plain, self.node).shape[0]
        gone = round(self.row.zeroed * count)
        text = f"one step for {count} channels whose ranges differ {self.row.ranges_ratio:,.0f} times"
        text += f"; {gone} of them round to zero" if gone else "; the small ones keep few codes"
        change = exchange(self.both, self.slot, by_channel, "one step for each channel")
        level = equalized(self.both, self.slot, self.x)
        remedy = "one step for each channel (granularity: channel)" + (", or edit.equalize before it" if level else "")
        return self._found("channel_ranges", text, remedy, change, level)

    def _inputs(self) -> Suspect:
        text = f"what reads one input channel has {self.uneven_inputs():,.0f} times the range of what reads another; the small ones keep few codes"
        level = equalized(self.both, self.slot, self.x)
        return self._found("input_ranges", text, "edit.equalize before the rounding", level)

    def _shifted(self) -> Suspect:
        text = f"its output is shifted by {self.row.shift:.2g} of its spread; {per_cent(self.row.constant)} of its error is the same for all samples"
        back = exchange(self.both, self.slot, nearest(self.plain, self.held), "rounding to nearest")
        return self._found(
            "mean_shift", text, "quantize.correct_bias", bias_corrected(self.both, self.node, self.x), back
        )

    def _outliers(self, cut: Grid) -> Suspect:
        text = f"a few large weights stretch its range: {self.row.codes_used} of {self.row.codes} codes are used"
        change = exchange(self.both, self.slot, cut, "a range of least squared error")
        return self._found("outlier_weights", text, "quantize.clipped: a range of least squared error", change)

    def _few_bits(self, usual: float, *others: Grid) -> Suspect:
        row = self.row
        text = f"{row.bits} bit{'s are' if row.bits > 1 else ' is'} few for it: its output keeps {row.local_db or 0:.0f} dB, the middle one of all layers {usual:.0f} dB"
        if row.zeroed:
            text += f"; {per_cent(row.zeroed)} of its channels have become zero"
        if "depthwise" in row.place:
            text += (
                f"; each channel has only {channels(self.plain, self.node).shape[1]} weights to average the error over"
            )
        return self._found("few_bits", text, "keep this layer at more bits (mixed precision)", *self._cheaper(*others))

    def _cheaper(self, cut: Grid | None = None, by_channel: Grid | None = None) -> list[Change]:
        """Return what may help a layer of few bits short of eight of them; of the other grids, those that do."""
        now, tried = self.noise(self.held), []
        if cut is not None and self.noise(cut) < 0.9 * now:
            tried.append((cut, "a range of least squared error (quantize.clipped)"))
        if by_channel is not None and self.held.step.numel() == 1 and self.noise(by_channel) < 0.9 * now:
            tried.append((by_channel, "one step for each channel"))
        if self.held.bits < 4:
            tried.append((rounded(self.plain, 4, True), "4 bits for it"))
        changes = [exchange(self.both, self.slot, held, what) for held, what in tried]
        return [bias_corrected(self.both, self.node, self.x), *changes] if self.row.constant > 0.6 else changes


def of_activations(both: Twins, errors: tuple[ActivationError, ...], found: Watched) -> list[Suspect]:
    """Return what looks wrong with the quantizers of values that flow."""
    nodes = {node.name: node for node in both.quantized.spec.nodes}
    return [_of_activation(both, nodes[row.node], row, found.floats[row.node]) for row in errors if row.noise >= LOUD]


def histogram_noise(was: Seen, range_: tuple[float, float], bits: int) -> float:
    """Return the mean squared error of rounding to 2^bits levels of a range, over a histogram's bins."""
    levels = affine(torch.tensor(range_[0]).double(), torch.tensor(range_[1]).double(), unsigned(bits))
    centres, counts = was.histogram.centres(), was.histogram.counts
    return float(((levels.rounded(centres) - centres).square() * counts).sum() / counts.sum())


def _of_activation(both: Twins, node: Node, row: ActivationError, was: Seen) -> Suspect:
    low, high = was.extremes
    levels = affine_of(both.quantized, node)
    centres, counts = was.histogram.centres(), was.histogram.counts
    now = float(((levels.rounded(centres) - centres).square() * counts).sum() / counts.sum())
    full = min(low, 0.0), max(high, 0.0)
    fits = histogram_noise(was, full, row.bits) < 0.5 * now
    whole = reranged(both, node, full, row.bits, "a range that holds all values")
    ways = [whole] if fits else []
    ends = f"[{row.grid[0]:.3g}, {row.grid[1]:.3g}]"
    if row.clipped > LOUD / 2 and fits:
        kind, remedy = (
            "clipped_values",
            "a wider range (quantize.activations, min-max), or a learned one (quantize.pact)",
        )
        text = f"{per_cent(row.clipped)} of them are cut off: the range is {ends}, they go from {low:.3g} to {high:.3g}"
    elif fits and row.grid[1] - row.grid[0] > 2 * (full[1] - full[0]):
        kind, remedy = "dead_levels", "a range calibrated on samples like these"
        text = f"only {row.codes_used} of {row.codes} levels are used: the range is {ends}, they go from {low:.3g} to {high:.3g}"
    elif row.stretch >= 4:
        kind, remedy = "outlier_values", "quantize.activations with the method percentile or mse"
        text = f"{per_cent(row.tail)} outliers stretch the range {row.stretch:.0f} times; the others have {max(2, round(row.codes / row.stretch))} of {row.codes} levels"
        ways += [reranged(both, node, bulk_range(was, row.grid), row.bits, "a range without the outliers (percentile)")]
    else:
        kind, remedy = "few_levels", "more bits for these values"
        text = (
            f"{row.bits} {'bits are' if row.bits > 1 else 'bit is'} few for them: {row.local_db or 0:.0f} dB are kept"
        )
    if row.bits <= 8:
        ways.append(
            reranged(both, node, chosen(was, "mse", row.bits), row.bits, "the range of least squared error (mse)")
        )
    if row.bits < 8:
        ways.append(reranged(both, node, full, 8, "8 bits for them"))
    named = "the input" if row.name == "input" else f"values from {row.name}"
    text = f"{named}{f', read by {row.feeds}' if row.feeds else ''}: {text}"
    return Suspect(kind, row.name, text, remedy, row.noise, (*ways, unquantized(node)))
