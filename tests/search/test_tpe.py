from statistics import mean

from contracts.searcher import MadeSpace, SearcherContract, best, searched, told
from paredown.core.goal import Goal
from paredown.core.metric import METRICS
from paredown.search.history import History
from paredown.search.random import Random
from paredown.search.tpe import Tpe


class TestTpe(SearcherContract):
    def part(self):
        return Tpe(first=2)


def test_it_begins_with_the_spaces_own_starts():
    history = searched(Tpe(first=2), 2, 0)
    assert [t.settings for t in history.trials] == MadeSpace().starts()


def test_it_finds_smaller_ones_than_random_search():
    """Mean over ten seeds of the best of 40; the optimum is about 450."""
    tpe = mean(best(searched(Tpe(first=2), 40, seed)) for seed in range(10))
    random = mean(best(searched(Random(), 40, seed)) for seed in range(10))
    assert tpe < random


def test_hard_limits_steer_it():
    """Widths 16 and 32 break the limit; over eight seeds the later proposals keep to it more often than chance does."""

    def keeping(searcher):
        histories = [searched(searcher, 40, seed, Goal(0.9, limits={"ram_bytes": 100})) for seed in range(8)]
        return mean(t.settings["width"] <= 8 for history in histories for t in history.trials[20:])

    assert keeping(Tpe(first=2)) > keeping(Random()) + 0.05


def test_settings_outside_the_space_do_not_stop_it():
    history = History(Goal(0.97), METRICS["accuracy"])
    told(history, {"width": 5, "bytes": 99_999})
    assert Tpe(first=1).ask(MadeSpace(), history, 1, 0)
