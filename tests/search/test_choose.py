"""The rule that chooses, and what is said when nothing reaches the floor."""

from dataclasses import replace

import numpy as np
import pytest

from paredown.core.candidate import Result
from paredown.core.goal import Goal
from paredown.core.metric import METRICS, Quality, wilson
from paredown.search.choose import SURE, choose, expected, probability, recipes
from paredown.search.explain import explain
from paredown.search.history import History, Trial


def history(rows, goal=None, n=500):
    made = History(goal or Goal(0.97), METRICS["accuracy"])
    for number, (size, value) in enumerate(rows):
        low, high = wilson(value, n)
        result = Result(
            f"{number:04x}", size, Quality("accuracy", "val", value, low, high, n), cost={"ram_bytes": size}
        )
        made.trials.append(Trial(number, 0, 1.0, {"bytes": number}, result.id, result))
    return made


def replicas(rows, values, n=500, goal=None):
    """Return a history of one-trial recipes, and one recipe with three trainings of the given values."""
    made = history([*rows, *((350, v) for v in values)], goal, n)
    for at, trial in enumerate(made.trials):
        inner = at - len(rows)
        settings = {"bytes": at} if inner < 0 else {"bytes": 999, **({"replica": inner} if inner else {})}
        made.trials[at] = Trial(trial.number, 0, 1.0, settings, trial.candidate, trial.result)
    return made


def test_the_smallest_that_is_likely_enough_wins():
    made = history([(300, 0.972), (400, 0.998), (500, 0.999), (200, 0.95)], n=2000)
    chosen = choose(made)
    assert chosen.trial.result.file_bytes == 400 and chosen.among == 3
    assert chosen.probability >= SURE and "smallest" in chosen.sense


def test_fresh_trainings_say_what_to_expect_not_the_one_that_was_found():
    """The lucky first value does not count; the two that confirm it do."""
    made = replicas([], [0.999, 0.982, 0.984])
    assert expected(made, recipes(made)[0]) == pytest.approx(0.983)


def test_a_lone_value_is_docked_for_its_rivals():
    alone, among = history([(300, 0.985)]), history([(300, 0.985)] + [(400 + i, 0.98) for i in range(39)])
    assert expected(alone, recipes(alone)[0]) == pytest.approx(0.985)
    assert expected(among, recipes(among)[0]) < 0.976


def test_a_larger_test_split_makes_surer():
    made = history([(300, 0.985)])
    few, many = replace(made, test_n=100), replace(made, test_n=100_000)
    assert probability(few, made.trials[0], 0.985) < probability(many, made.trials[0], 0.985)


def test_without_a_sure_one_the_likeliest_wins_and_there_may_be_none():
    assert choose(history([(300, 0.971), (600, 0.978)])).trial.result.file_bytes == 600
    chosen = choose(history([(300, 0.91), (600, 0.93)]))
    assert chosen.trial.result.file_bytes == 600 and "none reached" in chosen.sense
    assert choose(history([])) is None


def test_hard_limits_come_first():
    chosen = choose(history([(300, 0.94), (900, 0.999)], Goal(0.97, limits={"ram_bytes": 500})))
    assert chosen.trial.result.file_bytes == 300


def test_confidence_asks_for_more():
    rows = [(300, 0.988), (900, 0.999)]
    assert choose(history(rows, n=3000)).trial.result.file_bytes == 300
    assert choose(history(rows, Goal(0.98, confidence=0.99), n=3000)).trial.result.file_bytes == 900


def test_the_rule_keeps_its_promise():
    """Many searches over networks of known true value: of the winners called sure, at least nine in ten show the floor on test,
    where the plain rule (the smallest above the floor) fails in a third of the searches or more.
    """
    draw = np.random.default_rng(0)
    kept, sure, plain = 0, 0, 0
    for _ in range(200):
        truth = np.sort(0.955 + 0.035 * draw.random(24))
        rows = [(100 + i, draw.binomial(336, p) / 336) for i, p in enumerate(truth)]
        made = history(rows, n=336)
        made.test_n = 450
        confirmed = replicas(rows[:20], [draw.binomial(336, truth[20]) / 336 for _ in range(3)], 336)
        confirmed.test_n = 450
        for case, values in ((made, truth), (confirmed, [*truth[:20], *[truth[20]] * 3])):
            chosen = choose(case)
            if "smallest" in chosen.sense:
                sure += 1
                kept += draw.binomial(450, values[chosen.trial.number]) / 450 >= 0.97
        first = next((i for i, (_, v) in enumerate(rows) if v >= 0.97), None)
        plain += first is not None and draw.binomial(450, truth[first]) / 450 >= 0.97
    assert sure > 40 and kept / sure >= 0.9
    assert plain / 200 < 0.67


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
        made.trials.append(Trial(number, 0, 1.0, {"bytes": size}, result.id, result))
    assert choose(made).trial.result.file_bytes == 400
