"""The smallest weights leave, those with the largest gradients enter."""

import pytest
import torch
from moving_net import masks, moving_net

from contracts.habit import HabitContract
from contracts.nets import inputs_for
from paredown.graph.net import Net
from paredown.methods.habit.rigl import RigL, share


class TestRigL(HabitContract):
    def part(self) -> RigL:
        return RigL(every=2)

    def net(self) -> Net:
        return moving_net()


def test_the_share_falls_along_a_cosine() -> None:
    assert [share(0.3, t, 0.8) for t in (0.0, 0.4, 0.8, 1.0)] == pytest.approx([0.3, 0.15, 0.0, 0.0])


def stepped(net: Net, habit: RigL, t: float = 0.0) -> Net:
    """Return the network after the gradients of a batch and one look of the habit, without any optimiser."""
    net.zero_grad()
    torch.nn.functional.cross_entropy(net(*inputs_for(net, 16)), torch.arange(16) % 10).backward()
    habit.step(net, {"steps": 0}, t)
    return net


def test_what_leaves_is_smallest_what_enters_has_the_largest_gradient_and_starts_at_zero() -> None:
    net = moving_net()
    before, values = masks(net), {n: net.slot(n).value.detach().clone() for n, _ in net.weighted()}
    stepped(net, RigL(0.2, every=1))
    for name, mask in masks(net).items():
        old, size, slope = before[name], values[name].abs(), net.slot(name).value.grad.abs()
        left, entered = old & ~mask, mask & ~old
        assert mask.sum() == old.sum() and 0 < left.sum() == entered.sum() <= int(0.2 * old.sum())
        assert size[left].max() <= size[old].sort().values[int(0.2 * old.sum()) - 1]
        assert slope[entered].min() >= slope[~old & ~mask].max()
        assert slope[entered].min() > 0 and (net.slot(name).value[entered] == 0).all()
        assert torch.equal(net.slot(name).value[old & mask], values[name][old & mask])


def test_gradients_reach_masked_weights_and_their_values_do_not_move() -> None:
    net = moving_net()
    before = masks(net)
    with torch.no_grad():
        for name in before:
            net.slot(name).value += 0.1 * ~before[name]
    stepped(net, RigL(every=100))
    for name, mask in before.items():
        slot = net.slot(name)
        assert torch.equal(slot.mask, mask) and (slot.value[~mask] == 0).all()
        assert (slot.value.grad[~mask] != 0).any()


def test_masks_rest_in_the_end() -> None:
    net = moving_net()
    before = masks(net)
    assert all(torch.equal(mask, before[name]) for name, mask in masks(stepped(net, RigL(every=1), 0.8)).items())
