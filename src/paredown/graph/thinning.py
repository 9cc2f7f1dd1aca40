"""How many units go from each channel group: in which order, the network that is left, its cost, and budgets on it."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.graph.flow import Flow
from paredown.graph.groups import Group, groups
from paredown.graph.importance import importances
from paredown.graph.net import Net
from paredown.graph.resize import Kept, resized
from paredown.graph.shrink import Chosen, remove_channels, sliced
from paredown.graph.trace import trace

Gone = Sequence[int]
"""How many units of each group go, in the order of the groups."""
Price = Callable[[Gone], float]
"""What a network costs from which that many units have gone."""

PROBES = 3
CLOSE = 1e-9
"""How many networks a closed form of the cost is held to, and how near it must come, relatively."""


def order_of(group: Group, scores: Tensor) -> tuple[int, ...]:
    """Return the units that may go, in the order in which they do: the lowest score first, of equal ones the first unit.

    A unit without which a value would have no channels is passed over for good, and a score that is not finite never goes;
    so the first k are what `Group.lowest` takes of the others.
    """
    order: list[int] = []
    gone: set[int] = set()
    values = np.asarray([float(s) for s in scores])
    for unit in np.argsort(values, kind="stable").tolist():
        if np.isfinite(values[unit]) and not any(need <= gone | {unit} for need in group.needed):
            gone.add(unit)
            order.append(unit)
    return tuple(order)


@dataclass(frozen=True, eq=False)
class Thinning:
    """A network whose groups lose their first units in a fixed order: what `gone`, a count for each group, says.

    orders: for each group the units that may go, the first to go first. The slots of `net` stay as they are.
    """

    net: Net
    groups: tuple[Group, ...]
    orders: tuple[tuple[int, ...], ...]
    flow: Flow = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "flow", trace(self.net))

    @property
    def most(self) -> list[int]:
        """How many units of each group may go."""
        return [len(order) for order in self.orders]

    def share(self, ratio: float) -> list[int]:
        """Return the counts that take a share of every group: ⌊ratio · units⌋, as far as they may go."""
        return [min(int(ratio * len(g) + 1e-9), len(o)) for g, o in zip(self.groups, self.orders, strict=True)]

    def alone(self, at: int, count: int) -> list[int]:
        """Return the counts that take `count` units of one group and nothing else, as far as they may go."""
        return [min(count, len(order)) if n == at else 0 for n, order in enumerate(self.orders)]

    def chosen(self, gone: Gone) -> Chosen:
        """Return which units go. Raises BadInput for more than may."""
        if any(not 0 <= count <= most for count, most in zip(gone, self.most, strict=True)):
            raise BadInput(f"units to go {list(gone)} are not allowed; at most {self.most}")
        return {g: order[:n] for g, order, n in zip(self.groups, self.orders, gone, strict=True) if n}

    def sketch(self, gone: Gone) -> Net:
        """Return the thin network, not compared with the masked one; it shares with `net` the slots that stay whole."""
        cuts = [cut for group, units in self.chosen(gone).items() for unit in units for cut in group.units[unit]]
        labels = self.flow.labels
        leaving = {labels.find(int(self.flow.axis((cut.slot, cut.dim))[i])) for cut in cuts for i in cut.indices}
        kept, slots = Kept(self.flow, leaving), {name: self.net.slot(name) for name in self.net.slot_names()}
        for (slot, dim), own in self.flow.axes.items():
            mask = kept.mask(own)
            if not mask.all():
                slots[slot] = sliced(slots[slot], dim, torch.from_numpy(mask.nonzero()[0]))
        return Net(resized(self.flow, leaving), slots).eval()

    def removed(self, gone: Gone, skip: Callable[[str, str], None]) -> tuple[Net, Chosen]:
        """Return a thin copy, compared with the masked network, and what went from it.

        Groups that cannot be vouched for are told to `skip` and stay whole.
        """
        chosen = self.chosen(gone)
        out, left = remove_channels(self.net, chosen)
        for name, why in left.items():
            skip(name, why)
        return out, {group: units for group, units in chosen.items() if group.name not in left}

    def made(self, gone: Gone, skip: Callable[[str, str], None]) -> Net:
        """Return the network of `removed`."""
        return self.removed(gone, skip)[0]


def thinning_of(net: Net, score: Any, work: Work, only: Iterable[str] | None = None) -> Thinning:
    """Return the thinning of a network by a score part, lowest first; `work.skip` is told of every layer that must stay.

    only: names of the groups to take, known to be sound; else all are taken of which half can be removed (where that cannot
    be vouched for, the group is told to `work.skip` and left out).
    """
    found = groups(net)
    able = [g for g in found if len(g)]
    if only is None:
        for layer, why in ((layer, why) for group in found for layer, why in group.frozen.items()):
            work.skip(layer, why)
        able = _sound(net, able, work)
    else:
        names = set(only)
        able = [g for g in able if g.name in names]
    scores = importances(score, net, able, work)
    return Thinning(net, tuple(able), tuple(order_of(g, s) for g, s in zip(able, scores, strict=True)))


def _sound(net: Net, able: Sequence[Group], work: Work) -> list[Group]:
    orders = [order_of(group, torch.zeros(len(group))) for group in able]
    half = {group: order[: max(1, len(group) // 2)] for group, order in zip(able, orders, strict=True)}
    left = remove_channels(net, half)[1] if half else {}
    for name, why in left.items():
        work.skip(name, why)
    return [group for group in able if group.name not in left]


def stayed(thinning: Thinning, gone: Gone, skip: Callable[[str, str], None], why: str) -> None:
    """Say to `skip`, for the weights that make each group from which nothing goes, why."""
    for group, count in zip(thinning.groups, gone, strict=True):
        for slot in dict.fromkeys(slot for slot, _ in group.makers) if not count else ():
            skip(slot, why)


def price_of(thinning: Thinning, cost: Callable[[Net], float]) -> Price:
    """Return what the thin networks cost, for many of them: by a closed form where it holds, else by building each once.

    Parameters and MACs are quadratic in the counts: a layer is cut along its inputs and its outputs. The form is fitted to
    networks with one or two units of a group and one of each of two that cut the same tensor, then held to PROBES others.
    """
    seen: dict[tuple[int, ...], float] = {}

    def build(gone: Gone) -> float:
        key = tuple(int(count) for count in gone)
        if key not in seen:
            seen[key] = float(cost(thinning.sketch(key)))
        return seen[key]

    form = _form(thinning, build)
    draw = random.Random(0)
    tried = [thinning.most, *([draw.randint(0, most) for most in thinning.most] for _ in range(PROBES - 1))]
    holds = all(abs(form(gone) - build(gone)) <= CLOSE * abs(build([0] * len(gone))) for gone in tried)
    return form if holds else build


def _form(thinning: Thinning, build: Price) -> Price:
    """Return the quadratic form through the networks from which little goes."""
    most, count = thinning.most, len(thinning.most)
    whole = build([0] * count)
    slope, bend = np.zeros(count), np.zeros((count, count))
    for at in range(count):
        one, two = (build(thinning.alone(at, k)) - whole for k in (1, 2))
        bend[at, at] = (two - 2 * one) / 2 if most[at] > 1 else 0.0
        slope[at] = one - bend[at, at] if most[at] else 0.0
    for a, b in _meeting(thinning):
        gone = [max(x, y) for x, y in zip(thinning.alone(a, 1), thinning.alone(b, 1), strict=True)]
        bend[a, b] = build(gone) - whole - sum(slope[at] + bend[at, at] for at in (a, b) if most[at])

    def form(gone: Gone) -> float:
        x = np.asarray(gone, dtype=np.float64)
        return float(whole + slope @ x + x @ bend @ x)

    return form


def _meeting(thinning: Thinning) -> list[tuple[int, int]]:
    """Return the pairs of groups that cut the same stored tensor."""
    slots = [{cut.slot for unit in group.units for cut in unit} for group in thinning.groups]
    return [(a, b) for b in range(len(slots)) for a in range(b) if slots[a] & slots[b]]


def fewest(thinning: Thinning, price: Price, gone: Gone, at: int, budget: float) -> int | None:
    """Return the fewest units of group `at`, no fewer than gone[at], with which the budget holds, the others as they are.

    None: not even with all that may go. The price must not rise when a unit goes.
    """

    def cost(count: int) -> float:
        return price([count if n == at else own for n, own in enumerate(gone)])

    low, high = int(gone[at]), thinning.most[at]
    if cost(high) > budget:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if cost(middle) <= budget else (middle + 1, high)
    return high


def reachable(thinning: Thinning, price: Price, budget: float, what: str) -> None:
    """Raise BadInput if a budget does not hold even when all goes that may, or where nothing may go at all."""
    if not any(thinning.most):
        raise BadInput(f"no channel of this network can go, so none of its {what}; `paredown analyze` says what could")
    if (least := price(thinning.most)) > budget:
        raise BadInput(f"a budget of {budget:g} {what} cannot be met; the least possible is {least:g}")


def within(
    thinning: Thinning, price: Price, gone: Gone, budget: float, order: Sequence[int] | None = None
) -> list[int]:
    """Return counts no lower than `gone` with which the budget holds: He et al. 2018 (AMC), algorithm 1.

    One group after another, in `order`: each loses as few more units as the budget allows if all later ones lost all they
    may. Counts that hold already are returned as they are. The budget must be `reachable`.
    """
    if price(gone) <= budget:
        return [int(count) for count in gone]
    found = thinning.most
    for at in order or range(len(found)):
        found[at] = int(gone[at])
        needed = fewest(thinning, price, found, at, budget)
        found[at] = thinning.most[at] if needed is None else needed
    return found


def filled(thinning: Thinning, price: Price, gone: Gone, budget: float) -> list[int]:
    """Return counts no higher than `gone`: units come back one by one while the budget holds.

    The first to get one back is the group of which the largest share went.
    """
    found = [int(count) for count in gone]
    sizes = [len(group) for group in thinning.groups]
    while True:
        for at in sorted(range(len(found)), key=lambda n: -found[n] / max(1, sizes[n])):
            back = [count - (n == at) for n, count in enumerate(found)]
            if found[at] and price(back) <= budget:
                found = back
                break
        else:
            return found


def uniform(thinning: Thinning, price: Price, budget: float) -> list[int]:
    """Return the counts of the smallest share of every group that holds a budget, and what then still fits put back.

    Shares that take one unit more of one group are tried in order. The budget must be `reachable`.
    """
    shares = sorted({k / len(g) for g in thinning.groups for k in range(len(g) + 1)})
    low, high = 0, len(shares) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if price(thinning.share(shares[middle])) <= budget else (middle + 1, high)
    gone = thinning.share(shares[high])
    return filled(thinning, price, gone if price(gone) <= budget else thinning.most, budget)
