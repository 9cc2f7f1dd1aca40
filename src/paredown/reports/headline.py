"""What is said first: reached or not, in which sense, among how many, and if not, why and what to try."""

from dataclasses import dataclass, field

from paredown.reports import words
from paredown.reports.read import Record, Tried

MARKS = {"reached": "✓", "missed": "✕", "open": "…", "applied": "●"}
BADGES = {
    "reached": "Floor reached", "missed": "Floor not reached", "open": "Not finished",
    "applied": "One recipe, measured",
}  # fmt: skip
ADVICE = ("try", "give", "use", "add", "raise", "lower")


@dataclass(frozen=True)
class Headline:
    """The state (reached, missed, open, applied), a title, figures, plain statements, and why the floor was missed."""

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
    """What kept the floor from being reached: the factor, the evidence, what to try; `told` is the whole sentence."""

    factor: str
    evidence: tuple[str, ...]
    tries: tuple[str, ...]
    told: str


def headline(record: Record) -> Headline:
    """Return what the report says first."""
    state = _state(record)
    lead = record.lead()
    why = _why(record) if state == "missed" else None
    figures, said = _figures(record, lead), _statements(record, state, lead)
    return Headline(state, _title(record, state), figures, said, why, _limits(record, lead))


def _state(record: Record) -> str:
    if record.found is None:
        return "open"
    if record.applied:
        return "applied"
    return "reached" if record.found.get("reached") else "missed"


def _title(record: Record, state: str) -> str:
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
    if state == "reached":
        return f"{name}: {size}, floor {floor} reached"
    return f"{name}: floor {floor} not reached; best found {value} in {size}"


def _figures(record: Record, lead: Tried | None) -> tuple[tuple[str, str, str], ...]:
    """Return (label, number, what stands behind it)."""
    best, name = record.best, record.metric.replace("_", " ")
    rows = []
    if best:
        behind = f"{best['artifacts'][0]['target']} file, architecture included" if best.get("artifacts") else "on disk"
        rows.append(("Best file", words.amount("file_bytes", best.get("file_bytes")), behind))
        test = best.get("test") or {}
        rows.append((f"Test {name}", words.metric(test.get("value")), words.interval(test or None)))
    elif lead:
        size = words.amount("file_bytes", lead.result.get("file_bytes"))
        rows.append(("Leading so far", size, "on validation; not chosen, not tested"))
        rows.append((f"Validation {name}", words.metric(lead.value), words.interval(lead.result["val"])))
    return (*rows, *_asked_for(record, lead, name))


def _asked_for(record: Record, lead: Tried | None, name: str) -> list[tuple[str, str, str]]:
    """Return the figures of the goal: the floor, and what was to be small."""
    if record.floor is None:
        return []
    level, what = record.asked.get("goal", {}).get("confidence"), record.minimize
    sure = f", with confidence {level:g}" if level else ""
    floor = f"{name} must be at {'least' if record.sign > 0 else 'most'} this{sure}"
    amount = words.amount(what, lead.amount(what) if lead else None)
    small = "bytes of the whole file" if what == "file_bytes" else amount
    return [("Floor", words.plain(record.floor), floor), ("Minimised", words.cost_name(what), small)]


def _statements(record: Record, state: str, lead: Tried | None) -> tuple[str, ...]:
    said = [_sense(record, state)] if state in ("reached", "missed") and record.best else []
    chosen = (record.found or {}).get("chosen")
    if chosen and record.floor is not None:
        side = "at or above" if record.sign > 0 else "at or below"
        many = f"{words.plural(chosen['among'], 'candidate')} {side} the floor on validation"
        start = f"Chosen among {many}" if chosen["among"] else f"No candidate is {side} the floor on validation"
        said.append(
            f"{start}. From validation, its value on test was expected to be {words.metric(chosen['expected'])}, and to show the "
            f"floor with probability {words.metric(chosen['probability'])}: {chosen['how']}."
        )
    if record.applied:
        said.append("No search was run and no floor was asked for.")
    elif record.best:
        said.append(_met(record))
    if state == "open":
        said.append(_open(record, lead))
    extra = record.told_trials - int((record.found or {}).get("trials", record.told_trials))
    if extra > 0:
        said.append(f"The log holds {extra} more finished trials than this conclusion saw: the run was resumed since.")
    return tuple(said)


def _met(record: Record) -> str:
    """Say who has met the test split: more than one has, when a finished run was resumed and found another winner."""
    assert record.best is not None
    met = {t.id for t in record.tried if t.result.get("test")} | {str(record.best.get("id"))}
    if len(met) == 1:
        return "Of all candidates, this one alone has met the test split."
    return f"The test split has been met by {len(met)} candidates, for the run was resumed: the test value may flatter."


def _sense(record: Record, state: str) -> str:
    """Say in which sense `reached` is meant, and what the stronger sense would say."""
    assert record.best is not None
    test, level = record.best.get("test") or {}, record.asked.get("goal", {}).get("confidence")
    side, other = ("at or above", "below") if record.sign > 0 else ("at or below", "above")
    end = test.get("low") if record.sign > 0 else test.get("high")
    share = f"{100 * test.get('confidence', 0.95):g} %"
    if level is not None:
        odd = "" if level == test.get("confidence", level) else f"; {100 * level:g} % was asked for, {share} is stored"
        return (
            f"“Reached” is meant in the sense of confidence: the nearer end of the test value's {share} interval, "
            f"{words.metric(end)}, must be {side} the floor{odd}."
        )
    start = f"“Reached” means here that the test value itself is {side} the floor"
    if state == "missed":
        near = words.finite(test.get("value")) and record.sign * (test["value"] - (record.floor or 0.0)) >= 0
        return f"{start}{', and every hard limit is kept: a limit is exceeded' if near else '; it is not'}."
    sure = record.sign * end >= record.sign * (record.floor or 0.0) if end is not None else False
    tail = "is as well" if sure else f"is {other} it, so a fresh sample could fall short"
    return f"{start}. The nearer end of its {share} interval, {words.metric(end)}, {tail}."


def _open(record: Record, lead: Tried | None) -> str:
    count = f"{record.told_trials} of {record.asked_trials} trials asked for have a result"
    if lead is None:
        return f"The run was interrupted, or goes on still: {count}. There is no candidate to show yet."
    return (
        f"The run was interrupted, or goes on still: {count}. What is shown below leads on validation; it was not "
        "chosen, and has not met the test split."
    )


def _why(record: Record) -> Why:
    """Take the engine's sentence apart: the factor before the first colon, then clauses; advice begins with a verb."""
    told = str((record.found or {}).get("why") or "no reason was written down")
    factor, colon, rest = told.partition(": ")
    if not colon or len(factor) > 60:
        factor, rest = "not known", told
    clauses = [clause.strip() for clause in rest.split(";") if clause.strip()]
    tries = tuple(c for c in clauses if c.split()[0] in ADVICE)
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
            value = f"{words.metric(quality['value'])} on {split} ({words.interval(quality)})"
            rows.append(f"the best found has {name} {value}: {short}")
    base = (record.found or {}).get("baseline") or {}
    if base.get("val"):
        value, size = words.metric(base["val"].get("value")), words.amount("file_bytes", base.get("file_bytes"))
        rows.append(f"the float network the search began with has {value} on val, in {size}")
    return rows


def _limits(record: Record, lead: Tried | None) -> tuple[tuple[str, str, str, str], ...]:
    """Return (cost, limit, what the winner has, kept or not) for each hard limit."""
    rows = []
    for what, size in (record.asked.get("goal", {}).get("limits") or {}).items():
        has = lead.amount(what) if lead else None
        verdict = "not known" if has is None else "kept" if has <= size else "exceeded"
        rows.append((words.cost_name(what), words.amount(what, size), words.amount(what, has), verdict))
    return tuple(rows)
