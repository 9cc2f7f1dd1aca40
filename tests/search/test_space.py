"""What settings of the spaces mean."""

import random

import pytest
import torch

from contracts.nets import small_conv
from paredown.core.recipe import Recipe
from paredown.core.work import Work
from paredown.cost.count import count
from paredown.search.random import _RandomDraw
from paredown.search.space import PRUNINGS, Measure, ModelSpace, pruning, recipe


@pytest.mark.parametrize("how", PRUNINGS)
def test_every_way_of_pruning_takes_about_what_it_is_asked_for(how: str) -> None:
    net, draw = small_conv(), torch.Generator().manual_seed(0)
    calib = torch.rand((40, *net.spec.inputs[0][1]), generator=draw), torch.arange(40) % 10
    left = []
    for ratio in (0.25, 0.5, 0.7):
        step = Recipe.of_json([pruning(ratio, how)]).steps[0]
        out = step.apply(net, Work({"calib": calib, "evaluate": lambda net: 0.0}))
        left.append(count(out).macs / count(net).macs)
        assert 0.2 * (1 - ratio) ** 2 <= left[-1] <= 1 - 0.6 * ratio
    assert left == sorted(left, reverse=True)


def test_the_way_is_drawn_only_where_something_is_pruned() -> None:
    space = ModelSpace(Measure(1000, 64), 0, "data", 100.0, 1000.0, {"model": "mlp"})
    drawn = [space.draw(_RandomDraw(random.Random(seed))) for seed in range(60)]
    assert all(("how" in settings) == (settings["prune"] > 0) for settings in drawn)
    assert {settings.get("how") for settings in drawn} == {None, *PRUNINGS}
    for settings in drawn:
        steps = [step["part"] for step in recipe(settings, space.measure, 0.1).to_json()]
        assert ("prune.sensitivity" in steps) == (settings.get("how") == "sensitivity")
