"""Proposals that go on from what was found."""

from test_choose import history

from paredown.search.history import Trial
from paredown.search.refine import gain, needed, promotable, replicated, resized


def with_settings(made, settings, rungs=None):
    made.trials[:] = [
        Trial(t.number, (rungs or [0] * len(made.trials))[t.number], 1.0, settings[t.number], t.candidate, t.result)
        for t in made.trials
    ]
    return made


def sizes(*values):
    return [{"bytes": v} for v in values]


def test_a_passing_size_is_tried_smaller_and_a_failing_one_larger():
    passing = with_settings(history([(500, 0.999)]), sizes(480))
    assert resized(passing) == (0, {"bytes": round(480 * 0.8)})
    failing = with_settings(history([(500, 0.95)]), sizes(480))
    assert resized(failing) == (0, {"bytes": round(480 * 1.6)})


def test_a_size_is_aimed_at_where_the_error_should_be_what_a_winner_needs():
    made = with_settings(history([(1000, 0.975)], n=20_000), sizes(1000))
    lacking = (1 - 0.975) / (1 - needed(made))
    assert 1 - 0.97 > 1 - needed(made) > 0 and 0.8 < lacking ** (1 / 0.8) < 1.6
    assert resized(made) == (0, {"bytes": round(1000 * lacking ** (1 / 0.8))})


def test_of_several_the_one_that_should_pass_with_the_fewest_bytes_is_resized():
    """The smaller one lacks little; the larger passes, and is far from what the smaller should need."""
    made = with_settings(history([(400, 0.968), (5000, 0.999)], n=20_000), sizes(400, 5000))
    rung, settings = resized(made)
    assert rung == 0 and 400 < settings["bytes"] < 600


def test_an_aim_that_did_not_hold_the_size_is_not_lowered_from():
    """The network took 300 bytes where 900 were allowed: less than 300 is what would change it."""
    made = with_settings(history([(300, 0.999)]), sizes(900))
    assert resized(made) == (0, {"bytes": round(300 * 0.8)})


def test_nothing_is_resized_above_what_passes():
    settings = [{"bytes": 300}, {"bytes": 300, "replica": 1}, {"bytes": 300, "replica": 2}, {"bytes": 200}]
    made = with_settings(history([(300, 0.999)] * 3 + [(200, 0.5)], n=20_000), settings)
    assert resized(made) == (0, {"bytes": 240})
    assert promotable(made, 1, 1) is None  # the passing one is no smaller than itself, and the small one is hopeless


def test_a_promising_recipe_is_trained_again_with_other_seeds_until_it_is_confirmed():
    made = with_settings(history([(500, 0.999), (300, 0.95)], n=2000), sizes(480, 280))
    assert replicated(made) == (0, {"bytes": 480, "replica": 1})
    twice = with_settings(history([(500, 0.999), (500, 0.998)], n=2000), [{"bytes": 480}, {"bytes": 480, "replica": 1}])
    assert replicated(twice) == (0, {"bytes": 480, "replica": 2})
    thrice = with_settings(
        history([(500, 0.999)] * 3, n=2000),
        [{"bytes": 480}, {"bytes": 480, "replica": 1}, {"bytes": 480, "replica": 2}],
    )
    assert replicated(thrice) is None


def test_larger_ones_than_a_confirmed_one_are_not_confirmed():
    rows = [(500, 0.999)] * 3 + [(700, 0.999), (300, 0.999)]
    settings = [
        {"bytes": 480},
        {"bytes": 480, "replica": 1},
        {"bytes": 480, "replica": 2},
        {"bytes": 680},
        {"bytes": 280},
    ]
    assert replicated(with_settings(history(rows, n=2000), settings)) == (0, {"bytes": 280, "replica": 1})


def test_what_a_winner_needs_lies_above_the_floor():
    small, large = history([(500, 0.98)], n=300), history([(500, 0.98)], n=30_000)
    assert 0.97 < needed(large) < needed(small) < 1


def test_what_was_tried_is_not_tried_again():
    made = with_settings(history([(500, 0.999), (440, 0.9)]), sizes(480, round(480 * 0.8)))
    assert resized(made) == (0, {"bytes": round(480 * 0.8 * 1.06)})
    other_rung = with_settings(history([(500, 0.999), (440, 0.9)]), sizes(480, round(480 * 0.8)), [1, 0])
    assert resized(other_rung) == (1, {"bytes": round(480 * 0.8)})


def test_the_smallest_promising_one_is_trained_longer_first():
    made = with_settings(history([(300, 0.90), (400, 0.985), (500, 0.99)]), sizes(1, 2, 3))
    assert promotable(made, 1, 1) == (1, {"bytes": 2})
    taken = with_settings(
        history([(300, 0.90), (400, 0.985), (500, 0.99), (400, 0.985)]), sizes(1, 2, 3, 2), [0, 0, 0, 1]
    )
    assert promotable(taken, 1, 1) == (1, {"bytes": 3})
    assert promotable(history([]), 1, 1) is None


def test_the_gain_of_training_is_learned_from_the_run():
    rows = [(300, 0.90), (400, 0.92), (300, 0.95), (400, 0.96)]
    made = with_settings(history(rows), sizes(1, 2, 1, 2), [0, 0, 1, 1])
    assert abs(gain(made) - 0.5) < 1e-9


def test_where_longer_training_brings_nothing_the_hopeless_are_not_trained_longer():
    rows = [(300, 0.90), (400, 0.92), (300, 0.90), (400, 0.92), (500, 0.93)]
    made = with_settings(history(rows, n=20_000), sizes(1, 2, 1, 2, 3), [0, 0, 1, 1, 0])
    assert gain(made) == 1 and promotable(made, 1, 1) is None
    better = with_settings(
        history([*rows[:2], (300, 0.95), (400, 0.96), rows[4]], n=20_000), sizes(1, 2, 1, 2, 3), [0, 0, 1, 1, 0]
    )
    assert promotable(better, 1, 1) == (1, {"bytes": 3})
