"""A run folder as values: what was asked, every candidate, what was found; and what could not be read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paredown.core.diagnosis import Diagnosis
from paredown.core.errors import BadInput
from paredown.core.frontier import pareto
from paredown.core.metric import METRICS
from paredown.core.store import Store, read_json

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Tried:
    """One stored candidate: its description, result and notes, the trials (log events) that asked for it, its diagnosis."""

    id: str
    described: Json
    result: Json
    notes: tuple[Json, ...] = ()
    trials: tuple[Json, ...] = ()
    diagnosis: Json | None = None

    @property
    def good(self) -> bool:
        """Whether there is an outcome to show."""
        return not self.result.get("failed") and isinstance(self.result.get("val"), dict)

    @property
    def value(self) -> float:
        """The metric on validation."""
        return float(self.result["val"]["value"])

    def amount(self, what: str) -> float | None:
        """Return the cost called `what`, or None where this candidate has no such number."""
        if what == "file_bytes":
            found = self.result.get("file_bytes")
        else:
            modelled = {key: one.get("value") for key, one in (self.result.get("modelled") or {}).items()}
            found = {**self.result.get("cost", {}), **modelled, **self.result.get("measured", {})}.get(what)
        return float(found) if isinstance(found, int | float) else None


@dataclass(frozen=True)
class Record:
    """Everything a run folder holds. `problems` says, a line each, what was there and could not be read."""

    folder: Path
    asked: Json
    found: Json | None
    winner: Json | None
    tried: tuple[Tried, ...]
    asked_trials: int = 0
    told_trials: int = 0
    spent_s: float = 0.0
    problems: tuple[str, ...] = field(default=())

    @property
    def applied(self) -> bool:
        """Whether the run is one recipe applied: no search and no floor."""
        return not self.asked.get("searcher")

    @property
    def floor(self) -> float | None:
        """The floor, or None where none was asked for."""
        return None if self.applied else self.asked.get("goal", {}).get("floor")

    @property
    def minimize(self) -> str:
        """What was to be made small."""
        return str(self.asked.get("goal", {}).get("minimize") or "file_bytes")

    @property
    def metric(self) -> str:
        """The metric's name."""
        return str(self.asked.get("task", {}).get("metric") or "accuracy")

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        known = METRICS.get(self.metric)
        return 1 if known is None or known.higher_is_better else -1

    @property
    def best(self) -> Json | None:
        """The winner as `found.json` has it."""
        return (self.found or {}).get("best")

    @property
    def title(self) -> str:
        """What the chosen candidate is called: a winner only where the floor was reached."""
        if self.applied:
            return "this recipe"
        return "winner" if self.found and self.found.get("reached") else "best found"

    def one(self, candidate_id: str | None) -> Tried | None:
        """Return the candidate of that id, or None."""
        return next((t for t in self.tried if t.id == candidate_id), None)

    def ranked(self) -> list[Tried]:
        """Return the candidates that trials asked for (with an outcome), in the order of the trials."""
        mine = [t for t in self.tried if t.good and (t.trials or self.applied)]
        return sorted(mine, key=lambda t: t.trials[0]["number"] if t.trials else 0)

    def frontier(self) -> list[Tried]:
        """Return the candidates that no other beats in both cost and validation value, cheapest first."""
        plain = [t for t in self.ranked() if t.amount(self.minimize) is not None]
        return pareto(plain, lambda t: t.amount(self.minimize) or 0.0, lambda t: self.sign * t.value)

    def baseline(self) -> Tried | None:
        """Return the float network that the search began with; in an unfinished run, the one no trial asked for."""
        if self.found is not None:
            return self.one((self.found.get("baseline") or {}).get("id"))
        loose = [t for t in self.tried if not t.trials and not self.applied]
        return loose[0] if len(loose) == 1 else None

    def kinds(self) -> dict[str, str]:
        """Return candidate id -> winner, baseline, frontier or candidate: the most telling of what it is."""
        base, front, best = self.baseline(), {t.id for t in self.frontier()}, (self.best or {}).get("id")
        found = {t.id: "frontier" if t.id in front else "candidate" for t in self.tried}
        if base is not None:
            found[base.id] = "baseline"
        return {key: "winner" if key == best else kind for key, kind in found.items()}

    def lead(self) -> Tried | None:
        """Return the winner; without one, what leads on validation: the cheapest at the floor, else the best value."""
        if self.best:
            return self.one(self.best.get("id"))
        return leading(self)


def leading(record: Record) -> Tried | None:
    """Return the cheapest candidate that is at the floor on validation and keeps the limits; else the best value."""
    floor, limits = record.floor, record.asked.get("goal", {}).get("limits") or {}
    ranked = record.ranked()
    kept = [t for t in ranked if all((t.amount(k) or 0.0) <= size for k, size in limits.items())] or ranked
    above = [t for t in kept if floor is None or record.sign * t.value >= record.sign * floor]
    if above:
        return min(above, key=lambda t: (t.amount(record.minimize) or 0.0, -record.sign * t.value))
    return max(kept, key=lambda t: record.sign * t.value, default=None)


def read(folder: str | Path) -> Record:
    """Return a run folder's record. Raises BadInput when `asked.json` is missing or broken; all else may be absent."""
    folder = Path(folder)
    asked = read_json(folder / "asked.json")
    if not isinstance(asked, dict):
        raise BadInput(f"{folder / 'asked.json'} holds {type(asked).__name__}, not an object: it is no run's question")
    problems: list[str] = []
    found = _object(folder / "found.json", problems)
    winner = _object(folder / "winner.json", problems)
    trials, told, spent = _log(folder, problems)
    tried = [_tried(path.parent, trials, problems) for path in sorted(folder.glob("candidates/*/result.json"))]
    whole = tuple(t for t in tried if t is not None)
    count = sum(map(len, trials.values()))
    return Record(folder, asked, found, winner, whole, count, told, spent, tuple(problems))


def _object(path: Path, problems: list[str]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        data = read_json(path)
    except BadInput as error:
        problems.append(str(error))
        return None
    if isinstance(data, dict):
        return data
    problems.append(f"{path} holds {type(data).__name__}, not an object")
    return None


def _log(folder: Path, problems: list[str]) -> tuple[dict[str, list[Json]], int, float]:
    """Return (candidate id -> trials that asked for it, trials with a result, seconds spent)."""
    trials: dict[str, list[Json]] = {}
    told: set[int] = set()
    spent = 0.0
    try:
        for event in Store(folder).events():
            if event.get("event") == "asked":
                trials.setdefault(event["candidate"], []).append(event)
            elif event.get("event") == "told":
                told.add(event["number"])
                spent = float(event.get("spent_s", spent))
    except BadInput as error:
        problems.append(str(error))
    return trials, len(told), spent


def _tried(folder: Path, trials: Mapping[str, list[Json]], problems: list[str]) -> Tried | None:
    result = _object(folder / "result.json", problems)
    if result is None:
        return None
    described = _object(folder / "candidate.json", problems) or {}
    notes = (_object(folder / "notes.json", problems) or {}).get("notes") or ()
    asked = tuple(trials.get(folder.name, ()))
    return Tried(folder.name, described, result, tuple(notes), asked, _diagnosis(folder / "diagnosis.json", problems))


def _diagnosis(path: Path, problems: list[str]) -> dict[str, Any] | None:
    """Return a stored diagnosis as the page takes it, or None; what is there and is none is a problem."""
    found = _object(path, problems)
    if found is None:
        return None
    try:
        return Diagnosis.of_json(found).to_json()
    except BadInput as error:
        problems.append(f"{path}: {error}")
        return None
