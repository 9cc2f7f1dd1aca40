"""The engine: asks, runs, stores, resumes, and hands over the winner."""

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from paredown.core.candidate import Candidate, Result
from paredown.core.errors import BadInput
from paredown.core.goal import Goal
from paredown.core.store import Store
from paredown.core.task import Task
from paredown.search.choose import Choice, choose
from paredown.search.history import History, Trial
from paredown.search.refine import promotable, replicated, resized
from paredown.search.space import Settings, Space
from paredown.search.trial import Bench, OutOfTime, run

FINISH_S = 6.0
"""Kept back from the budget for the winner's files, its test and the report."""

Told = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Terms:
    """How long, how often and with what a search may work. `budget_s` or `trials` may be None, not both."""

    budget_s: float | None = 300.0
    trials: int | None = None
    seed: int = 0
    workers: int = 1
    device: str = "cpu"
    targets: tuple[str, ...] = ("packed", "onnx")


@dataclass
class Search:
    """One search over one store."""

    space: Space
    searcher: Any
    task: Task
    goal: Goal
    terms: Terms
    store: Store
    started: float
    told: Told
    history: History = field(init=False)
    rungs: int = field(init=False)
    deadline: float | None = None
    baseline: Result | None = None

    def __post_init__(self) -> None:
        self.history = History(self.goal, self.task.metric, len(self.task.splits["test"]))
        self.rungs = self._rungs()

    def _rungs(self) -> int:
        """Return how many times training is quadrupled: so often that some sixty of the cheapest fit the budget."""
        budget = self.terms.budget_s or 600.0
        whole = self.space.measure.seconds(1.0)  # type: ignore[attr-defined]
        fitting = budget * self.terms.workers / whole
        return min(3, max(0, round(math.log(60 / fitting, 4))))

    def run(self) -> None:
        """Search until the budget or the trials are used up."""
        self.restore()
        seen = self.task.without("test")
        terms, rules = self.terms, self.goal.rules
        bench = Bench(seen, terms.device, self.store.folder, terms.targets[:1], self.latency(), self.deadline, rules)
        pool = None if self.terms.workers == 1 else _pool(self.terms.workers, bench)
        try:
            self.measure_baseline(bench)
            self.finish_open(bench, pool)
            while not self.over():
                self.round(bench, pool)
        finally:
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)

    def latency(self) -> bool:
        """Whether latency has to be measured for each candidate."""
        return "latency_ms" in (self.goal.minimize, *self.goal.limits)

    def restore(self) -> None:
        """Read the trials that the log has, finished or not."""
        results: dict[int, Result | None] = {}
        asked: dict[int, dict[str, Any]] = {}
        spent = 0.0
        for event in self.store.events():
            if event["event"] == "asked":
                asked[event["number"]] = event
            elif event["event"] == "told":
                results[event["number"]] = self.store.result(event["candidate"])
                spent = event["spent_s"]
        for number, event in sorted(asked.items()):
            trial = Trial(
                number, event["rung"], event["effort"], event["settings"], event["candidate"], results.get(number)
            )
            self.history.trials.append(trial)
        self.started -= spent
        self.deadline = None if self.terms.budget_s is None else self.started + self.terms.budget_s - FINISH_S

    def measure_baseline(self, bench: Bench) -> None:
        """Train the float network that everything is compared with, once."""
        candidate = self.space.baseline(4.0**-self.rungs)
        known = self.store.result(candidate.id)
        if known is None:
            try:
                known, notes = run(candidate, bench)
            except OutOfTime:
                return
            if known.failed:
                raise BadInput(known.failed)
            self.store.save(candidate, known, notes)
        self.baseline = known

    def over(self) -> bool:
        """Whether the trials or the time are used up."""
        if self.terms.trials is not None and len(self.history.trials) >= self.terms.trials:
            return True
        return self.deadline is not None and time.time() >= self.deadline

    def progress(self) -> float:
        """Return how much of the trials or of the time is used, whichever is more, in 0…1."""
        by_count = len(self.history.trials) / self.terms.trials if self.terms.trials else 0.0
        by_time = (
            (time.time() - self.started) / self.terms.budget_s if self.terms.budget_s and not self.terms.trials else 0.0
        )
        return min(1.0, max(by_count, by_time))

    def rung_now(self) -> int:
        """Return the rung to work on: the cheap ones first."""
        shares = {0: (1.0,), 1: (0.4, 1.0), 2: (0.35, 0.65, 1.0), 3: (0.3, 0.5, 0.75, 1.0)}[self.rungs]
        return next(rung for rung, share in enumerate(shares) if self.progress() <= share)

    def proposals(self, count: int) -> list[tuple[int, Settings]]:
        """Return (rung, settings) of the next trials: promoted ones on the upper rungs, refined and fresh ones else."""
        found: list[tuple[int, Settings]] = []
        rung = self.rung_now()
        pretend = replace(self.history, trials=list(self.history.trials))
        for _ in range(count):
            number = len(pretend.trials)
            at, settings = self.following(pretend, rung, number) or (0, self.fresh(pretend, number))
            found.append((at, settings))
            pretend.trials.append(Trial(number, at, self.effort(at), settings, ""))
        return found

    def fresh(self, history: History, number: int) -> Settings:
        """Return settings from the searcher."""
        return self.searcher.ask(self.space, history, 1, self.terms.seed * 100_003 + number)[0]

    def following(self, history: History, rung: int, number: int) -> tuple[int, Settings] | None:
        """Return (rung, settings) that go on from earlier trials, or None for fresh ones.

        What may win is confirmed first. On the lowest rung every other trial is fresh; above it trials are promoted to
        the rung, or a recipe is tried with the bytes that it should need.
        """
        if number >= 4 and (again := replicated(history)) is not None:
            return again
        if rung == 0:
            return resized(history) if number >= 6 and number % 2 else None
        order = (promotable(history, rung, self.rungs), resized(history))
        return order[number % 2] or order[1 - number % 2]

    def effort(self, rung: int) -> float:
        """Return a rung's share of a whole training."""
        return float(4.0 ** (rung - self.rungs))

    def round(self, bench: Bench, pool: ProcessPoolExecutor | None) -> None:
        """Ask for as many trials as keep the workers busy, note them, run them, note the results."""
        room = 1 if pool is None else 2 * self.terms.workers
        if self.terms.trials is not None:
            room = min(room, self.terms.trials - len(self.history.trials))
        fresh = []
        for rung, settings in self.proposals(room):
            candidate = self.space.candidate(settings, self.effort(rung))
            trial = Trial(len(self.history.trials), rung, self.effort(rung), settings, candidate.id)
            self.history.trials.append(trial)
            event = {"event": "asked", "number": trial.number, "rung": rung, "effort": trial.effort}
            self.store.append({**event, "settings": settings, "candidate": candidate.id})
            fresh.append(trial)
        self.run_all(fresh, bench, pool)

    def finish_open(self, bench: Bench, pool: ProcessPoolExecutor | None) -> None:
        """Run the trials that were asked for when the last process ended."""
        self.run_all([t for t in self.history.trials if t.result is None], bench, pool)

    def run_all(self, trials: list[Trial], bench: Bench, pool: ProcessPoolExecutor | None) -> None:
        """Run trials, in the pool if there is one, and note their results in the order of their numbers."""
        futures: list[Future | None] = []
        for trial in trials:
            candidate = self.space.candidate(trial.settings, trial.effort)
            known = self.store.result(candidate.id)
            futures.append(None if known or pool is None else pool.submit(_remote, candidate))
        for trial, future in zip(trials, futures, strict=True):
            candidate = self.space.candidate(trial.settings, trial.effort)
            self.note(trial, candidate, future.result if future else partial(run, candidate, bench))

    def note(self, trial: Trial, candidate: Candidate, work: Callable[[], tuple[Result, list[dict[str, str]]]]) -> None:
        """Take a trial's result, from the store or from work, and write it down. Out of time: the trial stays open."""
        known = self.store.result(candidate.id)
        if known is None:
            try:
                known, notes = work()
            except OutOfTime:
                return
            self.store.save(candidate, known, notes)
        spent = time.time() - self.started
        self.store.append({"event": "told", "number": trial.number, "candidate": candidate.id, "spent_s": spent})
        self.history.trials[trial.number] = replace(trial, result=known)
        self.told({"trial": self.history.trials[trial.number], "progress": self.progress(), "best": self.best()})

    def best(self) -> Choice | None:
        """Return the present choice."""
        return choose(self.history)


_BENCH: list[Bench] = []


def _pool(workers: int, bench: Bench) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_set_up, initargs=(bench,))


def _set_up(bench: Bench) -> None:
    torch.set_num_threads(1)
    _BENCH[:] = [bench]


def _remote(candidate: Candidate) -> tuple[Result, list[dict[str, str]]]:
    return run(candidate, _BENCH[0])


def run_folder(out: str | Path | None, name: str) -> Path:
    """Return the folder to use: `out`, or a fresh one below `runs/`."""
    if out is not None:
        return Path(out)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{name}-{stamp}"
