"""The ranges of values that flow: one pass over the calibration samples, then min-max, EMA, percentile, MSE or KL.

The pass keeps what all of them need: extremes, their moving average over the batches, and a histogram.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.errors import BadInput
from paredown.graph.linear import affine, unsigned
from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.spec import Node, Value

BINS = 2048
"""Bins on either side of zero."""

Range = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of values in 2 · BINS bins of one width; zero is the edge in the middle. The width is a power of two.

    A value beyond the last bin doubles the width, which merges bins in pairs: counts stay exact, and at least half of the
    bins on one side are in use.
    """

    counts: Tensor
    width: float

    def centres(self) -> Tensor:
        """Return the middle of each bin."""
        return (torch.arange(2 * BINS, dtype=torch.float64) - BINS + 0.5) * self.width

    def sizes(self) -> Tensor:
        """Return the histogram of |x|, up to the last bin in use."""
        folded = self.counts[BINS:] + self.counts[:BINS].flip(0)
        return folded[: int(folded.nonzero().max()) + 1] if folded.any() else folded[:1]

    def with_values(self, x: Tensor) -> "Histogram":
        """Return the histogram with the values of `x` counted too."""
        counts, width, most = self.counts, self.width, float(x.abs().max())
        while most >= BINS * width:
            pairs = counts.view(BINS, 2).sum(1)
            quarter = counts.new_zeros(BINS // 2)
            counts, width = torch.cat([quarter, pairs, quarter]), width * 2
        bins = (x.flatten().double() / width).floor().long() + BINS
        return Histogram(counts + torch.bincount(bins, minlength=2 * BINS).double().cpu(), width)


def histogram(x: Tensor) -> Histogram:
    """Return the histogram of the values of `x`. Raises BadInput where they are not finite."""
    if not bool(torch.isfinite(x).all()):
        raise BadInput("a value that flows through this network is not finite; its range cannot be calibrated")
    most = float(x.abs().max()) or 1.0
    exponent = int(torch.frexp(torch.tensor(most, dtype=torch.float64)).exponent)
    empty = Histogram(torch.zeros(2 * BINS, dtype=torch.float64), 2.0**exponent / BINS)
    return empty.with_values(x)


@dataclass(frozen=True, eq=False)
class Seen:
    """What one value showed: its extremes, their moving average over the batches, and its histogram."""

    extremes: Range
    average: Range
    histogram: Histogram

    def with_values(self, x: Tensor, decay: float = 0.9) -> "Seen":
        """Return what is known after another batch; average: r ← decay · r + (1 − decay) · r_t (Jacob et al. 2018, section 3.1)."""
        low, high = extremes(x)
        average = tuple(decay * a + (1 - decay) * b for a, b in zip(self.average, (low, high), strict=True))
        both = (min(low, self.extremes[0]), max(high, self.extremes[1]))
        return Seen(both, (average[0], average[1]), self.histogram.with_values(x))


def extremes(x: Tensor) -> Range:
    """Return (minimum, maximum)."""
    return float(x.min()), float(x.max())


def seen(x: Tensor) -> Seen:
    """Return what is known after the first batch."""
    return Seen(extremes(x), extremes(x), histogram(x))


@torch.no_grad()
def calibrate(net: Net, x: Tensor, batch: int = 64, wanted: Iterable[str] | None = None) -> dict[str, Seen]:
    """Return {value name: what it showed} for `wanted` (default: all that feeds convolutions and linear layers).

    One pass over `x`, in the order in which the values are made.
    """
    read = [n.args["input"] for n in net.spec.nodes if n.op in WEIGHTED]
    wanted = {str(leaf) for leaf in read if isinstance(leaf, Value)} if wanted is None else set(wanted)
    found: dict[str, Seen] = {}

    def note(name: str, value: Tensor) -> None:
        if name in wanted:
            found[name] = found[name].with_values(value) if name in found else seen(value)

    def watch(node: Node, value: Tensor) -> None:
        note(node.name, value)

    net.eval()
    for part in x.split(batch):
        note(net.spec.inputs[0][0], part)
        net.run(part, watch=watch)
    return found


def by_channel(node: Node, value: Tensor) -> Tensor:
    """Return a layer's output as [output channels, all its values]."""
    return value.movedim(-1 if node.op == "linear" else 1, 0).flatten(1)


@torch.no_grad()
def moments(net: Net, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return {node: (mean, deviation) of each output channel} over `x`, for every convolution and linear layer."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def watch(node: Node, value: Tensor) -> None:
        if node.op in WEIGHTED:
            rows = by_channel(node, value)
            found[node.name] = rows.mean(1), rows.std(1, correction=0)

    net.eval().run(x, watch=watch)
    return found


def percentile(counts: Histogram, share: float = 0.9999) -> Range:
    """Return (least, most): of all values, at most 1 − share lie above `most`, and as many below `least`. Edges of bins."""
    total = counts.counts.sum()
    beyond = (1 - share) * total
    kept = torch.nonzero(counts.counts.cumsum(0) > beyond).min()
    last = torch.nonzero(counts.counts.flip(0).cumsum(0) > beyond).min()
    return (int(kept) - BINS) * counts.width, (BINS - int(last)) * counts.width


def least_squares(counts: Histogram, full: Range, bits: int, steps: int = 100) -> Range:
    """Return (least, most), each k/steps of `full`'s, with a small mean squared error E(X − Q(X))² at 2^bits levels.

    The expectation is over the bins' centres (in the spirit of Banner et al. 2019, section 3). The ends are searched in turn,
    twice, each exhaustively over k; on values of one sign the result is the best of all k.
    """
    used = counts.counts > 0
    centres, weights = counts.centres()[used], counts.counts[used]
    share = torch.arange(1, steps + 1, dtype=torch.float64)[:, None] / steps
    ends = [torch.tensor(end, dtype=torch.float64) for end in full]
    for at in (1, 0, 1, 0):
        tried = list(ends)
        tried[at] = share * full[at]
        near = affine(tried[0].expand(steps, 1), tried[1].expand(steps, 1), unsigned(bits)).rounded(centres)
        ends[at] = tried[at][((near - centres).square() * weights).sum(1).argmin(), 0]
    return float(ends[0]), float(ends[1])


def least_divergence(counts: Tensor, levels: int = 128, fractional: bool = True) -> tuple[int, float]:
    """Return (i, divergence): how many bins of the histogram of |x| to keep for the least KL divergence (TensorRT).

    For i = levels … all: P is the first i counts, with all beyond added to the last; Q is the first i counts without
    them, summed in `levels` groups and spread evenly over each group's bins that are not empty; KL(P ‖ Q), normalised.
    The first of equal minima counts.

    Convention: group j ends before bin round(j · i / levels). With fractional=False it has ⌊i / levels⌋ bins and the last
    group the rest, as in some other tools; the chosen i differs (A-S4-31: 703 against 767 on one histogram).
    """
    counts = counts.double()
    ends = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    filled = torch.cat([counts.new_zeros(1), (counts > 0).double().cumsum(0)])
    best, least = len(counts), torch.inf
    for kept in range(min(levels, len(counts)), len(counts) + 1):
        divergence = _divergence(counts, ends, filled, _edges(kept, min(levels, kept), fractional))
        if divergence < least:
            best, least = kept, divergence
    return best, least


def _edges(kept: int, levels: int, fractional: bool) -> Tensor:
    """Return where the groups begin and end, levels + 1 bins."""
    at = torch.arange(levels + 1)
    edges = (at * kept / levels).round().long() if fractional else at * (kept // levels)
    edges[-1] = kept
    return edges


def _divergence(counts: Tensor, ends: Tensor, filled: Tensor, edges: Tensor) -> float:
    kept, total = int(edges[-1]), ends[-1]
    p = counts[:kept].clone()
    p[-1] += total - ends[kept]
    level = (ends[edges[1:]] - ends[edges[:-1]]) / (filled[edges[1:]] - filled[edges[:-1]]).clamp(min=1)
    q = level.repeat_interleave(edges.diff()) * (counts[:kept] > 0)
    there = p > 0
    if not bool((q[there] > 0).all()):
        return torch.inf
    return float((p[there] / total * ((p[there] / total).log() - (q[there] / ends[kept]).log())).sum())


METHODS = ("min-max", "ema", "percentile", "mse", "kl")


def chosen(value: Seen, method: str, bits: int) -> Range:
    """Return the range of a value by one of METHODS. KL clips both sides at the same |x|, the others each by itself."""
    low, high = value.extremes
    if method == "ema":
        return value.average
    if method == "percentile":
        least, most = percentile(value.histogram)
        return max(low, least), min(high, most)
    if method == "mse":
        return least_squares(value.histogram, value.extremes, bits)
    if method == "kl":
        limit = least_divergence(value.histogram.sizes(), 2 ** (bits - 1))[0] * value.histogram.width
        return max(low, -limit), min(high, limit)
    return low, high
