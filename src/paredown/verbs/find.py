"""`paredown find` and `paredown apply`."""

import json
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import paredown
from paredown.core.artifact import Artifact, sha256_of
from paredown.core.candidate import REVISION, Candidate, Result
from paredown.core.catalog import entry
from paredown.core.errors import BadInput
from paredown.core.frontier import pareto
from paredown.core.goal import Goal, parse_limits
from paredown.core.recipe import Recipe
from paredown.core.store import Store, read_json, write_whole
from paredown.core.task import Task
from paredown.core.units import seconds
from paredown.data.tasks import load
from paredown.reports.page import write_report
from paredown.search.choose import Choice, choose
from paredown.search.engine import Search, Terms, run_folder
from paredown.search.explain import explain
from paredown.search.history import History, Trial
from paredown.search.space import DenseSpace, Measure, ModelSpace, Space, VectorSpace
from paredown.search.trial import Bench, run
from paredown.targets.deliver import backend
from paredown.verbs.diagnose import explain_winner
from paredown.verbs.hand_over import hand_over
from paredown.zoo.resolve import network

Told = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Run:
    """A finished search or application: `json` is the document that the terminal prints."""

    folder: Path
    json: Mapping[str, Any]
    best: Artifact | None = None
    frontier: tuple[Mapping[str, Any], ...] = field(default=())

    @property
    def reached(self) -> bool:
        """Whether the winner's test value is at or above the floor."""
        return bool(self.json["reached"])

    def report(self) -> Path:
        """Return the path of the report, rebuilt."""
        return write_report(self.folder)


def find(  # noqa: PLR0913 - the surface's options, by keyword
    task: Any,
    goal: Goal | None = None,
    *,
    floor: float | None = None,
    model: Any = None,
    minimize: str = "file_bytes",
    limits: list[str] | tuple[str, ...] = (),
    confidence: float | None = None,
    targets: list[str] | tuple[str, ...] = ("packed", "onnx"),
    budget: str | float | None = None,
    trials: int | None = None,
    seed: int = 0,
    workers: int = 1,
    device: str = "auto",
    searcher: str = "search.tpe",
    out: str | Path | None = None,
    resume: bool = False,
    told: Told | None = None,
) -> Run:
    """Return the run that found the smallest model keeping the floor: its winner, its frontier, its files on disk.

    task: a built-in name, a path, arrays, a Dataset, a DataLoader, or a Task. floor: on the task's metric. model: a zoo
    id, `file.py:function`, or None for the dense family. budget: like "5m" (the default where no `trials` are given);
    the report is written within it, give or take a tenth. The other options are the terminal's.
    Raises BadInput; Busy when another process works on `out`.
    """
    started = time.time()
    data = load(task)
    goal = _goal(data, goal, floor, minimize, limits, confidence)
    budget_s = seconds(budget) if budget is not None else (None if trials is not None else 300.0)
    terms = _terms(budget_s, trials, seed, workers, device, targets)
    space = _space(data, model, seed)
    folder = run_folder(out, data.name)
    with Store(folder) as store:
        asked = _asked(data, goal, terms, searcher, model)
        _agree(store, asked, resume)
        if (folder / "found.json").exists():
            return _finished(store, asked)
        search = Search(space, entry(searcher).cls(), data, goal, terms, store, started, told or (lambda _: None))
        try:
            search.run()
        finally:
            _frontier(store, search.history)
        choice = choose(search.history)
        document = _conclude(store, search, choice, data, started)
    return _run_of(folder, document)


def _goal(
    data: Task, goal: Goal | None, floor: float | None, minimize: str, limits: Any, confidence: float | None
) -> Goal:
    if goal is None:
        if floor is None:
            raise BadInput("floor is missing; say what the model must reach, like --floor 0.97")
        limited = dict(limits) if isinstance(limits, Mapping) else parse_limits(limits)
        goal = Goal(floor, minimize, limited, confidence)
    return replace(goal, floor=data.metric.check_floor(goal.floor))


def _terms(budget_s: float | None, trials: int | None, seed: int, workers: int, device: str, targets: Any) -> Terms:
    if trials is not None and trials < 1:
        raise BadInput(f"trials={trials} is not allowed; give 1 or more")
    if workers < 1:
        raise BadInput(f"workers={workers} is not allowed; give 1 or more")
    if seed < 0:
        raise BadInput(f"seed={seed} is not allowed; give 0 or more")
    if not targets:
        raise BadInput("targets is empty; give packed, onnx or both")
    for target in targets:
        backend(target)
    return Terms(budget_s, trials, seed, workers, device_named(device), tuple(dict.fromkeys(targets)))


def device_named(device: str) -> str:
    """Return the torch device that "auto", "cpu" or "cuda" stands for. Raises BadInput for one that is not here."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.split(":", maxsplit=1)[0] not in ("cpu", "cuda"):
        raise BadInput(f"device {device!r} is unknown; allowed: auto, cpu, cuda")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BadInput(f"device {device!r} is not on this machine; use --device cpu")
    return device


def _space(data: Task, model: Any, seed: int) -> Space:
    measure = Measure(len(data.splits["train"]), int(np.prod(data.shape)))
    if model is not None:
        spec = _spec(model)
        net = network(spec, data.shape, len(data.classes), seed)
        params = sum(p.numel() for p in net.parameters())
        return ModelSpace(measure, seed, data.digest, max(100.0, 0.02 * params), max(200.0, 0.6 * params), spec)
    size = float(np.prod(data.shape)) * len(data.classes)
    least, most = 100 * max(1.0, size / 640) ** 0.3, 64 * size**0.5
    if len(data.shape) == 3 and min(data.shape[1:]) >= 5:
        return DenseSpace(measure, seed, data.digest, least, most, data.shape)
    return VectorSpace(measure, seed, data.digest, min(least, most / 4), most)


def _spec(model: Any) -> dict[str, Any]:
    """Return a model as a candidate names it; a file of the user's with its digest, so that a changed file is another model."""
    spec = dict(model) if isinstance(model, Mapping) else {"model": str(model)}
    name = str(spec["model"])
    path = Path(name if name.endswith(".onnx") else name.rpartition(":")[0])
    return {**spec, "digest": sha256_of(path)} if path.is_file() else spec


def _asked(data: Task, goal: Goal, terms: Terms, searcher: str, model: Any) -> dict[str, Any]:
    return {
        "schema": "paredown/asked/1", "task": {"name": data.name, "digest": data.digest, "metric": data.metric_name,
        "shape": list(data.shape), "classes": list(data.classes), "n": {r: len(s) for r, s in data.splits.items()},
        "notes": list(data.notes), "licence": data.licence, "source": data.source},
        "goal": goal.to_json(), "model": None if model is None else _spec(model), "searcher": searcher, "seed": terms.seed,
        "terms": {**vars(terms), "targets": list(terms.targets)}, "command": shlex.join(["paredown", *sys.argv[1:]]),
        "host": {"python": platform.python_version(), "torch": torch.__version__, "machine": platform.machine(), "system": platform.platform()},
        "version": paredown.__version__, "revision": REVISION, "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }  # fmt: skip


def _finished(store: Store, asked: dict[str, Any]) -> Run:
    """Return the run as it ended. Its winner has met the test split, so it cannot be searched further."""
    before = store.asked or {}
    if any(before["terms"].get(key) != asked["terms"][key] for key in ("budget_s", "trials")):
        raise BadInput(
            f"run {store.folder} is finished and its winner has met the test split; search further in another --out"
        )
    if not (store.folder / "report.html").exists():
        write_report(store.folder)
    return _run_of(store.folder, read_json(store.folder / "found.json"))


SAME = ("task", "goal", "model", "searcher", "seed", "revision")


def _agree(store: Store, asked: dict[str, Any], resume: bool) -> None:
    """Write what is asked into a fresh folder; in one with a run, go on only if asked to, and only with the same question."""
    before = store.asked
    if before is None:
        if any(store.folder.glob("candidates/*")):
            raise BadInput(f"folder {store.folder} holds candidates but no asked.json; give an empty --out")
        store.ask(asked)
        return
    if not resume:
        raise BadInput(f"run {store.folder} exists already; add --resume to go on with it, or give another --out")
    fresh = json.loads(json.dumps(asked))
    for key in SAME:
        if before.get(key) != fresh.get(key):
            raise BadInput(
                f"run {store.folder} was asked for another {key}: {_short(before.get(key))}, now {_short(fresh.get(key))}; give another --out"
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else text[:77] + "..."


def _frontier(store: Store, history: History) -> list[dict[str, Any]]:
    """Write and return the frontier: the candidates that no other beats in both cost and validation value."""
    good = [t for t in history.trials if t.good]
    front = pareto(good, history.amount, history.quality)
    what = history.goal.minimize
    rows = [{what: t.result.amount(what), **_row(t.result)} for t in front if t.result]
    everything = [{what: t.result.amount(what), **_row(t.result)} for t in good if t.result]
    document = {"schema": "paredown/frontier/1", "minimize": history.goal.minimize, "frontier": rows, "all": everything}
    write_whole(store.folder / "frontier.json", json.dumps(document))
    return rows


def _row(result: Result) -> dict[str, Any]:
    return {
        "id": result.id, "file_bytes": result.file_bytes, "val": result.val.to_json() if result.val else None,
        "params": result.cost.get("params"), "macs": result.cost.get("macs"), "ram_bytes": result.cost.get("ram_bytes"),
        **result.measured,
    }  # fmt: skip


def _conclude(store: Store, search: Search, choice: Choice | None, data: Task, started: float) -> dict[str, Any]:
    """Hand over the winner, let it meet the test split, write found.json and the report, and return the document."""
    goal, baseline = search.goal, search.baseline
    document: dict[str, Any] = {
        "schema": "paredown/find/1", "run": str(store.folder), "reached": False, "floor": goal.floor, "minimize": goal.minimize,
        "target": search.terms.targets[0], "best": None,
        "frontier": _frontier(store, search.history), "trials": len([t for t in search.history.trials if t.result]),
        "baseline": _baseline_row(search.space.baseline(search.effort(0)), baseline), "why": None,
    }  # fmt: skip
    value = baseline.val.value if baseline and baseline.val else None
    if choice is not None and choice.trial.result is not None:
        candidate = store.candidate(choice.trial.candidate)
        best, test = hand_over(
            store, candidate, choice.trial.result, data, search.terms.targets, goal.confidence or 0.95
        )
        document["best"] = best
        low = test.low if search.task.metric.higher_is_better else test.high
        judged = test.value if goal.confidence is None else low
        document["reached"] = search.task.metric.reached(judged, goal.floor) and search.history.fits(choice.trial)
        document["sense"] = (
            "test value" if goal.confidence is None else f"bound of the {goal.confidence:g} interval on test"
        )
        document["chosen"] = _chosen(search.history, choice)
        until = None if search.terms.budget_s is None else search.started + search.terms.budget_s
        document["undiagnosed"] = explain_winner(store, candidate, data, until)
    if not document["reached"]:
        document["why"] = explain(search.history, value)
    document["seconds"] = round(time.time() - search.started, 2)
    write_whole(store.folder / "found.json", json.dumps(document, indent=1))
    write_report(store.folder)
    return document


def _chosen(history: History, choice: Choice) -> dict[str, Any]:
    sign = 1 if history.metric.higher_is_better else -1
    return {
        "among": choice.among,
        "expected": sign * choice.expected,
        "probability": choice.probability,
        "how": choice.sense,
    }


def _baseline_row(candidate: Candidate, result: Result | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {
        "id": result.id,
        "spec": dict(candidate.spec),
        "file_bytes": result.file_bytes,
        "val": result.val.to_json() if result.val else None,
    }


def apply(
    recipe: Recipe | str | Path,
    model: Any = None,
    task: Any = None,
    *,
    targets: tuple[str, ...] | list[str] = ("packed", "onnx"),
    seed: int = 0,
    device: str = "auto",
    out: str | Path | None = None,
) -> Run:
    """Return the run of one recipe on one model, measured as `find` measures: files, validation, then test.

    recipe: a Recipe or a YAML file. model: as for `find`; the first of the dense family when None. Raises BadInput.
    """
    started = time.time()
    data = load(task)
    steps = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    steps.check()
    terms = _terms(None, 1, seed, 1, device, targets)
    spec = {"model": "dense"} if model is None else _spec(model)
    candidate = Candidate(spec, steps, seed, data.digest)
    folder = run_folder(out, f"{data.name}-apply")
    with Store(folder) as store:
        store.ask(
            _asked(data, Goal(data.metric.low if data.metric.higher_is_better else data.metric.high), terms, "", model)
        )
        bench = Bench(data.without("test"), terms.device, folder, terms.targets[:1], idle=False)
        result, notes = run(candidate, bench)
        if result.failed:
            raise BadInput(result.failed)
        store.save(candidate, result, notes)
        history = History(Goal(0.0), data.metric, trials=[Trial(0, 0, 1.0, {}, candidate.id, result)])
        best, _ = hand_over(store, candidate, result, data, terms.targets)
        document = {
            "schema": "paredown/find/1", "run": str(folder), "reached": True, "floor": None, "minimize": "file_bytes",
            "target": terms.targets[0], "best": best, "frontier": _frontier(store, history), "baseline": None, "trials": 1,
            "seconds": round(time.time() - started, 2), "why": None, "undiagnosed": explain_winner(store, candidate, data, None),
        }  # fmt: skip
        write_whole(folder / "found.json", json.dumps(document, indent=1))
        write_report(folder)
    return _run_of(folder, document)


def _run_of(folder: Path, document: dict[str, Any]) -> Run:
    rows = document["best"]["artifacts"] if document["best"] else []
    best = Artifact.of_json({k: v for k, v in rows[0].items() if k != "quality"}) if rows else None
    return Run(folder, document, best, tuple(document["frontier"]))
