"""What a reader hands over, and how it becomes a Task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from paredown.core.metric import metric_named
from paredown.core.task import Split, Task
from paredown.data import check, findings, labels, layout, roles
from paredown.data.options import Options

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Raw:
    """Samples and labels by role as they were found, unchecked: x (n × anything), y (n numbers or strings)."""

    name: str
    pairs: Mapping[str, Pair]
    options: Options = field(default_factory=Options)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Builtin:
    """A built-in task: its name, one line about it, where it comes from, and the function that reads it."""

    name: str
    about: str
    read: Callable[[], Raw]
    licence: str = ""
    source: str = ""


def finish(raw: Raw, metric: str | None, seed: int) -> Task:
    """Return the Task: checked, arranged (see `layout`), labels as integers, all four roles filled, findings noted.

    `seed` draws val and calib when they are absent. Raises BadInput in one line for whatever is wrong.
    """
    options = raw.options
    chosen = metric_named(metric or options.metric or "accuracy")
    check.pairs(raw.pairs)
    arranged = layout.arrange({role: x for role, (x, _) in raw.pairs.items()}, options.scale, options.shape)
    coded, classes = labels.encode({role: y for role, (_, y) in raw.pairs.items()}, options.classes)
    check.classes(coded, classes)
    given = {role: Split(arranged.xs[role], coded[role]) for role in raw.pairs}
    splits, made = roles.complete(given, options, seed)
    check.metric_fits(chosen.name, splits, classes)
    return Task(
        name=options.name or raw.name,
        shape=tuple(splits["train"].x.shape[1:]),
        classes=classes,
        splits=splits,
        metric_name=chosen.name,
        scale=arranged.scale,
        moves=options.moves or (),
        licence=options.licence or "",
        source=options.source or "",
        notes=(*raw.notes, *arranged.notes, *made, *findings.of(splits, classes, "calib" in given)),
    )
