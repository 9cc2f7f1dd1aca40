"""The tables of one candidate: its story, its layers, its files, its costs, its notes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paredown.core.artifact import sha256_of
from paredown.reports import words
from paredown.reports.read import Json, Record, Tried

COUNTED = ("params", "nonzero", "bits", "macs", "bops", "ram_bytes")


@dataclass(frozen=True)
class Table:
    """Rows of cells under heads; `shares` are the lengths of inline bars, 0…1, by (row, column)."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    shares: Mapping[tuple[int, int], float]
    total: tuple[str, ...] = ()


def story(tried: Tried, record: Record) -> dict[str, Any]:
    """Return the steps with what each saved and cost, and what may be said of the whole."""
    steps = list(tried.result.get("steps") or ())
    recipe = [words.step(s) for s in tried.described.get("recipe") or ()]
    most = max((s.get("file_bytes") or 0 for s in steps), default=0)
    n = (tried.result.get("val") or {}).get("n")
    rows = []
    for at, step in enumerate(steps):
        before = steps[at - 1] if at else None
        size = step.get("file_bytes") or 0
        rows.append({
            "name": step.get("step", "?"), "settings": recipe[at]["settings"] if at < len(recipe) else [],
            "bytes": words.amount("file_bytes", size), "share": size / most if most else 0,
            "saved": _saved(before, step), "value": words.metric(step.get("val")),
            "cost": _cost(before, step, record, n), "seconds": words.seconds(step.get("seconds")),
        })  # fmt: skip
    total, own = sum(s.get("seconds") or 0 for s in steps), tried.result.get("seconds")
    took = {"seconds": words.seconds(total), "own": words.seconds(own), "cached": bool(own is not None and own < total)}
    return {"rows": rows, "end": _end(tried), "overall": _overall(steps), **took}


def _saved(before: Json | None, step: Json) -> str:
    if before is None:
        return "the start"
    was, now = before.get("file_bytes") or 0, step.get("file_bytes") or 0
    return f"{words.signed(now - was, 0)} bytes, {words.ratio(was, now)}" if was != now else "±0 bytes"


def _cost(before: Json | None, step: Json, record: Record, n: Any) -> str:
    if before is None or not (words.finite(before.get("val")) and words.finite(step.get("val"))):
        return "the start" if before is None else words.NONE
    change = step["val"] - before["val"]
    if record.metric != "accuracy" or not isinstance(n, int):
        return words.signed(change)
    return f"{words.signed(change)} ({words.signed(round(change * n), 0)} of {n} samples)"


def _overall(steps: list[Json]) -> str:
    """Return first to last step in one line, or nothing when there is only one."""
    if len(steps) < 2 or not (steps[0].get("file_bytes") and steps[-1].get("file_bytes")):
        return ""
    first, last = steps[0]["file_bytes"], steps[-1]["file_bytes"]
    was, now = steps[0].get("val"), steps[-1].get("val")
    change = f"; {words.signed(now - was)} on validation" if words.finite(was) and words.finite(now) else ""
    return f"From {words.plain(first)} to {words.plain(last)} bytes, {words.ratio(first, last)}{change}."


def _end(tried: Tried) -> str:
    val = tried.result.get("val") or {}
    size = words.amount("file_bytes", tried.result.get("file_bytes"))
    return f"The file itself, in its own runtime: {words.metric(val.get('value'))} on validation in {size}."


def layers(tried: Tried) -> Table | None:
    """Return the layer table, with bars for bytes and MACs, or None when no layers were stored."""
    found = list(tried.result.get("layers") or ())
    if not found:
        return None
    heads = ("Layer", "Op", "Output", "Params", "Width, bits", "Zeros", "Coded bytes", "MACs")
    rows, shares = [], {}
    sums = {key: sum(row.get(key) or 0 for row in found) for key in ("params", "nonzero", "bytes", "macs")}
    for at, row in enumerate(found):
        shape = "×".join(map(str, row.get("shape") or ())) or words.NONE
        named = str(row.get("name", "")), str(row.get("op", "")), shape
        rows.append((*named, *_numbers(row, words.plain(row.get("width")))))
        for column, key in ((6, "bytes"), (7, "macs")):
            shares[at, column] = (row.get(key) or 0) / max(1, *(r.get(key) or 0 for r in found))
    return Table(heads, tuple(rows), shares, ("Sum", "", "", *_numbers(sums, "")))


def _numbers(row: Json, width: str) -> tuple[str, ...]:
    zeros = words.percent((row.get("params") or 0) - (row.get("nonzero") or 0), row.get("params"))
    return words.plain(row.get("params")), width, zeros, words.plain(row.get("bytes")), words.plain(row.get("macs"))


@dataclass(frozen=True)
class File:
    """A written file: where its bytes are, what it does differently, and whether what lies on disk is still it."""

    target: str
    path: str
    link: str
    bytes: int
    items: tuple[tuple[str, str, str, float], ...]
    total: int
    sha256: str
    on_disk: str
    mismatches: str
    value: str
    beside: str = ""

    @property
    def sums(self) -> bool:
        """Whether the items sum to the file."""
        return self.total == self.bytes


def files(record: Record, tried: Tried | None) -> list[File]:
    """Return the winner's files, each itemised; in an unfinished run those of the leading candidate."""
    if record.best:
        return [_file(row, record.folder, "test") for row in record.best.get("artifacts") or ()]
    return [_file(row, record.folder, "val") for row in tried.result.get("artifacts") or ()] if tried else []


def _file(row: Json, folder: Path, split: str) -> File:
    items = sorted((row.get("itemised") or {}).items(), key=lambda item: -item[1])
    whole, most = row["bytes"], max([v for _, v in items] or [1]) or 1
    shown = tuple((name, words.plain(v), words.percent(v, whole), v / most) for name, v in items)
    quality = row.get("quality") or {}
    value = row.get("test", quality.get("value"))
    stated = f"{words.metric(value)} on {split}, in its own runtime" if value is not None else "not measured"
    n, odd = row.get("n", 0), row.get("mismatches", 0)
    mismatches = f"{words.plain(odd)} of {words.plain(n)} predictions on {split} differ from the model it came from"
    mismatches += f"; {row['note']}" if row.get("note") else ""
    here = _here(row, folder)
    link = here.relative_to(folder).as_posix() if here is not None and here.is_relative_to(folder) else ""
    path, total = str(here or row.get("path", "")), sum(v for _, v in items)
    return File(
        row["target"], path, link, whole, shown, total, row.get("sha256", ""), _on_disk(here, row), mismatches, stated, _beside(row)
    )  # fmt: skip


def _beside(row: Json) -> str:
    found = [f"{name} {words.plain(size)}" for name, size in (row.get("beside") or {}).items()]
    return f"The same tensors without the architecture: {', '.join(found)} bytes." if found else ""


def _here(row: Json, folder: Path) -> Path | None:
    """Return the file where it lies now: in this folder by its name, for folders are moved; else at its stored path."""
    stored = Path(str(row.get("path", "")))
    return next((p for p in (folder / stored.name, stored) if stored.name and p.is_file()), None)


def _on_disk(here: Path | None, row: Json) -> str:
    if here is None:
        return "not on disk when this report was written"
    same = sha256_of(here) == row.get("sha256")
    return "on disk, checksum right" if same else "on disk, but with another checksum: not the file that was measured"


def counted(tried: Tried) -> list[tuple[str, str]]:
    """Return the counted costs, exact."""
    cost = tried.result.get("cost") or {}
    keys = [key for key in cost if key in COUNTED or key.startswith("score:")]
    rows = [(words.cost_name(key), words.amount(key, cost[key])) for key in keys]
    by_bits = cost.get("macs_by_bits") or {}
    return rows + [(f"MACs with {_widths(key)}", words.plain(value)) for key, value in by_bits.items()]


def _widths(key: str) -> str:
    weight, _, activation = key.removeprefix("w").partition("a")
    return f"{weight}-bit weights, {activation}-bit activations" if weight.isdigit() and activation.isdigit() else key


def uncounted(tried: Tried) -> list[str]:
    """Return the operators whose work is in no count."""
    return [str(op) for op in (tried.result.get("cost") or {}).get("uncounted") or ()]


def measured(tried: Tried, record: Record) -> list[tuple[str, str]]:
    """Return what was observed on a machine: latency with its spread where it was asked for, and times."""
    seen = tried.result.get("measured") or {}
    rows = []
    for key, value in seen.items():
        if key == "latency_ms":
            rows.append(("latency of one sample, median", words.amount(key, value) + _spread(seen)))
        elif not key.startswith("latency_"):
            rows.append((words.cost_name(key), words.amount(key, value)))
    rows.append(("making this candidate", words.seconds(tried.result.get("seconds"))))
    whole = (record.found or {}).get("seconds", record.spent_s or None)
    return [*rows, ("the whole run so far" if record.found is None else "the whole run", words.seconds(whole))]


def modelled(tried: Tried) -> list[tuple[str, str, str]]:
    """Return (what, value, model and version) of everything that is an estimate."""
    found = tried.result.get("modelled") or {}
    return [
        (words.cost_name(key), words.amount(key, one.get("value")), f"{one.get('model')}, version {one.get('version')}")
        for key, one in found.items()
    ]


def _spread(seen: Json) -> str:
    keys = "latency_low_ms", "latency_high_ms", "latency_repeats"
    low, high, repeats = (words.plain(seen.get(key)) for key in keys)
    return f", quartiles {low} to {high} ms, {repeats} repeats" if "latency_low_ms" in seen else ", spread not stored"


def notes(tried: Tried) -> list[tuple[str, str, str]]:
    """Return (step, layer, why) of everything that was left alone."""
    keys = ("step", "layer", "text")
    return [tuple(str(n.get(key, "")) for key in keys) for n in tried.notes if "curve" not in n]  # type: ignore[misc]
