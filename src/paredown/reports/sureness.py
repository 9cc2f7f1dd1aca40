"""How sure the numbers are: intervals as rows, and drawn against the floor."""

from dataclasses import dataclass

from paredown.reports import words
from paredown.reports.chart import Tick, labels, nice
from paredown.reports.read import Json, Record

METHODS = {"accuracy": "Wilson's score interval"}


@dataclass(frozen=True)
class Bar:
    """One interval's place: its split, its ends, its value."""

    name: str
    low: float
    value: float
    high: float
    y: float
    label: str


@dataclass(frozen=True)
class Strip:
    """Intervals on one axis, drawn `width` × `height`, with the floor across them."""

    width: int
    height: int
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    floor: Tick | None


def qualities(record: Record) -> list[Json]:
    """Return the winner's qualities on val and test, or the leading candidate's on val."""
    lead = record.lead()
    source: Json = record.best or (lead.result if lead else {})
    return [source[key] for key in ("val", "test") if isinstance(source.get(key), dict)]


def intervals(record: Record) -> list[dict[str, str]]:
    """Return a row for each split: value, interval, n, and how the interval was made."""
    return [_interval(q) for q in qualities(record)]


def _interval(quality: Json) -> dict[str, str]:
    method = METHODS.get(quality["metric"], "percentile bootstrap")
    shown = {key: words.metric(quality.get(key)) for key in ("value", "low", "high")}
    counts = {"n": words.plain(quality.get("n")), "seeds": words.plain(quality.get("seeds", 1))}
    how = f"{method}, {100 * quality.get('confidence', 0.95):g} %"
    return {"split": quality["split"], **shown, **counts, "how": how}


def strip(record: Record, width: int = 340) -> Strip | None:
    """Return the intervals drawn against the floor, or None when there is nothing finite to draw."""
    shown = [q for q in qualities(record) if all(words.finite(q.get(k)) for k in ("low", "value", "high"))]
    if not shown:
        return None
    floors = [] if record.floor is None else [record.floor]
    low, high = min([q["low"] for q in shown] + floors), max([q["high"] for q in shown] + floors)
    pad = 0.06 * (high - low) or 0.01
    low, high, left, right = low - pad, high + pad, 44.0, width - 12.0

    def at(value: float) -> float:
        return round(left + (value - low) / (high - low) * (right - left), 1)

    told = [f"{q['split']} {words.metric(q['value'])}, {words.interval(q)}" for q in shown]
    bars = tuple(
        Bar(q["split"], at(q["low"]), at(q["value"]), at(q["high"]), 38.0 + 30 * row, told[row])
        for row, q in enumerate(shown)
    )
    round_values = [v for v in nice(low, high, 4) if low <= v <= high]
    ticks = tuple(Tick(at(v), text) for v, text in zip(round_values, labels(round_values), strict=True))
    floor = None if record.floor is None else Tick(at(record.floor), f"floor {words.plain(record.floor)}")
    return Strip(width, 52 + 30 * len(bars), bars, ticks, floor)
