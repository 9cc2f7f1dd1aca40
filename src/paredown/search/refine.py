"""Proposals that go on from what was found: the same recipe again, longer trained, or with fewer or more bytes."""

import math
import statistics

from paredown.search.choose import SURE, Recipes, expected, passing, probability, promising, recipes, size, spread
from paredown.search.history import History, Trial
from paredown.search.space import Settings

GAIN = 0.75
"""What four times the training leaves of the error, until the run itself has shown it."""


def error(history: History, trial: Trial) -> float:
    """Return how far a trial's validation value is from the best the metric can be."""
    return (history.metric.high if history.metric.higher_is_better else -history.metric.low) - history.quality(trial)


def gain(history: History) -> float:
    """Return the median ratio of the error at one rung to the error of the same settings one rung below."""
    ratios = []
    for trial in history.trials:
        if trial.rung and trial.good:
            below = [t for t in history.rung(trial.rung - 1) if t.settings == trial.settings]
            if below and error(history, below[0]) > 0:
                ratios.append(error(history, trial) / error(history, below[0]))
    return min(1.0, statistics.median(ratios)) if len(ratios) >= 2 else GAIN


def needed(history: History) -> float:
    """Return the value (in the sense of `History.quality`) that a confirmed recipe needs in order to pass, about."""
    some = next((t for t in history.trials if t.good), None)
    if some is None:
        return history.floor()
    low, high = history.floor(), history.metric.high if history.metric.higher_is_better else -history.metric.low
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if probability(history, some, middle) >= SURE else (middle, high)
    return high


def allowed_error(history: History, rungs_left: int) -> float:
    """Return the error at which a trial with `rungs_left` rungs to go may still pass."""
    best = history.metric.high if history.metric.higher_is_better else -history.metric.low
    return (best - needed(history)) / gain(history) ** rungs_left


def promotable(history: History, rung: int, top: int) -> Settings | None:
    """Return the settings of the next trial to train longer, at `rung`: the smallest that promises to pass, else the best."""
    taken = [t.settings for t in history.trials if t.rung == rung]
    waiting = [t for t in history.rung(rung - 1) if t.settings not in taken and history.fits(t)]
    if not waiting:
        return None
    likely = [t for t in waiting if error(history, t) <= allowed_error(history, top - rung + 1)]
    if likely:
        return min(likely, key=history.amount).settings
    return min(waiting, key=lambda t: error(history, t)).settings


def replicated(history: History, rung: int) -> Settings | None:
    """Return settings that train the smallest promising, unconfirmed recipe of a rung once more, with another seed.

    None when none is smaller than the smallest that passes, or all are confirmed.
    """
    groups = recipes(history, [t for t in history.trials if t.rung == rung])
    passed = [size(history, g) for g in groups if passing(history, g) and g.confirmed]
    below = min(passed, default=math.inf)
    open_ = [g for g in groups if promising(history, g) and not g.confirmed and size(history, g) < below]
    asked = [t.settings for t in history.trials if t.rung == rung]
    for group in sorted(open_, key=lambda g: size(history, g)):
        settings = {**group.settings, "replica": len(group.trials)}
        if settings not in asked:
            return settings
    return None


def resized(history: History, rung: int) -> Settings | None:
    """Return the best settings of a rung with fewer bytes (if they pass) or more (if none do), unless tried already."""
    groups = [g for g in recipes(history, history.rung(rung)) if "bytes" in g.settings]
    if not groups:
        return None
    sure = [g for g in groups if passing(history, g)]
    if sure:
        start = min(sure, key=lambda g: size(history, g))
        factors: tuple[float, ...] = (0.88, 0.94, 0.8, 0.97)
    else:
        start = max(groups, key=lambda g: _optimistic(history, g))
        factors = (1.25, 1.5, 1.1, 2.0)
    tried = [t.settings for t in history.trials if t.rung == rung]
    for factor in factors:
        settings = {**start.settings, "bytes": round(_aimed(start) * factor)}
        if settings not in tried:
            return settings
    return None


def _aimed(group: Recipes) -> float:
    """Return the bytes that a recipe aimed at, or those it took where that was less: then the aim was not what held it."""
    result = group.trials[0].result
    assert result is not None
    return min(float(group.settings["bytes"]), float(result.file_bytes))


def _optimistic(history: History, group: Recipes) -> tuple[float, float]:
    """Order recipes by what to expect of them; of those within half a standard error the larger is the safer bet."""
    step = spread(group.trials[0]) / 2
    value = expected(history, group)
    return round(value / step) if step else value, size(history, group)
