"""Why accuracy dropped, for a page: the verdict, the causes with what undoing each gave, a drawing and a table by layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paredown.reports import words
from paredown.reports.chart import Tick

Json = Mapping[str, Any]

ROW = 25
MOST_ROWS = 80
LEAST_DB = 40.0
"""What the axis reaches to at least."""


@dataclass(frozen=True)
class Line:
    """One layer's or quantizer's row: its name, whether it is of values that flow, the bar's end, the run's mark, its text."""

    name: str
    full: str
    values: bool
    y: int
    bar: float
    mark: float | None
    text: str
    low: bool


@dataclass(frozen=True)
class Bars:
    """A drawing, `width` × `height`: from `left`, which is 0 dB, to `right`."""

    width: int
    height: int
    left: int
    right: int
    lines: tuple[Line, ...]
    ticks: tuple[Tick, ...]


def view(found: Json) -> dict[str, Any]:
    """Return what a page shows of a diagnosis (`core.diagnosis`, as JSON)."""
    rows = ordered(found)
    return {
        "verdict": found["verdict"], "dropped": found["dropped"], "causes": [_cause(one) for one in found["causes"]],
        "halves": [_way(one) for one in found["halves"]], "together": [_stage(one, found) for one in found["together"]],
        "bars": [bars(rows[:MOST_ROWS], 720, 150), bars(rows[:MOST_ROWS], 350, 96)], "hidden": max(0, len(rows) - MOST_ROWS),
        "layers": [_layer(row) for row in found["layers"]], "values": [_values(row) for row in found["activations"]],
        "notes": found["notes"], "unmeasured": found["unmeasured"], "n": words.plain(found["n"]), "split": found["split"],
        "seconds": words.seconds(found["seconds"]),
    }  # fmt: skip


def ordered(found: Json) -> list[tuple[Json, bool]]:
    """Return (row, whether it is of values that flow) of layers and quantizers, each quantizer before what reads it."""
    waiting: dict[str, list[Json]] = {}
    for row in found["activations"]:
        waiting.setdefault(row["feeds"].split(", ")[0], []).append(row)
    rows: list[tuple[Json, bool]] = []
    for layer in found["layers"]:
        rows += [(row, True) for row in waiting.pop(layer["name"], [])] + [(layer, False)]
    return rows + [(row, True) for rest in waiting.values() for row in rest]


def bars(rows: Sequence[tuple[Json, bool]], width: int, left: int) -> Bars:
    """Return the bars: how far the signal is above the noise that each layer adds alone, and a mark for the layer as it runs."""
    most = max([LEAST_DB, *(row[key] or 0.0 for row, _ in rows for key in ("local_db", "accumulated_db"))])
    top, right = 10 * -(-most // 10), width - 62
    scale = (right - left) / top

    def at(value: float) -> float:
        return round(left + max(0.0, value) * scale, 1)

    letters = left // 8
    lines = []
    for place, (row, values) in enumerate(rows):
        alone, ran = row["local_db"], row["accumulated_db"]
        name = row["name"] if len(row["name"]) <= letters else row["name"][: letters - 1] + "…"
        text = "exact" if alone is None and not row.get("unlike") else _db(alone)
        end = float(right) if text == "exact" else at(alone or 0.0)
        mark = None if ran is None else at(ran)
        low = alone is not None and alone < 20
        lines.append(Line(name, row["name"], values, 28 + ROW * place, end, mark, text, low))
    ticks = tuple(Tick(at(value), f"{value} dB" if not value else str(value)) for value in range(0, int(top) + 1, 10))
    return Bars(width, 36 + ROW * len(rows), left, right, tuple(lines), ticks)


def _db(value: Any) -> str:
    return f"{value:.1f}" if words.finite(value) else words.NONE


def _cause(cause: Json) -> dict[str, Any]:
    ways = [{**_way(way), "best": at == cause["best"]} for at, way in enumerate(cause["undone"])]
    best = next((way for way in ways if way["best"]), None)
    return {"text": cause["text"], "remedy": cause["remedy"], "ways": ways, "best": best}


def _way(way: Json) -> dict[str, Any]:
    gain = way["gain"]
    share = gain["share"] if words.finite(gain["share"]) else 0.0
    return {
        "what": way["what"], "best": False, "gain": words.signed(gain["accuracy"]),
        "interval": f"{words.signed(gain['low'])} to {words.signed(gain['high'])}",
        "samples": f"{gain['mended']} mended, {gain['broken']} broken", "loss": words.signed(gain["loss"]),
        "share": f"{100 * share:.0f} %".replace("-", "−"), "length": min(1.0, max(0.0, share)),
        "bytes": words.signed(way["bytes"], 0) if way["bytes"] else "none",
    }  # fmt: skip


def _stage(stage: Json, found: Json) -> dict[str, str]:
    whole = found["divergence"]
    left = words.percent(stage["divergence"], whole) if whole else words.NONE
    return {
        "what": stage["what"],
        "value": words.metric(stage["accuracy"]),
        "left": left,
        "bytes": words.signed(stage["bytes"], 0),
    }


def _ends(ends: Any) -> str:
    return f"{ends[0]:.3g} to {ends[1]:.3g}".replace("-", "−") if ends else words.NONE


def _layer(row: Json) -> tuple[str, ...]:
    """Return a layer's cells: name, bits, three ratios, range, grid, clipped, codes, uneven channels, gone, shift, remark."""
    gridded = row["codes"] > 0
    remark = row["unlike"] or row["place"]
    if row["moved"] > 0.01:
        remark = f"{remark}; " * bool(remark) + f"{words.percent(row['moved'], 1)} of its weights moved by training"
    return (
        row["name"], words.plain(row["bits"]), _db(row["weight_db"]), _db(row["local_db"]), _db(row["accumulated_db"]),
        _ends(row["range"]), _ends(row["grid"]), words.percent(row["clipped"], 1) if gridded else words.NONE,
        f"{row['codes_used']} of {row['codes']}" if gridded else words.NONE,
        f"{row['ranges_ratio']:,.3g}×" if row["ranges_ratio"] else words.NONE, words.percent(row["zeroed"], 1),
        f"{row['shift']:.2f}", remark,
    )  # fmt: skip


def _values(row: Json) -> tuple[str, ...]:
    """Return a quantizer's cells: name, what reads it, bits, two ratios, range, grid, clipped, levels, outliers."""
    return (
        row["name"], row["feeds"] or words.NONE, words.plain(row["bits"]), _db(row["local_db"]), _db(row["accumulated_db"]),
        _ends(row["range"]), _ends(row["grid"]), words.percent(row["clipped"], 1), f"{row['codes_used']} of {row['codes']}",
        f"{row['outliers']:.3g}×",
    )  # fmt: skip
