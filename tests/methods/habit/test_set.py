"""The smallest weights leave, others enter by chance."""

import torch
from moving_net import masks, moving_net

from contracts.habit import HabitContract
from paredown.graph.net import Net
from paredown.methods.habit.set import Evolve


class TestEvolve(HabitContract):
    def part(self) -> Evolve:
        return Evolve(every=2)

    def net(self) -> Net:
        return moving_net()


def entered(seed: int, steps: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (mask before, mask after, sizes before, values after) of the first weight."""
    net = moving_net()
    before, size = masks(net)["0.weight"], net.slot("0.weight").value.detach().abs().clone()
    Evolve(0.3, every=1, seed=seed).step(net, {"steps": steps}, 0.1)
    return before, masks(net)["0.weight"], size, net.slot("0.weight").value.detach()


def test_as_many_enter_as_leave_the_smallest_leave_and_chance_decides() -> None:
    before, after, size, value = entered(0)
    left, new = before & ~after, after & ~before
    assert before.sum() == after.sum() and 0.2 * before.sum() < new.sum() == left.sum() <= 0.3 * before.sum()
    assert size[left].max() <= size[before].quantile(0.301)
    assert (value[new] == 0).all()
    assert torch.equal(entered(0)[1], after)
    assert not torch.equal(entered(1)[1], after) and not torch.equal(entered(0, steps=5)[1], after)


def test_places_are_spread_evenly() -> None:
    """Over a hundred seeds every row of the weight gets its share of what enters."""
    rows = torch.stack([(after & ~before).sum(1).double() for before, after, _, _ in map(entered, range(100))]).mean(0)
    empty = (~entered(0)[0]).sum(1).double()
    assert float(((rows / rows.sum()) / (empty / empty.sum()) - 1).abs().max()) < 0.2


def test_masks_rest_in_the_end() -> None:
    net = moving_net()
    before = masks(net)
    Evolve(every=1).step(net, {"steps": 0}, 0.8)
    assert all(torch.equal(mask, before[name]) for name, mask in masks(net).items())
