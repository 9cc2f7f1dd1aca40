"""Task: what a model sees, what the search cannot see, and what a result's identity depends on."""

from dataclasses import replace

import numpy as np
import pytest

from paredown.core.errors import BadInput
from paredown.core.task import ROLES, Split, Task


def task(scale: float = 0.5) -> Task:
    """Return a tiny task with all four roles."""
    draw = np.random.default_rng(0)
    splits = {role: Split(draw.integers(0, 9, (4, 1, 2, 2), dtype=np.uint8), np.arange(4) % 2) for role in ROLES}
    return Task("tiny", (1, 2, 2), ("no", "yes"), splits, scale=scale)


def test_inputs_are_scaled_float32() -> None:
    some = task()
    seen = some.inputs("val")
    assert seen.dtype == np.float32 and np.array_equal(seen, some.splits["val"].x * np.float32(0.5))
    assert len(some.splits["val"]) == 4 and some.metric.name == "accuracy"


def test_test_can_be_put_out_of_reach() -> None:
    some = task()
    hidden = some.without("test")
    assert set(hidden.splits) == {"train", "calib", "val"} and "test" in some.splits
    with pytest.raises(KeyError):
        hidden.inputs("test")
    assert hidden.digest != some.digest


def test_the_digest_depends_on_what_a_result_depends_on() -> None:
    some = task()
    assert some.digest == task().digest == replace(some, name="other", notes=("a note",)).digest
    other_x = {**some.splits, "val": Split(some.splits["val"].x + 1, some.splits["val"].y)}
    other_y = {**some.splits, "val": Split(some.splits["val"].x, 1 - some.splits["val"].y)}
    changed = [task(scale=0.25), replace(some, splits=other_x), replace(some, splits=other_y)]
    changed += [replace(some, metric_name="auc"), replace(some, classes=("yes", "no"))]
    assert len({t.digest for t in (some, *changed)}) == 6


def test_the_digest_takes_an_array_of_any_stride() -> None:
    some = task()
    turned = np.asfortranarray(some.splits["val"].x)
    assert replace(some, splits={**some.splits, "val": Split(turned, some.splits["val"].y)}).digest == some.digest


def test_an_unknown_metric_is_refused_when_asked_for() -> None:
    with pytest.raises(BadInput, match="metric 'luck' is unknown"):
        _ = replace(task(), metric_name="luck").metric
