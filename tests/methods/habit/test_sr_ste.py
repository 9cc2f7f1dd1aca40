"""N:M masks chosen after each step; gradients straight through, and a pull to zero on what is masked."""

import pytest
import torch
from moving_net import masks, moving_net

from contracts.habit import HabitContract
from contracts.nets import inputs_for
from paredown.core.errors import BadInput
from paredown.graph.net import Net
from paredown.methods.habit.sr_ste import SrSte


class TestSrSte(HabitContract):
    def part(self) -> SrSte:
        return SrSte(strength=0.01)

    def net(self) -> Net:
        return moving_net(1.0)


def test_the_two_largest_of_four_are_chosen_and_values_are_kept() -> None:
    net = moving_net(1.0)
    values = {name: net.slot(name).value.detach().clone() for name in masks(net)}
    SrSte().step(net, {}, 0.1)
    for name, mask in masks(net).items():
        size = values[name].abs().view(len(mask), -1, 4)
        kept = mask.view_as(size)
        assert (kept.sum(2) == 2).all() and torch.equal(net.slot(name).value, values[name])
        assert (torch.where(kept, size, torch.inf).amin(2) >= torch.where(kept, 0, size).amax(2)).all()
        assert torch.equal(net.slot(name)(), values[name] * mask)


def test_the_gradient_is_that_of_the_masked_weight_plus_the_pull() -> None:
    """Equation 9: g(W̃) + λ (1 − M) ⊙ W."""
    net, habit = moving_net(1.0), SrSte(strength=0.3)
    habit.step(net, {}, 0.0)
    x, y = inputs_for(net, 16)[0], torch.arange(16) % 10
    (torch.nn.functional.cross_entropy(net(x), y) + habit.penalty(net, {})).backward()
    plain = net.copy()
    with torch.no_grad():
        for name, mask in masks(net).items():
            plain.slot(name).value.mul_(mask)
            plain.slot(name).mask.fill_(True)
    plain.zero_grad()
    torch.nn.functional.cross_entropy(plain(x), y).backward()
    for name, mask in masks(net).items():
        slot = net.slot(name)
        wanted = plain.slot(name).value.grad + 0.3 * ~mask * slot.value.detach()
        torch.testing.assert_close(slot.value.grad, wanted)


def test_a_masked_weight_that_grows_comes_back() -> None:
    net, habit = moving_net(1.0), SrSte()
    habit.step(net, {}, 0.0)
    at = (~masks(net)["0.weight"]).nonzero()[0].tolist()
    with torch.no_grad():
        net.slot("0.weight").value[at[0], at[1]] = 9.0
    habit.step(net, {}, 0.1)
    assert net.slot("0.weight").mask[at[0], at[1]] and int(net.slot("0.weight").mask[at[0], :4].sum()) == 2


def test_all_of_all_is_refused() -> None:
    with pytest.raises(BadInput, match="n from 1"):
        SrSte(4, 4)
