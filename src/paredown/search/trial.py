"""Running one candidate: its recipe step by step, from the deepest prefix there is, then its file, measured."""

import itertools
import json
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paredown.core.candidate import Candidate, Result
from paredown.core.catalog import rule
from paredown.core.errors import BadInput
from paredown.core.goal import SCORE
from paredown.core.plan import Plan
from paredown.core.recipe import Recipe
from paredown.core.store import read_json, write_whole
from paredown.core.task import Task
from paredown.core.work import Work
from paredown.cost.count import layers, total
from paredown.cost.counted import evidence
from paredown.cost.modelled import estimates
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.graph.unrounded import save_unrounded, unrounded
from paredown.targets.container import tensor_bytes
from paredown.targets.container import write as pack
from paredown.targets.deliver import deliver, latency_ms, load
from paredown.train.data import Data
from paredown.train.evaluate import evaluate, scores
from paredown.train.fit import Extras, Stopped, fit
from paredown.zoo.resolve import network


class OutOfTime(Exception):
    """The budget ended while a candidate was being trained."""


@dataclass
class Bench:
    """A task on a device, where to keep finished prefixes, what to write, until when, and by which rules to score.

    idle: whether a pruning step may leave the network as it was (a search goes on; a recipe that a person wrote does not).
    """

    task: Task
    device: str
    folder: Path
    targets: tuple[str, ...] = ("packed",)
    measure_latency: bool = False
    deadline: float | None = None
    rules: tuple[str, ...] = ()
    idle: bool = True
    data: dict[str, Data] = field(default_factory=dict)
    unrounded: dict[str, Tensor] = field(default_factory=dict)

    def split(self, role: str) -> Data:
        """Return a role's data on the device, loaded once."""
        if role not in self.data:
            self.data[role] = Data.of(self.task, role, self.device)
        return self.data[role]

    def watch(self, _: float = 0.0) -> None:
        """Raise Stopped when the time is over."""
        if self.deadline is not None and time.time() > self.deadline:
            raise Stopped

    def work(self, candidate: Candidate, before: Net, checkpoint: Path) -> Work:
        """Return the services that a step may use on the network `before`; its n-th training resumes from `checkpoint`.n."""
        train, calib, val = self.split("train"), self.split("calib"), self.split("val")
        trainings = itertools.count()

        def fitting(net: Net, loss: Any, habits: tuple[Any, ...], plan: Plan) -> dict[str, float]:
            better = 1 if self.task.metric.higher_is_better else -1
            extras = Extras(
                teacher=_teacher(loss, candidate, before, self),
                val=lambda model: better * evaluate(model, val, self.task.metric, "val").value,
                watch=self.watch, checkpoint=checkpoint.with_name(f"{checkpoint.name}.{next(trainings)}"),
                checkpoint_epochs=max(1, round(2_000_000 / len(train))),
            )  # fmt: skip
            found = fit(net, train, loss, habits, plan, candidate.seed, extras)
            self.unrounded = unrounded(net)
            return found

        def evaluating(net: Net) -> Any:
            return evaluate(net, val, self.task.metric, "val")

        return Work({"fit": fitting, "calib": (calib.x, calib.y), "evaluate": evaluating}, candidate.seed)


def run(
    candidate: Candidate, bench: Bench, told: Callable[[str], None] | None = None
) -> tuple[Result, list[dict[str, Any]]]:
    """Return the candidate's result and its notes; its network and files are written below `bench.folder`.

    Raises OutOfTime when the bench's deadline passes. Input that a step refuses makes a failed result, not an error.
    """
    start = time.time()
    folder = bench.folder / "candidates" / candidate.id
    try:
        net, story, notes = trained(candidate, bench, told)
        result = finished(candidate, net, bench, folder, story)
    except Stopped as error:
        raise OutOfTime from error
    except BadInput as error:
        return Result(candidate.id, failed=str(error), seconds=time.time() - start), []
    return Result(**{**vars(result), "seconds": time.time() - start}), notes


def trained(
    candidate: Candidate, bench: Bench, told: Callable[[str], None] | None = None
) -> tuple[Net, list[dict[str, Any]], list[dict[str, Any]]]:
    """Return (network, story, notes) after the whole recipe, going on from the longest prefix that is stored."""
    candidate.recipe.check()
    ids = candidate.prefix_ids()
    done = next((n for n in range(len(ids), 0, -1) if (bench.folder / "steps" / ids[n - 1] / "story.json").exists()), 0)
    if done:
        kept = bench.folder / "steps" / ids[done - 1]
        net, past = Net.load(kept).to(bench.device), read_json(kept / "story.json")
        story, notes = past["steps"], past["notes"]
    else:
        net = network(candidate.spec, bench.task.shape, len(bench.task.classes), candidate.seed).to(bench.device)
        story, notes = [], []
    for at in range(done, len(ids)):
        step, start = candidate.recipe.steps[at], time.time()
        bench.watch()
        if told:
            told(step.part_name)
        work = bench.work(candidate, net, bench.folder / "steps" / f"{ids[at]}.checkpoint").scoped(
            step.part_name, step.card.needs
        )
        torch.manual_seed(candidate.seed)
        bench.unrounded = {}
        before, net = net, step.apply(net, work)
        if not bench.idle and step.part_name.startswith("prune."):
            _check_pruned(step.part_name, before, net, work)
        story = [*story, _chapter(step.part_name, net, bench, time.time() - start)]
        notes = [*notes, *(note.to_json() for note in work.notes)]
        _keep(net, {"steps": story, "notes": notes}, bench.folder / "steps" / ids[at], bench.unrounded)
    return net, story, notes


def _check_pruned(name: str, before: Net, after: Net, work: Work) -> None:
    """Raise BadInput where a step has left the network as it was, unless it measured that it should."""
    if before.spec != after.spec or any(note.curve for note in work.notes):
        return
    old, new = before.state_dict(), after.state_dict()
    if old.keys() == new.keys() and all(torch.equal(value, new[key]) for key, value in old.items()):
        why = next((f"{note.layer}: {note.text}" for note in work.notes), "it was asked for too little")
        raise BadInput(f"{name} can remove nothing from this network; {why}")


def _teacher(loss: Any, candidate: Candidate, before: Net, bench: Bench) -> Net | None:
    """Return the network that a loss wants to imitate, in eval mode, or None for a loss that wants none.

    Raises BadInput when a step is to learn from itself before anything was trained.
    """
    name = getattr(loss, "teacher", None)
    if name is None:
        return None
    if name != "self":
        training = next(s for s in candidate.recipe.to_json() if "plan" in s)["plan"]
        own = Recipe.of_json([{"part": "train.finetune", "plan": training}])
        return trained(Candidate({"model": name}, own, candidate.seed, candidate.data), bench)[0].eval()
    if candidate.recipe.steps and getattr(candidate.recipe.steps[0], "loss", None) is loss:
        raise BadInput(
            f"{getattr(loss, 'part_name', 'a loss')} in the first step has no trained network to learn from; "
            "put a train.finetune before it, or name a model as its teacher"
        )
    return before.copy().eval()


def _chapter(name: str, net: Net, bench: Bench, seconds: float) -> dict[str, Any]:
    val = evaluate(net, bench.split("val"), bench.task.metric, "val")
    return {"step": name, "val": val.value, "file_bytes": len(pack(freeze(net))[0]), "seconds": seconds}


def _keep(net: Net, story: dict[str, Any], folder: Path, before: dict[str, Tensor]) -> None:
    """Store a prefix's network, whole or not at all, with what its weights were `before` rounding where they were trained so."""
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    net.save(partial)
    save_unrounded(before, partial)
    write_whole(partial / "story.json", json.dumps(story))
    if folder.exists():
        shutil.rmtree(partial)
    else:
        partial.rename(folder)


def official_score(name: str, net: Net) -> float:
    """Return a network's score by the rule `name`, from what is counted. Raises BadInput where more is better."""
    found = rule(name)
    score = found.score(found.evidence.within(evidence(net), "the candidate"))
    if score.total is None or score.higher_is_better:
        raise BadInput(f"score:{name} cannot be minimised: it has no total, or more of it is better")
    return float(score.total)


def finished(candidate: Candidate, net: Net, bench: Bench, folder: Path, story: list[dict[str, Any]]) -> Result:
    """Return the result of a trained network: its files written and measured on validation, its cost counted."""
    frozen = freeze(net)
    source = scores(net, bench.split("val"))
    artifacts = tuple(
        deliver(frozen, source, bench.task, "val", target, folder / "artifacts") for target in bench.targets
    )
    rows = layers(net)
    cost = total(net, rows)
    first = artifacts[0]
    sizes = tensor_bytes(frozen)
    measured: dict[str, Any] = {}
    if bench.measure_latency:
        sample = np.ascontiguousarray(bench.task.inputs("val")[:1])
        seen = latency_ms(load(first.path), sample)
        measured = {"latency_ms": seen["median"], "latency_low_ms": seen["low"], "latency_high_ms": seen["high"]}
        measured["latency_repeats"] = seen["repeats"]
    official = {f"{SCORE}{name}": official_score(name, net) for name in bench.rules}
    net.save(folder / "net")
    return Result(
        candidate.id, first.bytes, first.quality, None, artifacts, {**cost.to_json(), **official}, measured,
        modelled={one.what: {"value": one.value, "model": one.model, "version": one.version} for one in estimates(rows)},
        steps=tuple(story),
        layers=tuple({**row.to_json(), "bytes": sizes.get(row.slot, 0)} for row in rows if row.params or row.macs),
    )  # fmt: skip
