"""The greedy order in which the next layer misses channels least."""

from itertools import combinations

import torch
from torch import nn

from contracts.nets import small_conv, small_mlp
from contracts.score import ScoreContract
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.groups import groups
from paredown.methods.score.l2 import L2
from paredown.methods.score.thinet import ThiNet, greedy, missed


class TestThiNet(ScoreContract):
    def part(self) -> ThiNet:
        return ThiNet()


def test_greedy_against_brute_force() -> None:
    """Up to 8 channels: the first choice is the best one; each next one the best addition; all of them near the best set."""
    draw = torch.Generator().manual_seed(0)
    for count in range(2, 9):
        rows = torch.randn(50, count, generator=draw).double() @ torch.randn(count, count, generator=draw).double()
        order = greedy(rows)
        assert sorted(order) == list(range(count))
        for size in range(1, count):
            found = missed(rows, order[:size])
            added = min(missed(rows, [*order[: size - 1], c]) for c in range(count) if c not in order[: size - 1])
            sets = [missed(rows, chosen) for chosen in combinations(range(count), size)]
            assert abs(found - added) <= 1e-9 * max(sets) and found >= min(sets) - 1e-9
            assert found <= sum(sets) / len(sets), "no worse than a random set"


def test_greedy_is_best_where_channels_do_not_correlate() -> None:
    basis = torch.linalg.qr(torch.randn(30, 7, generator=torch.Generator().manual_seed(0)).double()).Q
    rows = basis * torch.tensor([3.0, 1.0, 4.0, 1.5, 9.0, 2.0, 6.0])
    order = greedy(rows)
    assert order == [1, 3, 5, 0, 2, 6, 4]
    for size in range(1, 7):
        best = min(missed(rows, chosen) for chosen in combinations(range(7), size))
        assert abs(missed(rows, order[:size]) - best) < 1e-9


def test_two_that_cancel_go_first() -> None:
    """A-S0-17: x₂ = −x₁. By size alone channel 4 would be next to last: it is 1.2 times channel 1, the smallest."""
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(200, 5, generator=draw).double()
    rows = rows / rows.norm(dim=0) * torch.tensor([1.15, 1.0, 1.18, 1.1, 1.0])
    rows[:, 4] = -rows[:, 1]
    assert set(greedy(rows)[:2]) == {1, 4} and missed(rows, greedy(rows)[:2]) < 1e-20
    rows[:, 4] *= 1.2
    assert greedy(rows)[:2] == [1, 4] and rows.norm(dim=0).argmax() == 4


def cancelling() -> tuple:
    """Return (network, work) whose channels 2 and 5 cancel in the next layer: the same filters, read with opposite signs."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 6, 3)
    with torch.no_grad():
        first.weight.abs_()
        first.weight[5], first.bias[5] = first.weight[2], first.bias[2]
        second.weight[:, 2] *= 0.3
        second.weight[:, 5] = -second.weight[:, 2]
        first.bias += 0.3
    net = capture(
        nn.Sequential(first, nn.ReLU(), second, nn.Flatten(), nn.Linear(96, 10)).eval(), torch.rand(1, 1, 8, 8)
    )
    draw = torch.Generator().manual_seed(0)
    work = Work({"calib": (torch.rand(200, 1, 8, 8, generator=draw), torch.arange(200) % 10)})
    return net, work


def test_a_network_s_cancelling_pair_goes_first() -> None:
    net, work = cancelling()
    found = ThiNet().importance(net, groups(net)[0], work)
    assert set(found.argsort()[:2].tolist()) == {2, 5}
    assert set(L2().importance(net, groups(net)[0], work).argsort()[:2].tolist()) != {2, 5}


def test_it_beats_random_sets_on_what_is_missed() -> None:
    """Half of the channels of each layer, by the outputs of the next layer on samples that were not looked at."""
    net = small_mlp().eval()
    x = torch.rand(400, 64, generator=torch.Generator().manual_seed(1))
    work = Work({"calib": (x[:200], torch.arange(200) % 10)})
    weight = net.slot("2.weight")().detach()
    active = torch.relu(torch.nn.functional.linear(x[200:], net.slot("0.weight")(), net.slot("0.bias")())).detach()

    def error(gone: torch.Tensor) -> float:
        return float((active[:, gone] @ weight[:, gone].T).square().sum())

    own = error(ThiNet().importance(net, groups(net)[0], work).argsort()[:16])
    draw = torch.Generator().manual_seed(0)
    others = [error(torch.randperm(32, generator=draw)[:16]) for _ in range(50)]
    assert own < min(others)


def test_tied_groups_are_ranked_by_all_that_read_them() -> None:
    """A channel of the residual stream that `point` and `wide` do not read is missed by nobody."""
    net = small_conv()
    group = groups(net)[0]
    for slot in ("point.weight", "wide.weight"):
        net.slot(slot).value.data[:, 3] = 0
    assert ThiNet().importance(net, group, TestThiNet().work())[3] == 0
