"""Choosing the winner on validation: the smallest that will very likely show the floor on test; and saying why none does."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist, mean

from paredown.search.history import History, Trial
from paredown.search.space import Settings

SURE = 0.95
"""The probability of showing the floor on the test split that is asked of the winner."""

REPLICAS = 2
"""Fresh trainings, with seeds of their own, that confirm a recipe."""


@dataclass(frozen=True)
class Recipes:
    """Trials of one recipe that differ in their seed alone: the first was found by looking, the others confirm it."""

    settings: Settings
    trials: tuple[Trial, ...]

    @property
    def confirmed(self) -> bool:
        """Whether enough fresh trainings stand behind the recipe."""
        return len(self.trials) > REPLICAS


@dataclass(frozen=True)
class Choice:
    """The chosen trial, what is expected of it on test (in the sense of `History.quality`), the probability that it shows the
    floor there, among how many candidates at or above the floor it was chosen, and in which sense."""

    trial: Trial
    expected: float
    probability: float
    among: int
    sense: str


def recipe_key(trial: Trial) -> str:
    """Return what trials of one recipe have in common: effort and settings but for the replica."""
    return repr((trial.effort, sorted((k, v) for k, v in trial.settings.items() if k != "replica")))


def recipes(history: History, trials: Iterable[Trial] | None = None) -> list[Recipes]:
    """Return the trials that have an outcome and keep the limits, by recipe."""
    found: dict[str, list[Trial]] = {}
    for trial in history.trials if trials is None else trials:
        if trial.good and history.fits(trial):
            found.setdefault(recipe_key(trial), []).append(trial)
    return [Recipes({k: v for k, v in ts[0].settings.items() if k != "replica"}, tuple(ts)) for ts in found.values()]


def spread(trial: Trial, n: int | None = None, value: float | None = None) -> float:
    """Return the standard error of the metric on `n` samples (those of validation when None), if it is `value` (the trial's own when None)."""
    assert trial.result is not None and trial.result.val is not None
    val = trial.result.val
    if val.metric == "accuracy":
        near = ((val.value if value is None else min(value, 1.0)) * val.n + 1) / (val.n + 2)  # never quite 0 or 1
        return math.sqrt(near * (1 - near) / (n or val.n))
    half = (val.high - val.low) / 2 / NormalDist().inv_cdf(0.5 + val.confidence / 2)
    return half * math.sqrt(val.n / (n or val.n))


def expected(history: History, recipe: Recipes) -> float:
    """Return the value to expect of a recipe's networks: the mean of its fresh trainings, which nobody chose for their value.

    Without any, the one value there is, less what the best of k equals exceeds their mean by, √(2 ln k) standard errors of
    the difference between two networks on the same samples (about 0.7 of one network's).
    """
    fresh = recipe.trials[1:]
    if fresh:
        return mean(history.quality(t) for t in fresh)
    k = max(1, rivals(history))
    return history.quality(recipe.trials[0]) - 0.7 * math.sqrt(2 * math.log(k)) * spread(recipe.trials[0])


def rivals(history: History) -> int:
    """Return how many candidates are at or above the floor on validation."""
    return sum(t.good and history.quality(t) >= history.floor() for t in history.trials)


def probability(history: History, trial: Trial, value: float) -> float:
    """Return how likely a network of expected value `value` shows the floor on test, in the sense that the goal asks.

    Both what validation knows and what test will show are uncertain: normal, with the variances of their sizes added. A goal with
    a confidence asks that the lower end of that interval on test be at the floor.
    """
    on_test = spread(trial, history.test_n, value)
    floor = history.floor()
    if history.goal.confidence is not None:
        floor += on_test * NormalDist().inv_cdf(0.5 + history.goal.confidence / 2)
    return NormalDist().cdf((value - floor) / math.hypot(spread(trial, None, value), on_test))


def promising(history: History, recipe: Recipes) -> bool:
    """Whether a recipe would pass if its mean so far were what to expect."""
    value = mean(history.quality(t) for t in recipe.trials)
    return probability(history, recipe.trials[0], value) >= SURE


def passing(history: History, recipe: Recipes) -> bool:
    """Whether a recipe is expected to show the floor on test with the probability asked."""
    return probability(history, recipe.trials[0], expected(history, recipe)) >= SURE


def size(history: History, recipe: Recipes) -> float:
    """Return what is minimised, for the network of a recipe that would be handed over: the best on validation."""
    return history.amount(max(recipe.trials, key=lambda t: (history.quality(t), -history.amount(t))))


def choose(history: History) -> Choice | None:
    """Return the smallest network whose recipe passes; if none does, the one most likely to show the floor. None without trials."""
    groups = recipes(history) or recipes_ignoring_limits(history)
    if not groups:
        return None
    sure = [g for g in groups if passing(history, g)]
    if sure:
        group = min(sure, key=lambda g: size(history, g))
        sense = f"the smallest expected to show the floor on test with probability {SURE:g} or more"
    else:
        group = max(groups, key=lambda g: (probability(history, g.trials[0], expected(history, g)), -size(history, g)))
        sense = f"the likeliest to show the floor on test; none reached the probability {SURE:g}"
    value = expected(history, group)
    trial = max(group.trials, key=lambda t: (history.quality(t), -history.amount(t)))
    return Choice(trial, value, probability(history, group.trials[0], value), rivals(history), sense)


def recipes_ignoring_limits(history: History) -> list[Recipes]:
    """Return all trials with an outcome, each a recipe of its own."""
    return [Recipes(t.settings, (t,)) for t in history.trials if t.good]
