"""Choosing the winner on validation, with an allowance for having chosen among many; and saying why nothing did."""

from dataclasses import dataclass
from statistics import NormalDist

from paredown.core.metric import wilson
from paredown.search.history import History, Trial

RISK = 0.2
"""The chance, over all candidates that reach the floor on validation, of taking one whose true value is below it."""


@dataclass(frozen=True)
class Choice:
    """The chosen trial, the lower bound that was asked of it, among how many it was chosen, and in which sense it passed."""

    trial: Trial
    bound: float
    among: int
    sense: str


def lower_bound(history: History, trial: Trial, level: float) -> float:
    """Return the one-sided lower bound of the trial's validation value at `level`, in the sense of `History.quality`.

    Accuracy: Wilson's score bound. Other metrics: the half-width of the bootstrap interval, scaled by normal quantiles.
    """
    assert trial.result is not None and trial.result.val is not None
    val = trial.result.val
    if val.metric == "accuracy":
        return wilson(val.value, val.n, 2 * level - 1)[0]
    worse = val.low if history.metric.higher_is_better else -val.high
    z = NormalDist().inv_cdf(level) / NormalDist().inv_cdf(0.5 + val.confidence / 2)
    return history.quality(trial) - z * (history.quality(trial) - worse)


def choose(history: History) -> Choice | None:
    """Return the smallest trial whose lower bound reaches the floor; the bound's level allows for the number of rivals.

    With k candidates at or above the floor on validation the level is 1 − 0.2 / k (Bonferroni). If none passes so: the
    one with the best bound among those at or above the floor; if there is none, the best there is. None without trials.
    """
    fitting = [t for t in history.trials if t.good and history.fits(t)] or [t for t in history.trials if t.good]
    if not fitting:
        return None
    floor = history.floor()
    above = [t for t in fitting if history.quality(t) >= floor]
    level = 1 - RISK / max(1, len(above))
    if history.goal.confidence is not None:
        level = max(level, history.goal.confidence)
    sure = [t for t in above if lower_bound(history, t, level) >= floor]
    if sure:
        best = min(sure, key=lambda t: (history.amount(t), -history.quality(t)))
        sense = "its lower bound on validation is at or above the floor"
    elif above:
        best = max(above, key=lambda t: (lower_bound(history, t, level), -history.amount(t)))
        sense = "its value on validation is at or above the floor, its lower bound is not"
    else:
        best = max(fitting, key=lambda t: (history.quality(t), -history.amount(t)))
        sense = "it is the best found; nothing reached the floor on validation"
    return Choice(best, lower_bound(history, best, level), len(above), sense)


def confident(history: History) -> list[Trial]:
    """Return the trials whose lower bound reaches the floor at the level that `choose` asks."""
    choice = choose(history)
    if choice is None:
        return []
    above = [t for t in history.trials if t.good and history.fits(t) and history.quality(t) >= history.floor()]
    level = 1 - RISK / max(1, len(above))
    return [t for t in above if lower_bound(history, t, level) >= history.floor()]


def explain(history: History, baseline: float | None) -> str:
    """Return, in one paragraph, what kept the floor from being reached: capacity, data, a step or a limit; and what to try."""
    good = [t for t in history.trials if t.good]
    if not good:
        failed = next((t.result.failed for t in history.trials if t.result and t.result.failed), "no trial was finished in the budget")
        return f"no candidate has a result: {failed}; give a larger --budget"
    sign = 1 if history.metric.higher_is_better else -1
    top = max(good, key=history.quality)
    best, floor = sign * history.quality(top), history.goal.floor
    told = f"the best {history.metric.name} found on validation is {best:.4f} at {history.amount(top):g} {history.goal.minimize}, the floor is {floor:g}"
    if history.goal.limits and not any(history.fits(t) for t in good):
        tight = min(history.goal.limits)
        return f"limit: no candidate keeps {', '.join(f'{k}={v:g}' for k, v in history.goal.limits.items())}; {told}; try a larger {tight}"
    if baseline is not None and sign * baseline >= sign * floor > sign * best:
        return f"a step: the float network reaches {baseline:.4f}, what quantization leaves of it does not; {told}; try a larger --budget, so that more bytes and longer training are tried"
    if sign * best >= sign * floor:
        return f"data: {told}, but the test split says less; validation has too few samples to be sure: give more data, or a floor with less at stake"
    by_size = sorted(good, key=history.amount)
    half = len(by_size) // 2
    if half and max(map(history.quality, by_size[half:])) > max(map(history.quality, by_size[:half])) + 1e-9:
        return f"capacity or training: larger candidates do better; {told}; try a larger --budget or a larger --model"
    return f"data: larger candidates do no better; {told}; try more data, cleaner labels or a lower floor"
