"""The rule that chooses, and what is said when nothing reaches the floor."""

import numpy as np
import pytest

from paredown.core.candidate import Result
from paredown.core.goal import Goal
from paredown.core.metric import METRICS, Quality, wilson
from paredown.search.choose import RISK, choose, explain
from paredown.search.history import History, Trial


def history(rows, goal=None, n=500):
    made = History(goal or Goal(0.97), METRICS["accuracy"])
    for number, (size, value) in enumerate(rows):
        low, high = wilson(value, n)
        result = Result(f"{number:04x}", size, Quality("accuracy", "val", value, low, high, n), cost={"ram_bytes": size})
        made.trials.append(Trial(number, 0, 1.0, {}, result.id, result))
    return made


def test_the_smallest_that_clears_the_corrected_bound_wins():
    chosen = choose(history([(300, 0.972), (400, 0.996), (500, 0.998), (200, 0.95)]))
    assert chosen.trial.result.file_bytes == 400
    assert chosen.among == 3
    assert chosen.bound == pytest.approx(wilson(0.996, 500, 1 - 2 * RISK / 3)[0])


def test_more_rivals_ask_for_more():
    """0.986 of 500 passes alone, not among forty that are above the floor."""
    rows = [(300, 0.986)]
    assert "lower bound on validation is at" in choose(history(rows)).sense
    many = choose(history(rows + [(400 + i, 0.975) for i in range(39)]))
    assert "lower bound is not" in many.sense


def test_without_a_sure_one_the_best_bound_wins_and_without_any_the_best():
    assert choose(history([(300, 0.971), (600, 0.978)])).trial.result.file_bytes == 600
    chosen = choose(history([(300, 0.91), (600, 0.93)]))
    assert chosen.trial.result.file_bytes == 600 and "nothing reached" in chosen.sense
    assert choose(history([])) is None


def test_hard_limits_come_first():
    chosen = choose(history([(300, 0.94), (900, 0.999)], Goal(0.97, limits={"ram_bytes": 500})))
    assert chosen.trial.result.file_bytes == 300


def test_confidence_raises_the_level():
    rows = [(300, 0.984), (900, 0.999)]
    assert choose(history(rows)).trial.result.file_bytes == 300
    assert choose(history(rows, Goal(0.97, confidence=0.99))).trial.result.file_bytes == 900


def test_the_allowance_does_what_it_is_for():
    """Forty networks of true value just below the floor: the rule takes one as sure in few searches, the plain rule in most."""
    draw = np.random.default_rng(0)
    sure = plain = 0
    for _ in range(300):
        rows = [(100 + i, draw.binomial(336, 0.965) / 336) for i in range(40)]
        plain += any(value >= 0.97 for _, value in rows)
        sure += "lower bound on validation is at" in choose(history(rows, n=336)).sense
    assert plain > 290
    assert sure / 300 <= 1.5 * RISK


@pytest.mark.parametrize(
    ("rows", "baseline", "word"),
    [
        ([(300, 0.91), (600, 0.95)], 0.99, "a step"),
        ([(300, 0.91), (600, 0.95)], 0.95, "capacity"),
        ([(300, 0.95), (600, 0.95)], 0.95, "data"),
        ([(300, 0.98), (600, 0.99)], 0.99, "test split says less"),
        ([], None, "no trial"),
    ],
)
def test_why_names_what_is_limiting(rows, baseline, word):
    assert word in explain(history(rows), baseline)


def test_why_names_a_limit_that_nothing_keeps():
    assert explain(history([(900, 0.999)], Goal(0.97, limits={"ram_bytes": 500})), None).startswith("limit")


def test_metrics_where_less_is_better():
    made = History(Goal(0.3), METRICS["log_loss"])
    for number, (size, value) in enumerate([(300, 0.29), (400, 0.1), (200, 0.5)]):
        result = Result(f"{number:04x}", size, Quality("log_loss", "val", value, value - 0.05, value + 0.05, 500))
        made.trials.append(Trial(number, 0, 1.0, {}, result.id, result))
    assert choose(made).trial.result.file_bytes == 400
