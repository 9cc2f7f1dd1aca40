"""Proposals that go on from what was found: the same network longer trained, or with fewer or more bytes."""

import statistics

from paredown.search.choose import confident
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


def allowed_error(history: History, rungs_left: int) -> float:
    """Return the error at which a trial with `rungs_left` rungs to go may still pass the floor with something to spare."""
    best = history.metric.high if history.metric.higher_is_better else -history.metric.low
    return 0.75 * (best - history.floor()) / gain(history) ** rungs_left


def promotable(history: History, rung: int, top: int) -> Settings | None:
    """Return the settings of the next trial to train longer, at `rung`: the smallest that promises to pass, else the best."""
    taken = [t.settings for t in history.trials if t.rung == rung]
    waiting = [t for t in history.rung(rung - 1) if t.settings not in taken and history.fits(t)]
    if not waiting:
        return None
    promising = [t for t in waiting if error(history, t) <= allowed_error(history, top - rung + 1)]
    if promising:
        return min(promising, key=history.amount).settings
    return min(waiting, key=lambda t: error(history, t)).settings


def resized(history: History, rung: int) -> Settings | None:
    """Return the best settings of a rung with fewer bytes (if they pass) or more (if not), unless tried already."""
    known = history.rung(rung)
    if not known or "bytes" not in known[0].settings:
        return None
    sure = [t for t in confident(history) if t.rung == rung]
    if sure:
        start = min(sure, key=history.amount)
        factors = (0.88, 0.94, 0.8, 0.97)
    else:
        start = min(known, key=lambda t: (error(history, t), history.amount(t)))
        factors = (1.2, 1.1, 1.4, 1.7)
    tried = [t.settings for t in history.trials if t.rung == rung]
    for factor in factors:
        settings = {**start.settings, "bytes": round(start.settings["bytes"] * factor)}
        if settings not in tried:
            return settings
    return None


