"""Proposals at random: what every searcher must beat."""

import math
import random
from dataclasses import dataclass
from typing import Any

from paredown.core.catalog import Card, part
from paredown.search.history import History
from paredown.search.space import Settings, Space


class _RandomDraw:
    """Draws settings evenly (numbers: evenly on a logarithmic scale)."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw

    def choice(self, name: str, options: Any) -> Any:
        """Return one of `options`."""
        return self.draw.choice(options)

    def number(self, name: str, low: float, high: float) -> float:
        """Return a number between `low` and `high`."""
        return math.exp(self.draw.uniform(math.log(low), math.log(high)))


@part("search.random", Card(title="Random search", paper="jmlr:v13/bergstra12a", year=2012, authors="Bergstra, Bengio",
                            source="Random Search for Hyper-Parameter Optimization"))  # fmt: skip
@dataclass(frozen=True)
class Random:
    """Draw every setting at random."""

    def ask(self, space: Space, history: History, count: int, seed: int) -> list[Settings]:
        """Return `count` settings to try next."""
        draw = random.Random(seed)
        return [space.draw(_RandomDraw(draw)) for _ in range(count)]
