"""The set of candidates that no other beats in both cost and quality."""

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def pareto(items: Iterable[T], cost: Callable[[T], float], quality: Callable[[T], float]) -> list[T]:
    """Return the items, cheapest first, each strictly better in `quality` than every cheaper one (higher is better)."""
    front: list[T] = []
    for item in sorted(items, key=lambda i: (cost(i), -quality(i))):
        if not front or quality(item) > quality(front[-1]):
            front.append(item)
    return front
