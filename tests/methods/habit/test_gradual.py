"""A sparsity that rises along a cubic curve."""

import pytest
import torch
from moving_net import masks, moving_net

from contracts.habit import HabitContract
from paredown.core.errors import BadInput
from paredown.graph.net import Net
from paredown.methods.habit.gradual import Gradual, cubic
from paredown.methods.saliency.snip import Snip
from paredown.methods.structure.granularity import Granularity
from paredown.methods.structure.n_m import NM


class TestGradualMasks(HabitContract):
    def part(self) -> Gradual:
        return Gradual(0.8, every=2)

    def net(self) -> Net:
        return moving_net(1.0)


class TestGradualFilters(TestGradualMasks):
    def part(self) -> Gradual:
        return Gradual(0.5, structure=Granularity("filter"))


def test_the_curve() -> None:
    """Zhu & Gupta 2017, equation 1."""
    assert [cubic(0.0, 0.8, at) for at in (-1.0, 0.0, 0.5, 1.0, 2.0)] == pytest.approx([0, 0, 0.7, 0.8, 0.8])
    assert cubic(0.5, 0.9, 0.5) == pytest.approx(0.85)


def test_masks_follow_it_only_grow_and_end_exactly() -> None:
    net, habit = moving_net(1.0), Gradual(0.8, begin=0.1, end=0.6, every=1)
    state, before = habit.start(net), masks(net)
    for at in range(1, 21):
        t = at / 20
        state = habit.step(net, state, t)
        for name, mask in masks(net).items():
            wanted = 0.0 if t < 0.1 else cubic(0.0, 0.8, (t - 0.1) / 0.5)
            assert int((~mask).sum()) == int(wanted * mask.numel() + 1e-6), (t, name)
            assert not (mask & ~before[name]).any() and (net.slot(name).value[~mask] == 0).all()
        before = masks(net)
        with torch.no_grad():
            for name in before:
                net.slot(name).value += 0.01
    assert state["done"]


def test_the_smallest_go_at_that_time() -> None:
    net, habit = moving_net(1.0), Gradual(0.5, begin=0.0, end=0.5, every=1)
    size = net.slot("2.weight").value.detach().abs().clone()
    habit.step(net, habit.start(net), 0.2)
    mask = masks(net)["2.weight"]
    assert 0 < int((~mask).sum()) < mask.numel() / 2 and size[~mask].max() <= size[mask].min()


def test_a_structure_is_kept_at_the_end() -> None:
    net, habit = moving_net(1.0), Gradual(0.5, structure=NM(), every=1)
    state = habit.start(net)
    for at in range(1, 11):
        state = habit.step(net, state, at / 10)
    assert all((mask.view(len(mask), -1, 4).sum(2) == 2).all() for name, mask in masks(net).items())


def test_saliencies_that_look_at_data_are_refused() -> None:
    with pytest.raises(BadInput, match="without data"):
        Gradual(saliency=Snip())
    with pytest.raises(BadInput, match="before end"):
        Gradual(begin=0.8, end=0.5)
