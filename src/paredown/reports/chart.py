"""The frontier as a drawing: where every mark, tick and line goes, in SVG units. The template draws it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from paredown.reports import words
from paredown.reports.read import Record

ORDER = ("candidate", "frontier", "baseline", "winner")
"""The kinds of mark, in the order they are drawn: what matters lies on top."""


@dataclass(frozen=True)
class Dot:
    """One candidate to draw: its cost, its value with interval, and its kind of mark."""

    id: str
    amount: float
    value: float
    low: float
    high: float
    kind: str


@dataclass(frozen=True)
class Mark:
    """A dot's place. `below` says that its value lies under the axis and that it stands at its edge instead."""

    id: str
    kind: str
    x: float
    y: float
    y_low: float
    y_high: float
    below: bool
    label: str


@dataclass(frozen=True)
class Tick:
    """A tick's place and its text."""

    at: float
    label: str


@dataclass(frozen=True)
class Chart:
    """A drawing of `width` × `height` with its plot between `left`…`right` and `top`…`bottom`."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    marks: tuple[Mark, ...]
    path: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    x_title: str
    y_title: str
    floor: Tick | None
    floor_left: bool
    below: int


def dots(record: Record) -> list[Dot]:
    """Return what can be drawn: every candidate with a finite cost and value, each once, as its most telling kind."""
    kinds = record.kinds()
    found = []
    for tried in record.tried:
        size = tried.amount(record.minimize)
        if not tried.good or size is None or not words.finite(tried.value) or not math.isfinite(size):
            continue
        val = tried.result["val"]
        low, high = (v if words.finite(v) else tried.value for v in (val.get("low"), val.get("high")))
        found.append(Dot(tried.id, size, tried.value, low, high, kinds[tried.id]))
    return sorted(found, key=lambda d: (ORDER.index(d.kind), d.amount))


def draw(record: Record, width: int, height: int) -> Chart | None:
    """Return the frontier's drawing, or None when there is nothing to draw."""
    shown = dots(record)
    if not shown:
        return None
    across = _Across([d.amount for d in shown], 54.0, width - 14.0)
    up = _Up(shown, record, 16.0, height - 46.0)
    marks = tuple(_mark(dot, across, up, record) for dot in shown)
    ids = {t.id for t in record.frontier()}
    front = [m for m in marks if m.id in ids]
    floor = None if record.floor is None else Tick(up.at(record.floor), f"floor {words.plain(record.floor)}")
    better = "" if record.sign > 0 else ", lower is better: upward is better"
    x_title = f"{words.cost_name(record.minimize)}{_unit(record.minimize)}, log scale"
    return Chart(
        width, height, across.left, across.right, up.top, up.bottom, marks, _stairs(front, across.right),
        across.ticks(58 if width > 500 else 50), up.ticks(), x_title,
        f"{record.metric.replace('_', ' ')} on validation{better}", floor, _emptier_left(marks, floor, width),
        sum(m.below for m in marks),
    )  # fmt: skip


def _emptier_left(marks: Sequence[Mark], floor: Tick | None, width: int) -> bool:
    """Whether the floor's name stands more freely at the left end of its line than at the right."""
    near = [m.x for m in marks if floor is not None and -6 <= floor.at - m.y <= 22]
    return sum(x < 140 for x in near) < sum(x > width - 100 for x in near)


def _unit(what: str) -> str:
    unit = words.amount(what, 1).removeprefix("1").strip()
    return f" in {unit}" if unit else ""


def _mark(dot: Dot, across: "_Across", up: "_Up", record: Record) -> Mark:
    value = f"{record.metric} {words.metric(dot.value)} ({words.metric(dot.low)} to {words.metric(dot.high)})"
    kind = record.title if dot.kind == "winner" else dot.kind
    label = f"{kind}: {words.amount(record.minimize, dot.amount)}, {value}"
    x, heights = across.at(dot.amount), (up.at(dot.value), up.at(dot.low), up.at(dot.high))
    return Mark(dot.id, dot.kind, x, *heights, up.below(dot.value), label)


def _stairs(front: Sequence[Mark], right: float) -> str:
    """Return the path along the frontier: level until a dearer candidate does better, and on to the right edge."""
    ordered = sorted(front, key=lambda m: m.x)
    if not ordered:
        return ""
    parts = [f"M{ordered[0].x:.1f} {ordered[0].y:.1f}"] + [f"H{m.x:.1f}V{m.y:.1f}" for m in ordered[1:]]
    return "".join(parts) + f"H{right:.1f}"


class _Across:
    """The logarithmic axis of costs."""

    def __init__(self, amounts: Sequence[float], left: float, right: float) -> None:
        positive = [a for a in amounts if a > 0] or [1.0]
        self.least = min(positive) / (2 if len(positive) < len(amounts) else 1)
        low, high = math.log(self.least), math.log(max(positive))
        pad = max(0.04 * (high - low), 0.12)
        self.low, self.high, self.left, self.right = low - pad, high + pad, left, right

    def at(self, amount: float) -> float:
        share = (math.log(amount if amount > 0 else self.least) - self.low) / (self.high - self.low)
        return round(self.left + share * (self.right - self.left), 1)

    def ticks(self, apart: float) -> tuple[Tick, ...]:
        low, high = math.exp(self.low), math.exp(self.high)
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = [m * 10.0**k for k in decades for m in (1, 2, 5)]
        inside = [s for s in steps if low <= s <= high]
        if len(inside) < 3:
            inside = [s for s in nice(low, high, 5) if low <= s <= high]
        kept: list[Tick] = []
        for value in inside:
            if not kept or self.at(value) - kept[-1].at >= apart:
                kept.append(Tick(self.at(value), words.plain(value)))
        return tuple(kept)


class _Up:
    """The axis of values; better is up. It leaves out the worst when they would flatten all that matters."""

    def __init__(self, shown: Sequence[Dot], record: Record, top: float, bottom: float) -> None:
        self.sign, self.top, self.bottom = record.sign, top, bottom
        low, high = _span(shown, record)
        pad = 0.05 * (high - low) or 0.01
        self.low, self.high = low - pad, high + pad

    def below(self, value: float) -> bool:
        return self.sign * value < self.low

    def at(self, value: float) -> float:
        share = (self.sign * value - self.low) / (self.high - self.low)
        return round(self.bottom - min(1.0, max(0.0, share)) * (self.bottom - self.top), 1)

    def ticks(self) -> tuple[Tick, ...]:
        ends = sorted((self.sign * self.low, self.sign * self.high))
        found = [v for v in nice(ends[0], ends[1], 6) if ends[0] <= v <= ends[1]]
        return tuple(Tick(self.at(v), text) for v, text in zip(found, labels(found), strict=True))


def labels(values: Sequence[float]) -> list[str]:
    """Return the values as text with as many decimals as the neediest of them.

    >>> labels([0.95, 1.0])
    ['0.95', '1.00']
    """
    decimals = max((len(f"{v:.6f}".rstrip("0").partition(".")[2]) for v in values), default=0)
    return [f"{v:.{decimals}f}" for v in values]


def _span(shown: Sequence[Dot], record: Record) -> tuple[float, float]:
    """Return the (worst, best) value to show, signed so that higher is better.

    The best is the top interval's end; the worst lies as far below the floor as three times what lies above it, unless
    a quarter of the candidates, or the winner's interval, is lower still.
    """
    values = sorted(record.sign * d.value for d in shown)
    floors = [] if record.floor is None else [record.sign * record.floor]
    top = max(shown, key=lambda d: record.sign * d.value)
    high = max([record.sign * top.low, record.sign * top.high, values[-1], *floors])
    anchor = min([*floors, values[-1]])
    low = max(min(values[len(values) // 4], anchor - 3 * (high - anchor)), min([values[0], *floors]))
    whole = [d for d in shown if d.kind == "winner" or len(shown) == 1]
    return min([low, *(record.sign * end for d in whole for end in (d.low, d.high))]), high


def nice(low: float, high: float, most: int) -> list[float]:
    """Return at most about `most` round numbers that cover low…high.

    >>> nice(0.9, 1.0, 5)
    [0.9, 0.92, 0.94, 0.96, 0.98, 1.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough - 1e-12)
    first = math.floor(low / step)
    return [round(step * n, 12) for n in range(first, math.ceil(high / step - 1e-9) + 1)]
