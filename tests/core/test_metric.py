"""Metrics against closed forms, and intervals against published values and coverage."""

import math

import numpy as np
import pytest

from paredown.core.errors import BadInput
from paredown.core.metric import METRICS, Quality, auc, metric_named, quality, wilson

LABELS = np.array([0, 0, 1, 1, 2, 2])
RIGHT = np.eye(3)[LABELS] * 5


def test_perfect_scores() -> None:
    got = {name: quality(METRICS[name], "val", RIGHT, LABELS) for name in METRICS}
    assert got["accuracy"].value == got["macro_f1"].value == got["auc"].value == 1.0
    assert got["log_loss"].value == pytest.approx(math.log(1 + 2 * math.exp(-5)))
    assert all(q.n == 6 and q.split == "val" and q.low <= q.value <= q.high for q in got.values())


def test_closed_forms() -> None:
    scores = RIGHT.copy()
    scores[1] = [0, 5, 0]  # one sample of class 0 called 1
    assert METRICS["accuracy"].function(scores, LABELS) == pytest.approx(5 / 6)
    # F1: class 0: 2·1·.5/1.5, class 1: 2·(2/3)/(5/3), class 2: 1
    assert METRICS["macro_f1"].function(scores, LABELS) == pytest.approx((2 / 3 + 4 / 5 + 1) / 3)
    assert METRICS["log_loss"].function(np.zeros((6, 3)), LABELS) == pytest.approx(math.log(3))


def test_auc_is_the_share_of_pairs_in_order() -> None:
    draw = np.random.default_rng(0)
    scores, labels = draw.normal(size=(40, 2)), np.arange(40) % 2
    margin = scores[:, 1] - scores[:, 0]
    pairs = [a > b for a in margin[labels == 1] for b in margin[labels == 0]]
    assert auc(scores, labels) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_against_newcombe(k: int, n: int, low: float, high: float) -> None:
    assert wilson(k / n, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_wilson_at_the_ends_and_wider_with_confidence() -> None:
    assert wilson(1.0, 450)[1] == pytest.approx(1.0) and wilson(0.0, 450)[0] == pytest.approx(0.0)
    assert wilson(0.97, 450, 0.99)[0] < wilson(0.97, 450, 0.95)[0] < wilson(0.97, 4500, 0.95)[0] < 0.97


@pytest.mark.parametrize("name", ["macro_f1", "log_loss", "auc"])
def test_bootstrap_repeats_and_holds_the_value(name: str) -> None:
    draw = np.random.default_rng(1)
    labels = np.arange(90) % 3
    scores = np.eye(3)[labels] + draw.normal(size=(90, 3))
    first, second = (quality(METRICS[name], "val", scores, labels) for _ in range(2))
    assert first == second and first.low < first.value < first.high


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "log_loss"])
def test_broken_scores_count_as_wrong(broken: float, name: str) -> None:
    scores = np.full((6, 3), broken)
    worst = quality(METRICS[name], "val", scores, LABELS).value
    assert worst == 0.0 if METRICS[name].higher_is_better else worst > 30
    assert np.isnan(scores).all() or np.isinf(scores).all()  # the caller's array is left alone


def test_one_broken_sample_costs_one_sample_and_minus_infinity_is_a_score() -> None:
    scores = RIGHT.copy()
    scores[0, 2] = np.nan
    assert quality(METRICS["accuracy"], "val", scores, LABELS).value == pytest.approx(5 / 6)
    scores = np.where(RIGHT > 0, 0.0, -np.inf)
    assert quality(METRICS["accuracy"], "val", scores, LABELS).value == 1.0


def test_a_floor_is_reached_in_the_metrics_direction() -> None:
    accuracy, loss = METRICS["accuracy"], METRICS["log_loss"]
    assert accuracy.reached(0.97, 0.97) and not accuracy.reached(0.969, 0.97)
    assert loss.reached(0.1, 0.2) and not loss.reached(0.3, 0.2)
    assert accuracy.check_floor(1) == 1.0 and loss.check_floor(3.5) == 3.5


@pytest.mark.parametrize(
    ("floor", "said"),
    [
        (97, "floor 97 is outside 0 to 1 for accuracy; did you mean 0.97?"),
        (-0.1, "floor -0.1 is outside 0 to 1"),
        (float("nan"), "floor nan is not a number"),
        ("0.97", "floor '0.97' is not a number"),
        (True, "floor True is not a number"),
        (None, "floor None is not a number"),
    ],
)
def test_a_floor_that_cannot_be(floor: object, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        METRICS["accuracy"].check_floor(floor)  # type: ignore[arg-type]
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_metric_lists_those_there_are() -> None:
    with pytest.raises(BadInput, match="metric 'f1' is unknown; allowed: accuracy, macro_f1, auc, log_loss"):
        metric_named("f1")


def test_a_quality_survives_json() -> None:
    before = quality(METRICS["accuracy"], "test", RIGHT, LABELS)
    assert Quality.of_json({**before.to_json(), "added_later": 1}) == before
