"""Proposals that go on from what was found: the same recipe again, longer trained, or with fewer or more bytes."""

import math
import statistics

from paredown.search.choose import SURE, Recipes, expected, passing, probability, promising, recipes, size
from paredown.search.history import History, Trial
from paredown.search.space import Settings

GAIN = 0.75
"""What four times the training leaves of the error, until the run itself has shown it."""

NOTHING = 0.95
"""A gain from which longer training is taken to bring nothing."""

SLOPE = 0.8
"""The power of a file's size with which its error falls, about: from 1,164 to 2,317 bytes on MNIST it was 0.6 to 0.9."""

Next = tuple[int, Settings]
"""A rung, and the settings to try there."""


def error(history: History, trial: Trial) -> float:
    """Return how far a trial's validation value is from the best the metric can be."""
    return best(history) - history.quality(trial)


def best(history: History) -> float:
    """Return the best that the metric can be, in the sense of `History.quality`."""
    return history.metric.high if history.metric.higher_is_better else -history.metric.low


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
    low, high = history.floor(), best(history)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if probability(history, some, middle) >= SURE else (middle, high)
    return high


def allowed_error(history: History, rungs_left: int) -> float:
    """Return the error at which a trial with `rungs_left` rungs to go may still pass."""
    return (best(history) - needed(history)) / gain(history) ** rungs_left


def promotable(history: History, rung: int, top: int) -> Next | None:
    """Return the next trial to train longer, at `rung`: the smallest that promises to pass, else the best.

    Once a recipe has passed, only smaller ones are worth it; and where longer training has been seen to bring nothing,
    only what promises to pass as it is.
    """
    taken = [t.settings for t in history.trials if t.rung == rung]
    below = smallest_passing(history)
    waiting = [t for t in history.rung(rung - 1) if t.settings not in taken and history.fits(t)]
    waiting = [t for t in waiting if history.amount(t) < below and "replica" not in t.settings]
    likely = [t for t in waiting if error(history, t) <= allowed_error(history, top - rung + 1)]
    if likely:
        return rung, min(likely, key=history.amount).settings
    if waiting and math.isinf(below) and gain(history) < NOTHING:
        return rung, min(waiting, key=lambda t: error(history, t)).settings
    return None


def smallest_passing(history: History) -> float:
    """Return the size of the smallest confirmed recipe that passes, or infinity."""
    groups = recipes(history)
    return min((size(history, g) for g in groups if g.confirmed and passing(history, g)), default=math.inf)


def replicated(history: History) -> Next | None:
    """Return the smallest promising, unconfirmed recipe once more, with another seed, on its own rung.

    None when none is smaller than the smallest that passes, or all are confirmed.
    """
    below = smallest_passing(history)
    open_ = [g for g in recipes(history) if promising(history, g) and not g.confirmed and size(history, g) < below]
    for group in sorted(open_, key=lambda g: size(history, g)):
        rung, settings = group.trials[0].rung, {**group.settings, "replica": len(group.trials)}
        if settings not in [t.settings for t in history.trials if t.rung == rung]:
            return rung, settings
    return None


def resized(history: History) -> Next | None:
    """Return the recipe that promises to pass with the fewest bytes, with those bytes, on its own rung.

    The error is taken to fall with the size as in `SLOPE`; one step goes at most a fifth down or three fifths up. None
    when the best few have been tried at that size, or when it is not below the smallest that passes.
    """
    groups = [g for g in recipes(history) if "bytes" in g.settings]
    below = smallest_passing(history)
    for group in sorted(groups, key=lambda g: _held(g) * max(0.8, lacking(history, g)))[:4]:
        aim = _held(group) * min(1.6, max(0.8, lacking(history, group)))
        for factor in (1.0, 1.06, 0.94):
            settings = {**group.settings, "bytes": round(aim * factor)}
            rung = group.trials[0].rung
            if settings["bytes"] < 0.98 * below and not _tried(history, rung, settings):
                return rung, settings
    return None


def lacking(history: History, group: Recipes) -> float:
    """Return how many times its bytes a recipe should need in order to pass: less than one where it passes already."""
    worst = best(history) - needed(history)
    ratio = (best(history) - expected(history, group)) / worst if worst > 0 else 1.0
    return float(max(ratio, 0.0) ** (1 / SLOPE))


def _tried(history: History, rung: int, settings: Settings) -> bool:
    """Whether these settings were tried at the rung with nearly as many bytes."""
    plain = {k: v for k, v in settings.items() if k not in ("bytes", "replica")}
    for trial in history.trials:
        own = {k: v for k, v in trial.settings.items() if k not in ("bytes", "replica")}
        if trial.rung == rung and own == plain and abs(trial.settings["bytes"] / settings["bytes"] - 1) < 0.025:
            return True
    return False


def _held(group: Recipes) -> float:
    """Return the bytes that a recipe aimed at, or those it took where that was less: then the aim was not what held it."""
    result = group.trials[0].result
    assert result is not None
    return min(float(group.settings["bytes"]), float(result.file_bytes))
