"""Proposals from Optuna's tree-structured Parzen estimator, with the floor and the limits as constraints."""

import json
import math
import warnings
from dataclasses import dataclass
from typing import Any

import optuna

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.search.history import History, Trial
from paredown.search.refine import needed
from paredown.search.space import Settings, Space

optuna.logging.set_verbosity(optuna.logging.ERROR)


class _OptunaDraw:
    """Draws settings from an Optuna trial; options that are no plain values go by their number."""

    def __init__(self, trial: optuna.trial.BaseTrial) -> None:
        self.trial = trial

    def choice(self, name: str, options: Any) -> Any:
        """Return one of `options`."""
        if len(options) == 1:
            return options[0]
        return options[self.trial.suggest_categorical(f"{name}/{len(options)}", list(range(len(options))))]

    def number(self, name: str, low: float, high: float) -> float:
        """Return a number between `low` and `high`, on a logarithmic scale."""
        return self.trial.suggest_float(name, low, high, log=True)


class _Recorder:
    """Finds the Optuna parameters and ranges that would have drawn given settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.params: dict[str, Any] = {}
        self.ranges: dict[str, Any] = {}

    def choice(self, name: str, options: Any) -> Any:
        """Return the setting, noting its number among the options (the first, if it is not among them)."""
        wanted = self.settings.get(name, options[0])
        listed = [list(o) if isinstance(o, tuple) else o for o in options]
        wanted = list(wanted) if isinstance(wanted, tuple) else wanted
        at = listed.index(wanted) if wanted in listed else 0
        if len(options) > 1:
            key = f"{name}/{len(options)}"
            self.params[key] = at
            self.ranges[key] = optuna.distributions.CategoricalDistribution(list(range(len(options))))
        return options[at]

    def number(self, name: str, low: float, high: float) -> float:
        """Return the setting within its range."""
        value = min(max(float(self.settings[name]), low), high)
        self.params[name] = value
        self.ranges[name] = optuna.distributions.FloatDistribution(low, high, log=True)
        return value


@part("search.tpe", Card(title="Tree-structured Parzen estimator", paper="arxiv:2304.11127", year=2023, authors="Watanabe",
                         source="Tree-Structured Parzen Estimator; Optuna's multi-objective TPESampler with constraints"))  # fmt: skip
@dataclass(frozen=True)
class Tpe:
    """Minimise the cost and the error, with what a winner needs and the hard limits as constraints.

    The study is rebuilt from the history for each call, with a seed of its own, so nothing is lost with the process.

    first: how many of the space's starting points are tried before anything is learned from. slack: what multiple of the error
    that may remain is taken as good enough while exploring.
    """

    first: int = knob(10, low=1, high=1000)
    slack: float = knob(1.0, low=0.1, high=10.0)

    def ask(self, space: Space, history: History, count: int, seed: int) -> list[Settings]:
        """Return `count` settings to try next."""
        asked = {json.dumps(trial.settings, sort_keys=True) for trial in history.trials}
        starts = [s for s in space.starts()[: self.first] if json.dumps(s, sort_keys=True) not in asked][:count]
        if len(starts) == count:
            return starts
        study = self._study(space, history, seed)
        drawn = []
        for _ in range(count - len(starts)):
            drawn.append(space.draw(_OptunaDraw(study.ask())))
        return starts + drawn

    def _study(self, space: Space, history: History, seed: int) -> optuna.Study:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=8, constant_liar=True,
                                                 constraints_func=lambda t: t.user_attrs["constraints"])  # fmt: skip
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        for trial in history.rung(0):
            study.add_trial(self._told(space, history, trial))
        return study

    def _told(self, space: Space, history: History, trial: Trial) -> optuna.trial.FrozenTrial:
        recorder = _Recorder(trial.settings)
        space.draw(recorder)
        best = history.metric.high if history.metric.higher_is_better else -history.metric.low
        lacking = best - self.slack * (best - needed(history)) - history.quality(trial)
        constraints = [lacking, *history.excess(trial)]
        values = [math.log(max(history.amount(trial), 1e-9)), -history.quality(trial)]
        key = optuna.samplers._base._CONSTRAINTS_KEY
        return optuna.trial.create_trial(
            params=recorder.params, distributions=recorder.ranges, values=values,
            user_attrs={"constraints": constraints}, system_attrs={key: constraints},
        )  # fmt: skip
