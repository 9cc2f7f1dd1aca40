"""Integer programs against brute force, and the frontier of one budget (A-S4-32)."""

import itertools
import random

import pytest

from paredown.core.errors import BadInput
from paredown.graph.allocate import Moment, Peak, Products, Sum, allocate, frontier, least_cost

WIDTHS = (0, 2, 8)


def problem(seed: int) -> tuple[list[list[float]], list]:
    """Return six items of three choices: harms, and four budgets that all matter."""
    draw = random.Random(seed)
    harms = [sorted((draw.random() for _ in WIDTHS), reverse=True) for _ in range(6)]
    sizes = [draw.randint(1, 20) for _ in range(6)]
    total = Sum("bits", [[float(w * size) for w in WIDTHS] for size in sizes], 0.5 * 8 * sum(sizes))
    pairs = {(i, i + 3): [[float(w * (a + 1) * sizes[i]) for a in WIDTHS] for w in WIDTHS] for i in range(3)}
    alone = {5: [float(w) for w in WIDTHS]}
    products = Products("operations", pairs, 10 + 0.3 * 72 * sum(sizes[:3]), alone, 7.0)
    moments = (
        Moment(3, ({3: [1, 2, 8], 4: [3, 4, 9]}, {5: [1, 2, 3]})),
        Moment(0, ({5: [1, 5, 10]}, {3: [2, 3, 4]})),
    )
    return harms, [total, products, Peak("bytes of memory", moments, draw.randint(8, 20))]


def every(harms: list[list[float]]) -> itertools.product:
    return itertools.product(*(range(len(row)) for row in harms))


def total(harms: list[list[float]], chosen: tuple[int, ...]) -> float:
    return sum(row[k] for row, k in zip(harms, chosen, strict=True))


@pytest.mark.parametrize("seed", range(12))
def test_the_choice_is_that_of_brute_force_over_all_729(seed: int) -> None:
    harms, budgets = problem(seed)
    within = [c for c in every(harms) if all(b.cost(c) <= b.most for b in budgets)]
    chosen = allocate(harms, budgets)
    assert chosen in within
    assert total(harms, chosen) == pytest.approx(min(total(harms, c) for c in within), abs=2e-6)


@pytest.mark.parametrize("at", range(3))
def test_what_is_least_possible_is_that_of_brute_force_and_named(at: int) -> None:
    harms, budgets = problem(3)
    budget = type(budgets[at])(**{**vars(budgets[at]), "most": 0.5})
    least = min(budget.cost(c) for c in every(harms))
    if least <= budget.most:
        budget = type(budget)(**{**vars(budget), "most": -1.0})
    assert least_cost(harms, budget) == pytest.approx(least)
    with pytest.raises(BadInput, match=f"{budget.what} cannot be met; the least possible is {least:g}$"):
        allocate(harms, [budget])


def test_budgets_that_exclude_each_other_are_named_together() -> None:
    harms = [[1.0, 0.0]]
    one, other = Sum("bits", [[1.0, 9.0]], 5), Sum("operations", [[9.0, 1.0]], 5)
    with pytest.raises(BadInput, match="5 bits, 5 operations cannot be met together"):
        allocate(harms, [one, other])


def test_without_budgets_each_takes_its_best_and_nothing_is_nothing() -> None:
    harms, _ = problem(0)
    assert allocate(harms, []) == tuple(row.index(min(row)) for row in harms)
    assert allocate([], []) == ()


@pytest.mark.parametrize("seed", range(5))
def test_the_frontier_is_that_of_brute_force_and_of_the_program(seed: int) -> None:
    harms, (budget, *_) = problem(seed)
    points = {c: (budget.cost(c), total(harms, c)) for c in every(harms)}
    wanted = sorted(
        {p for p in points.values() if not any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points.values())}
    )
    found = frontier(harms, budget.costs)
    assert [f[0] for f in found] == [w[0] for w in wanted]
    assert [f[1] for f in found] == pytest.approx([w[1] for w in wanted])
    for cost, harm, chosen in found[:: len(found) // 6]:
        assert points[chosen] == (cost, pytest.approx(harm))
        assert total(harms, allocate(harms, [Sum("bits", budget.costs, cost)])) == pytest.approx(harm, abs=2e-6)
