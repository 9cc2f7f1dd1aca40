"""How many units go: nested orders, costs without building, and budgets that hold."""

import math
import random

import pytest
import torch
from torch import Tensor, nn

from contracts.nets import small_conv, small_mlp
from contracts.step import macs, params, same
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.cost.count import count
from paredown.cost.priced import priced
from paredown.graph.capture import capture
from paredown.graph.groups import Group, groups
from paredown.graph.net import Net
from paredown.graph.thinning import (
    Thinning,
    fewest,
    filled,
    order_of,
    price_of,
    reachable,
    thinning_of,
    uniform,
    within,
)
from paredown.methods.score.l1 import L1


class Joined(nn.Module):
    """A residual connection, a concatenation, a split, a depthwise convolution and a flattened head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.same = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.side, self.deep = nn.Conv2d(8, 6, 1), nn.Conv2d(14, 14, 3, padding=1, groups=14)
        self.mix, self.fc = nn.Conv2d(14, 12, 1), nn.Linear(6 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.same(x))
        x = self.mix(self.deep(torch.cat([x, self.side(x)], 1)))
        a, b = x.chunk(2, 1)
        return self.fc((a * torch.sigmoid(b)).flatten(1))


def joined() -> Net:
    """Return the network, captured."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return capture(Joined().eval(), torch.rand(2, 3, 4, 4))


def drawn(thinning: Thinning, seed: int) -> list[int]:
    """Return counts at random."""
    draw = random.Random(seed)
    return [draw.randint(0, most) for most in thinning.most]


def test_the_first_of_an_order_are_the_lowest_and_what_must_stay_is_not_in_it() -> None:
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        needed = tuple(frozenset(torch.randperm(7, generator=draw)[:3].tolist()) for _ in range(2))
        group, scores = Group("g", ((),) * 7, (), needed=needed), torch.rand(7, generator=draw)
        order = order_of(group, scores)
        for k in range(len(order) + 1):
            assert tuple(sorted(order[:k])) == group.lowest(scores, k)
        assert group.lowest(scores, 7) == tuple(sorted(order)) and len(order) < 7
        scores[order[0]] = math.inf
        assert order[0] not in order_of(group, scores)
    assert order_of(Group("g", ((),) * 3, ()), torch.full((3,), torch.inf)) == ()


@pytest.mark.parametrize("make", [small_conv, small_mlp, joined])
def test_a_sketch_is_the_network_that_surgery_makes_and_leaves_the_whole_one_alone(make) -> None:
    net = make().eval()
    thinning = thinning_of(net, L1(), Work())
    before, x = {k: v.clone() for k, v in net.state_dict().items()}, net.example(3)
    for seed in range(3):
        gone = drawn(thinning, seed)
        (made, went), sketch = thinning.removed(gone, lambda *_: None), thinning.sketch(gone)
        assert went == thinning.chosen(gone) and made.spec == sketch.spec and same(made.eval()(*x), sketch(*x))
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items())


@pytest.mark.parametrize("make", [small_conv, small_mlp, joined])
def test_costs_without_building_are_those_of_what_is_built(make) -> None:
    thinning = thinning_of(make(), L1(), Work())
    built: list[Net] = []

    def cost(net: Net) -> float:
        built.append(net)
        return float(count(net).macs)

    price = price_of(thinning, cost)
    for seed in range(6):
        gone = drawn(thinning, 100 + seed)
        before = len(built)
        assert price(gone) == pytest.approx(macs(thinning.sketch(gone)), rel=1e-12)
        assert len(built) == before or make is joined, "where units are not alike, each is built"
        assert price_of(thinning, priced("params"))(gone) == pytest.approx(params(thinning.sketch(gone)), rel=1e-12)


def test_a_cost_with_no_closed_form_is_that_of_the_network_each_built_once() -> None:
    thinning, built = thinning_of(small_mlp(), L1(), Work()), list[int]()

    def rows(net: Net) -> float:
        built.append(1)
        return float(sum(-(-net.slot(n)().shape[0] // 8) for n in ("0.weight", "2.weight")))

    price = price_of(thinning, rows)
    at = len(built)
    assert [price([n, 0]) for n in (0, 7, 8, 9, 9, 9)] == [6, 6, 5, 5, 5, 5] and len(built) <= at + 4


def test_the_fewest_units_that_meet_a_budget() -> None:
    thinning = thinning_of(small_mlp(), L1(), Work())
    price = price_of(thinning, priced("macs"))
    for budget in (2600.0, 2000.0, 1500.0):
        found = fewest(thinning, price, [3, 2], 0, budget)
        good = [k for k in range(3, thinning.most[0] + 1) if price([k, 2]) <= budget]
        assert found == (good[0] if good else None)
    assert fewest(thinning, price, [0, 0], 1, 10.0) is None


def test_within_a_budget_from_anywhere() -> None:
    thinning = thinning_of(joined(), L1(), Work())
    price = price_of(thinning, priced("macs"))
    whole, least = price([0] * len(thinning.most)), price(thinning.most)
    for seed in range(30):
        wanted, budget = drawn(thinning, seed), least + (whole - least) * random.Random(seed).random() ** 2
        order = random.Random(seed).sample(range(len(wanted)), len(wanted))
        found = within(thinning, price, wanted, budget, order)
        assert price(found) <= budget and all(a >= b for a, b in zip(found, wanted, strict=True))
        assert price(wanted) > budget or found == wanted
        back = filled(thinning, price, found, budget)
        assert price(back) <= budget and all(a <= b for a, b in zip(back, found, strict=True))
        more = [[n - (k == at) for k, n in enumerate(back)] for at in range(len(back)) if back[at]]
        assert all(price(one) > budget for one in more), "nothing that still fits is left out"
    with pytest.raises(BadInput, match="cannot be met; the least possible"):
        reachable(thinning, price, least - 1, "macs")


def test_uniform_takes_alike_from_all() -> None:
    thinning = thinning_of(small_mlp(), L1(), Work())
    price = price_of(thinning, priced("macs"))
    for share in (0.3, 0.5, 0.8):
        gone = uniform(thinning, price, share * price([0, 0]))
        shares = [n / len(g) for n, g in zip(gone, thinning.groups, strict=True)]
        assert price(gone) <= share * price([0, 0]) and max(shares) - min(shares) <= 2 / 16


def test_what_must_stay_is_said_and_more_than_may_go_is_refused() -> None:
    work = Work()
    thinning = thinning_of(small_conv(), L1(), work)
    assert "fc.weight" in {note.layer for note in work.notes} and len(thinning.groups) == len(
        [g for g in groups(small_conv()) if len(g)]
    )
    with pytest.raises(BadInput, match="units to go"):
        thinning.sketch([m + 1 for m in thinning.most])
    quiet = Work()
    assert len(thinning_of(small_conv(), L1(), quiet, only=[thinning.groups[0].name]).groups) == 1 and not quiet.notes
