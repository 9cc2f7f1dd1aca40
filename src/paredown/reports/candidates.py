"""Every candidate as the side panel and the tables show it."""

from typing import Any

from paredown.reports import words
from paredown.reports.read import Record, Tried

KINDS = {"baseline": "Baseline", "frontier": "On the frontier", "candidate": "Candidate"}


def _kind(kind: str, record: Record) -> str:
    return KINDS.get(kind) or record.title.capitalize()


def panel(tried: Tried, record: Record, kind: str) -> dict[str, Any]:
    """Return one candidate for the side panel: what it is, its numbers, its model, its recipe, its notes."""
    return {
        "id": tried.id, "kind": _kind(kind, record), "facts": facts(tried, record),
        "spec": words.spec(tried.described.get("spec", {})),
        "steps": [words.step(s) for s in tried.described.get("recipe") or ()],
        "notes": [f"{n.get('layer', '')}: {n.get('text', '')} ({n.get('step', '')})" for n in tried.notes if "curve" not in n],
        "failed": str(tried.result.get("failed") or ""),
    }  # fmt: skip


def facts(tried: Tried, record: Record) -> list[list[str]]:
    """Return [what, value] of a candidate's numbers."""
    result, val = tried.result, tried.result.get("val") or {}
    rows = []
    if tried.good:
        rows += [["file size", words.amount("file_bytes", result.get("file_bytes"))]]
        rows += [["validation", f"{words.metric(val.get('value'))} ({words.interval(val)})"]]
        if test := result.get("test"):
            rows += [["test", f"{words.metric(test.get('value'))} ({words.interval(test)})"]]
        shown = [k for k in ("params", "nonzero", "macs", "ram_bytes") if k in result.get("cost", {})]
        rows += [[words.cost_name(k), words.amount(k, result["cost"][k])] for k in shown]
        if latency := result.get("measured", {}).get("latency_ms"):
            rows += [["latency, measured", words.amount("latency_ms", latency)]]
    if tried.trials:
        first = tried.trials[0]
        rows += [["trial", f"{first['number']}, at {100 * first.get('effort', 1):g} % of a whole training"]]
    return [*rows, ["made in", words.seconds(result.get("seconds"))]]


def listing(record: Record) -> list[dict[str, str]]:
    """Return a table row for each candidate with an outcome, cheapest first."""
    what, kind = record.minimize, record.kinds()
    good = sorted((t for t in record.tried if t.good), key=lambda t: (t.amount(what) or 0.0, -record.sign * t.value))
    return [_listed(t, record, kind[t.id]) for t in good]


def _listed(tried: Tried, record: Record, kind: str) -> dict[str, str]:
    val, cost = tried.result["val"], tried.result.get("cost") or {}
    amount = words.amount(record.minimize, tried.amount(record.minimize))
    return {
        "id": tried.id, "kind": kind, "what": _kind(kind, record), "amount": amount,
        "bytes": words.plain(tried.result.get("file_bytes")), "value": words.metric(tried.value),
        "interval": f"{words.metric(val.get('low'))} to {words.metric(val.get('high'))}",
        "params": words.plain(cost.get("params")), "macs": words.plain(cost.get("macs")),
        "spec": words.spec(tried.described.get("spec", {})),
    }  # fmt: skip


def failures(record: Record) -> list[tuple[str, str]]:
    """Return (id, why) of each candidate that has no outcome."""
    return [(t.id, str(t.result["failed"])) for t in record.tried if t.result.get("failed")]
