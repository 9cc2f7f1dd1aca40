"""One choice for each item: the least harm within budgets, by integer programming, and the whole frontier of one budget."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from paredown.core.errors import BadInput

Table = Sequence[Sequence[float]]
"""One row for each item (or choice), one column for each choice."""

Total = tuple[Mapping[int, float], float]
"""A sum over a model's variables (variable: coefficient), and what is added to it."""

SLACK = 1e-7
"""What the solver may be off by, relative to a budget; it is taken off where a solution is found to be over."""


MANY = 1000
"""Items from which on a solution within 1e-4 of the best will do, not 1e-6: seconds for 20,000."""


class Budget(Protocol):
    """A limit on what choices cost together."""

    @property
    def what(self) -> str:
        """The unit, in words."""

    @property
    def most(self) -> float:
        """The limit."""

    def cost(self, chosen: Sequence[int]) -> float:
        """Return what the choices cost."""

    def totals(self, model: "Model") -> list["Total"]:
        """Return (terms, fixed) of all the sums that may be `most` at most; the rows they need are added to the model."""


@dataclass(frozen=True)
class Sum:
    """Σ costs[item][choice] ≤ most: stored bytes. Items after the last row cost nothing."""

    what: str
    costs: Table
    most: float

    def cost(self, chosen: Sequence[int]) -> float:
        """Return the sum of the chosen costs."""
        return sum(row[k] for row, k in zip(self.costs, chosen, strict=False))

    def totals(self, model: "Model") -> list["Total"]:
        """Return the one sum."""
        return [({model.choice(i, k): cost for i, row in enumerate(self.costs) for k, cost in enumerate(row)}, 0.0)]


@dataclass(frozen=True)
class Products:
    """fixed + Σ alone[i][choice of i] + Σ pairs[i, j][choice of i][choice of j] ≤ most.

    Bit operations: weight width times activation width, where both are chosen; `alone` where one of them is.
    """

    what: str
    pairs: Mapping[tuple[int, int], Table]
    most: float
    alone: Mapping[int, Sequence[float]] = field(default_factory=dict)
    fixed: float = 0.0

    def cost(self, chosen: Sequence[int]) -> float:
        """Return the sum."""
        both = sum(table[chosen[i]][chosen[j]] for (i, j), table in self.pairs.items())
        return self.fixed + both + sum(row[chosen[i]] for i, row in self.alone.items())

    def totals(self, model: "Model") -> list["Total"]:
        """Return the one sum, over a variable for each pair of choices that is 1 where both are chosen."""
        terms = {model.choice(i, k): cost for i, row in self.alone.items() for k, cost in enumerate(row)}
        for (i, j), table in self.pairs.items():
            both = [[model.variable() for _ in row] for row in table]
            for k, row in enumerate(both):
                model.add({model.choice(i, k): -1, **dict.fromkeys(row, 1)}, low=0, high=0)
            for m in range(len(table[0])):
                model.add({model.choice(j, m): -1, **{row[m]: 1 for row in both}}, low=0, high=0)
            terms |= {both[k][m]: cost for k, row in enumerate(table) for m, cost in enumerate(row)}
        return [(terms, self.fixed)]


@dataclass(frozen=True)
class Moment:
    """Memory at one time: fixed, and buffers as large as the largest of what their items' choices ask for."""

    fixed: float
    buffers: tuple[Mapping[int, Sequence[float]], ...] = ()

    def cost(self, chosen: Sequence[int]) -> float:
        """Return the sum of the buffers."""
        return self.fixed + sum(max(row[chosen[i]] for i, row in buffer.items()) for buffer in self.buffers)


@dataclass(frozen=True)
class Peak:
    """The largest of the moments ≤ most: peak memory."""

    what: str
    moments: tuple[Moment, ...]
    most: float

    def cost(self, chosen: Sequence[int]) -> float:
        """Return the largest moment."""
        return max((moment.cost(chosen) for moment in self.moments), default=0.0)

    def totals(self, model: "Model") -> list["Total"]:
        """Return a sum for each moment, over a variable for each buffer that is at least what each of its items asks for."""
        found: list[Total] = []
        for moment in self.moments:
            buffers = [model.variable(most=np.inf) for _ in moment.buffers]
            for at, buffer in zip(buffers, moment.buffers, strict=True):
                for i, row in buffer.items():
                    model.add({at: -1, **{model.choice(i, k): size for k, size in enumerate(row)}}, high=0)
            found.append((dict.fromkeys(buffers, 1.0), moment.fixed))
        return found


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep what C code writes from standard output: HiGHS says on it, unasked, that it mends a solution."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


class Model:
    """A mixed integer program in the making: one 0-or-1 variable for each choice, of which each item takes one."""

    def __init__(self, harms: Table) -> None:
        self.starts = np.cumsum([0, *map(len, harms)])
        flat = np.array([h for row in harms for h in row], dtype=float)
        self.objective = list(flat / (np.abs(flat).max() or 1.0))
        self.most = [1.0] * len(flat)
        self.whole = [1] * len(flat)
        self.terms: list[dict[int, float]] = []
        self.ends: list[tuple[float, float]] = []
        for i, row in enumerate(harms):
            self.add({self.choice(i, k): 1 for k in range(len(row))}, low=1, high=1)

    def choice(self, item: int, at: int) -> int:
        """Return the variable of an item's choice."""
        return int(self.starts[item]) + at

    def variable(self, most: float = 1.0) -> int:
        """Return a new real variable from 0 to `most`."""
        self.objective.append(0.0)
        self.most.append(most)
        self.whole.append(0)
        return len(self.objective) - 1

    def add(self, terms: Mapping[int, float], low: float = -np.inf, high: float = np.inf) -> None:
        """Add low ≤ Σ terms ≤ high, scaled so that the largest coefficient is 1."""
        size = max((abs(v) for v in terms.values()), default=0) or 1.0
        self.terms.append({at: v / size for at, v in terms.items()})
        self.ends.append((low / size, high / size))

    def solved(self) -> list[float] | None:
        """Return the best values of all variables, or None where there are none."""
        rows = [r for r, terms in enumerate(self.terms) for _ in terms]
        columns = [at for terms in self.terms for at in terms]
        values = [v for terms in self.terms for v in terms.values()]
        matrix = csr_array((values, (rows, columns)), shape=(len(self.terms), len(self.objective)))
        near = 1e-6 if len(self.starts) <= MANY else 1e-4
        with _silent():
            found = milp(
                self.objective, integrality=self.whole, bounds=Bounds(0, self.most), options={"mip_rel_gap": near},
                constraints=LinearConstraint(matrix, *np.array(self.ends).T),
            )  # fmt: skip
        return None if found.x is None else list(found.x)

    def chosen(self, values: Sequence[float]) -> tuple[int, ...]:
        """Return the choice of each item in a solution."""
        return tuple(int(np.argmax(values[a:b])) for a, b in zip(self.starts, self.starts[1:], strict=False))


def allocate(harms: Table, budgets: Sequence[Budget]) -> tuple[int, ...]:
    """Return the choice of each item (its column) with the least Σ harm within all budgets: by HiGHS, to 1e-6 (1e-4 from MANY items on).

    A multiple-choice knapsack, as HAWQ-V3 poses it (Yao et al. 2021, arxiv:2011.10680, equation 11), with several budgets
    at once. Raises BadInput where they cannot be met, and names what is least possible.
    """
    if not harms:
        return ()
    tight = dict.fromkeys(range(len(budgets)), 0.0)
    for _ in range(5):
        model = Model(harms)
        for at, budget in enumerate(budgets):
            for terms, fixed in budget.totals(model):
                model.add(terms, high=budget.most - tight[at] * abs(budget.most) - fixed)
        values = model.solved()
        if values is None:
            break
        chosen = model.chosen(values)
        over = [at for at, budget in enumerate(budgets) if budget.cost(chosen) > budget.most]
        if not over:
            return chosen
        for at in over:
            tight[at] = max(SLACK, 10 * tight[at])
    raise BadInput(_impossible(harms, budgets))


def _impossible(harms: Table, budgets: Sequence[Budget]) -> str:
    for budget in budgets:
        least = least_cost(harms, budget)
        if least > budget.most:
            return f"a budget of {budget.most:g} {budget.what} cannot be met; the least possible is {least:g}"
    wanted = ", ".join(f"{budget.most:g} {budget.what}" for budget in budgets)
    return f"the budgets {wanted} cannot be met together, though each can alone; raise one of them"


def least_cost(harms: Table, budget: Budget) -> float:
    """Return the least that any choices cost; `harms` says only how many choices each item has."""
    model = Model([[0.0] * len(row) for row in harms])
    top = model.variable(most=np.inf)
    size = abs(budget.most) or 1.0
    model.objective[top] = 1.0
    for terms, fixed in budget.totals(model):
        model.add({**terms, top: -size}, high=-fixed)
    return budget.cost(model.chosen(model.solved() or []))


def frontier(harms: Table, costs: Table) -> list[tuple[float, float, tuple[int, ...]]]:
    """Return every (cost, Σ harm, choices) that no other choices beat in both, by rising cost: dynamic programming.

    Exact: a partial choice that is beaten in both can be in no best one (ZeroQ, Cai et al. 2020, section 3.3).
    """
    best: list[tuple[float, float, tuple[int, ...]]] = [(0, 0.0, ())]
    for harm, cost in zip(harms, costs, strict=True):
        grown = sorted((c + cost[k], h + harm[k], (*chosen, k)) for c, h, chosen in best for k in range(len(harm)))
        best = []
        for candidate in grown:
            if not best or candidate[1] < best[-1][1]:
                best.append(candidate)
    return best
