"""What is said first: reached or not, in which sense, among how many, and if not, why and what to try."""

from dataclasses import dataclass, field
from typing import Any

from paredown.report import words
from paredown.report.read import Record, Tried

MARKS = {"reached": "✓", "missed": "✕", "open": "…", "applied": "●"}
BADGES = {"reached": "Floor reached", "missed": "Floor not reached", "open": "Not finished", "applied": "One recipe, measured"}


@dataclass(frozen=True)
class Headline:
    """The state (reached, missed, open or applied), its title, figures, plain statements, and why the floor was missed."""

    state: str
    title: str
    figures: tuple[tuple[str, str, str], ...]
    statements: tuple[str, ...]
    why: "Why | None" = None
    limits: tuple[tuple[str, str, str, str], ...] = field(default=())

    @property
    def mark(self) -> str:
        """A sign for the state, told by shape and not by colour."""
        return MARKS[self.state]

    @property
    def badge(self) -> str:
        """The state in words."""
        return BADGES[self.state]


@dataclass(frozen=True)
class Why:
    """What kept the floor from being reached: the factor, the evidence, what to try; `told` is the engine's own sentence."""

    factor: str
    evidence: tuple[str, ...]
    tries: tuple[str, ...]
    told: str


def headline(record: Record) -> Headline:
    """Return what the report says first."""
    state = _state(record)
    lead = record.lead()
    why = _why(record) if state == "missed" else None
    return Headline(state, _title(record, state, lead), _figures(record, lead), _statements(record, state, lead), why, _limits(record, lead))


def _state(record: Record) -> str:
    if record.found is None:
        return "open"
    if record.applied:
        return "applied"
    return "reached" if record.found.get("reached") else "missed"


def _title(record: Record, state: str, lead: Tried | None) -> str:
    name = record.asked.get("task", {}).get("name", "run")
    floor = words.plain(record.floor)
    best = record.best
    if state == "open":
        return f"{name}: not finished"
    if best is None:
        return f"{name}: floor {floor} not reached; no candidate has a result"
    size = words.amount("file_bytes", best.get("file_bytes"))
    value = words.metric((best.get("test") or {}).get("value"))
    if state == "applied":
        return f"{name}: {size} at {record.metric.replace('_', ' ')} {value}"
    return f"{name}: {size}, floor {floor} reached" if state == "reached" else f"{name}: floor {floor} not reached; best found {value} in {size}"


def _figures(record: Record, lead: Tried | None) -> tuple[tuple[str, str, str], ...]:
    """Return (label, number, what stands behind it)."""
    best, name = record.best, record.metric.replace("_", " ")
    result = lead.result if lead else {}
    rows = []
    if best:
        behind = f"{best['artifacts'][0]['target']} file, architecture included" if best.get("artifacts") else "on disk"
        rows.append(("Best file", words.amount("file_bytes", best.get("file_bytes")), behind))
        test = best.get("test") or {}
        rows.append((f"Test {name}", words.metric(test.get("value")), words.interval(test or None)))
    elif lead:
        rows.append(("Leading so far", words.amount("file_bytes", result.get("file_bytes")), "on validation; not chosen, not tested"))
        rows.append((f"Validation {name}", words.metric(result["val"].get("value")), words.interval(result["val"])))
    if record.floor is not None:
        level = record.asked.get("goal", {}).get("confidence")
        direction = "at least" if record.sign > 0 else "at most"
        rows.append(("Floor", words.plain(record.floor), f"{name} must be {direction} this" + (f", with confidence {level:g}" if level else "")))
        amount = words.amount(record.minimize, lead.amount(record.minimize) if lead else None)
        rows.append(("Minimised", words.cost_name(record.minimize), amount if record.minimize != "file_bytes" else "bytes of the deployable file"))
    return tuple(rows)


def _statements(record: Record, state: str, lead: Tried | None) -> tuple[str, ...]:
    said = [_sense(record)] if state in ("reached", "missed") and record.best else []
    chosen = (record.found or {}).get("chosen")
    if chosen and record.floor is not None:
        side = "at or above" if record.sign > 0 else "at or below"
        bound = record.sign * chosen["bound"] if finite_bound(chosen) else None
        said.append(
            f"Chosen among {chosen['among']} candidate{'s' if chosen['among'] != 1 else ''} {side} the floor on validation; "
            f"its bound, with an allowance for having chosen among so many, is {words.metric(bound)}: {chosen['how']}."
        )
    if record.best:
        said.append("The test split was met once, by this candidate alone." if not record.applied else "No search was run and no floor was asked for.")
    if state == "open":
        said.append(_open(record, lead))
    extra = record.told_trials - int((record.found or {}).get("trials", record.told_trials))
    if record.found is not None and extra > 0:
        said.append(f"The log holds {extra} more finished trials than this conclusion has seen: the run was resumed and is not finished.")
    return tuple(said)


def finite_bound(chosen: Any) -> bool:
    """Whether the choice comes with a bound that can be shown."""
    return words.finite(chosen.get("bound"))


def _sense(record: Record) -> str:
    """Say in which sense `reached` is meant, and what the stronger sense would say."""
    assert record.best is not None
    test, level = record.best.get("test") or {}, record.asked.get("goal", {}).get("confidence")
    side, other = ("at or above", "below") if record.sign > 0 else ("at or below", "above")
    end = test.get("low") if record.sign > 0 else test.get("high")
    share = f"{100 * test.get('confidence', 0.95):g} %"
    if level is not None:
        odd = "" if level == test.get("confidence", level) else f" (asked for {100 * level:g} %, the interval stored is {share})"
        return (
            f"“Reached” is meant in the sense of confidence: the nearer end of the test value's {share} interval, {words.metric(end)}, must be {side} the floor{odd}."
        )
    sure = words.finite(end) and record.sign * end >= record.sign * (record.floor or 0.0)
    tail = f"{'is as well' if sure else f'is {other} it, so a fresh sample could fall short'}"
    return f"“Reached” means here that the test value itself is {side} the floor. The nearer end of its {share} interval, {words.metric(end)}, {tail}."


def _open(record: Record, lead: Tried | None) -> str:
    count = f"{record.told_trials} of {record.asked_trials} trials asked for have a result"
    if lead is None:
        return f"The run was interrupted, or goes on still: {count}. There is no candidate to show yet."
    return f"The run was interrupted, or goes on still: {count}. What is shown below leads on validation; it was not chosen, and has not met the test split."


def _why(record: Record) -> Why:
    """Take the engine's sentence apart: factor before the first colon, then clauses; those that advise begin with a verb."""
    told = str((record.found or {}).get("why") or "no reason was written down")
    factor, colon, rest = told.partition(": ")
    if not colon or len(factor) > 60:
        factor, rest = "not known", told
    clauses = [clause.strip() for clause in rest.split(";") if clause.strip()]
    tries = tuple(c for c in clauses if c.split()[0] in ("try", "give", "use", "add", "raise", "lower"))
    evidence = [c for c in clauses if c not in tries]
    return Why(factor, (*evidence, *_gaps(record)), tries, told)


def _gaps(record: Record) -> list[str]:
    """Say how far the best, and the baseline, are from the floor."""
    rows = []
    best, floor, name = record.best, record.floor, record.metric.replace("_", " ")
    for split in ("val", "test"):
        quality = (best or {}).get(split) or {}
        if floor is not None and words.finite(quality.get("value")):
            gap = record.sign * (quality["value"] - floor)
            short = f"{abs(gap):.4f} short of the floor" if gap < 0 else "at the floor or better"
            rows.append(f"the best found has {name} {words.metric(quality['value'])} on {split} ({words.interval(quality)}): {short}")
    base = (record.found or {}).get("baseline") or {}
    if base.get("val"):
        rows.append(f"the float network the search began with has {words.metric(base['val'].get('value'))} on val, in {words.amount('file_bytes', base.get('file_bytes'))}")
    return rows


def _limits(record: Record, lead: Tried | None) -> tuple[tuple[str, str, str, str], ...]:
    """Return (cost, limit, what the winner has, kept or not) for each hard limit."""
    rows = []
    for what, size in (record.asked.get("goal", {}).get("limits") or {}).items():
        has = lead.amount(what) if lead else None
        verdict = "not known" if has is None else "kept" if has <= size else "exceeded"
        rows.append((words.cost_name(what), words.amount(what, size), words.amount(what, has), verdict))
    return tuple(rows)
