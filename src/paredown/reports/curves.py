"""Curves that steps measured, such as what each layer can lose: small drawings on one scale, and their numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paredown.reports import words

Json = Mapping[str, Any]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 228, 116, 52, 8, 16, 20
"""Of a drawing, and what its axes leave free at its sides."""


@dataclass(frozen=True)
class Small:
    """One layer's drawing: its name, what is said of it, (x, y) of its points, where the step came to, and that in words."""

    layer: str
    text: str
    dots: tuple[tuple[float, float], ...]
    taken: float
    at: str

    @property
    def line(self) -> str:
        """The points as an SVG polyline has them."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.dots)


@dataclass(frozen=True)
class Scan:
    """All curves of one step, drawn from `low` to `high`; rows: each layer's numbers under `heads`."""

    step: str
    along: str
    of: str
    low: str
    high: str
    drawn: tuple[Small, ...]
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def view(notes: Sequence[Json]) -> list[Scan]:
    """Return the scans that a candidate's stored notes hold, in order. What is no curve is passed over."""
    scans: list[list[Json]] = []
    for note in notes:
        if not _points(note):
            continue
        last = scans[-1] if scans else []
        same = (
            last and last[0].get("step") == note.get("step") and last[0]["curve"].get("of") == note["curve"].get("of")
        )
        if not same or any(one.get("layer") == note.get("layer") for one in last):
            scans.append(last := [])
        last.append(note)
    return [_scan(some) for some in scans]


def _points(note: Json) -> list[tuple[float, float]]:
    """Return a note's points that can be drawn."""
    curve = note.get("curve")
    found = curve.get("points") if isinstance(curve, Mapping) else None
    pairs = [p for p in found if isinstance(p, Sequence) and len(p) == 2] if isinstance(found, Sequence) else []
    return [(x, y) for x, y in pairs if words.finite(x) and words.finite(y)]


def _scan(notes: Sequence[Json]) -> Scan:
    curves = [_points(note) for note in notes]
    values = [y for points in curves for _, y in points]
    ends = min(values), max(values)
    settings = sorted({x for points in curves for x, _ in points})
    width = max(settings[-1], *(_taken(note) for note in notes), 1e-9)
    drawn = tuple(_small(note, points, width, ends) for note, points in zip(notes, curves, strict=True))
    known = [dict(points) for points in curves]
    rows = tuple(
        (small.layer, *(words.metric(own.get(x)) for x in settings), small.at)
        for small, own in zip(drawn, known, strict=True)
    )
    first = notes[0]["curve"]
    heads = ("Layer", *(_share(x) for x in settings), "Taken")
    low, high = (words.plain(round(end, 4)) for end in ends)
    return Scan(
        str(notes[0].get("step", "")),
        str(first.get("along", "")),
        str(first.get("of", "")),
        low,
        high,
        drawn,
        heads,
        rows,
    )


def _small(note: Json, points: Sequence[tuple[float, float]], width: float, ends: tuple[float, float]) -> Small:
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    span = ends[1] - ends[0] or 1.0
    dots = tuple((LEFT + across * x / width, TOP + up * (ends[1] - y) / span) for x, y in points)
    taken = _taken(note)
    return Small(
        str(note.get("layer", "")), str(note.get("text", "")), dots, LEFT + across * taken / width, _share(taken)
    )


def _taken(note: Json) -> float:
    taken = note["curve"].get("taken")
    return float(taken) if words.finite(taken) else 0.0


def _share(x: float) -> str:
    return f"{100 * x:.3g} %"
