"""What every searcher promises.

Inherit and override `part()`. The space here is a made one: its cost and quality are known functions of the settings.
"""

import dataclasses
import math

from paredown.core.candidate import Result
from paredown.core.catalog import build, describe
from paredown.core.goal import Goal
from paredown.core.metric import METRICS, Quality
from paredown.search.history import History, Trial


class MadeSpace:
    """Two settings: a width that helps when it is 16, and bytes that help more the more there are."""

    def draw(self, draw):
        return {"width": draw.choice("width", (4, 8, 16, 32)), "bytes": round(draw.number("bytes", 100, 3200))}

    def starts(self):
        return [{"width": 8, "bytes": 500}, {"width": 4, "bytes": 1000}]

    @staticmethod
    def outcome(settings):
        """Return (bytes, accuracy): it takes 400 bytes for 0.97 at width 16, and twice as many for each step away from it."""
        away = abs(math.log2(settings["width"] / 16))
        return settings["bytes"] + 50, 1 - 0.03 * (400 * 2**away / settings["bytes"]) ** 0.7


def told(history, settings):
    """Add a finished trial to a history."""
    size, value = MadeSpace.outcome(settings)
    number = len(history.trials)
    val = Quality("accuracy", "val", value, value - 0.01, value + 0.01, 1000)
    result = Result(f"{number:04x}", size, val, cost={"ram_bytes": settings["width"] * 10})
    history.trials.append(Trial(number, 0, 1.0, settings, result.id, result))


def searched(searcher, count, seed, goal=None):
    """Return the history of a search over the made space."""
    history = History(goal or Goal(0.97), METRICS["accuracy"])
    for number in range(count):
        told(history, searcher.ask(MadeSpace(), history, 1, seed * 1000 + number)[0])
    return history


def best(history):
    """Return the smallest size that reaches the floor and keeps the limits."""
    good = [history.amount(t) for t in history.trials if history.quality(t) >= history.floor() and history.fits(t)]
    return min(good, default=math.inf)


class SearcherContract:
    """Inherit this."""

    def part(self):
        """Return the searcher under test."""
        raise NotImplementedError

    def test_it_survives_json(self):
        assert build(describe(self.part())) == self.part()

    def test_it_is_frozen(self):
        assert dataclasses.is_dataclass(self.part()) and type(self.part()).__dataclass_params__.frozen

    def test_it_asks_for_as_many_as_wanted_and_within_the_space(self):
        history = searched(self.part(), 5, 0)
        for count in (1, 3, 7):
            asked = self.part().ask(MadeSpace(), history, count, 9)
            assert len(asked) == count
            assert all(a["width"] in (4, 8, 16, 32) and 100 <= a["bytes"] <= 3200 for a in asked)

    def test_the_same_history_and_seed_give_the_same_proposals(self):
        one, two = searched(self.part(), 12, 3), searched(self.part(), 12, 3)
        assert [t.settings for t in one.trials] == [t.settings for t in two.trials]

    def test_it_leaves_the_history_alone(self):
        history = searched(self.part(), 6, 0)
        before = list(history.trials)
        self.part().ask(MadeSpace(), history, 2, 1)
        assert history.trials == before
