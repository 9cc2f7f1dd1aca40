from contracts.searcher import MadeSpace, SearcherContract
from paredown.core.goal import Goal
from paredown.core.metric import METRICS
from paredown.search.history import History
from paredown.search.random import Random


class TestRandom(SearcherContract):
    def part(self):
        return Random()


def test_numbers_are_even_on_a_logarithmic_scale():
    asked = Random().ask(MadeSpace(), History(Goal(0.9), METRICS["accuracy"]), 2000, 0)
    below = sum(a["bytes"] < (100 * 3200) ** 0.5 for a in asked)
    assert 900 < below < 1100
