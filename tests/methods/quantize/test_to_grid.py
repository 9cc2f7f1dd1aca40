"""Any grid, applied to a network's weights."""

import numpy as np
import pytest
import torch

from contracts.nets import inputs_for, small_mlp
from contracts.step import StepContract
from paredown.core.catalog import entries
from paredown.core.recipe import Recipe
from paredown.core.work import Work
from paredown.cost.count import count
from paredown.graph.freeze import freeze
from paredown.methods.grid.integer import Integer
from paredown.methods.grid.ocp_mx import OcpMx
from paredown.methods.grid.power_of_two import PowerOfTwo
from paredown.methods.grid.table import Table
from paredown.methods.quantize.to_grid import ToGrid
from paredown.methods.quantize.uniform import Uniform


class TestToGrid(StepContract):
    def part(self) -> ToGrid:
        return ToGrid(OcpMx())

    def settings(self) -> list[ToGrid]:
        return [ToGrid(), ToGrid(Table((-1.0, 0.0, 2.0)))]


class TestToGridOfPowers(StepContract):
    def part(self) -> ToGrid:
        return ToGrid(PowerOfTwo(3))


def test_integers_are_what_uniform_rounding_gives() -> None:
    a = ToGrid(Integer(5)).apply(small_mlp(), Work()).state_dict()
    b = Uniform(bits=5).apply(small_mlp(), Work()).state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", [e.name for e in entries("grid")])
def test_every_grid_keeps_most_of_the_function_at_its_default(name: str) -> None:
    recipe = Recipe.of_json([{"part": "quantize.to_grid", "grid": {"part": name}}])
    net, (x,) = small_mlp(), inputs_for(small_mlp(), 32)
    held = recipe.steps[0].apply(net, Work())
    wanted = net(x)
    assert (held(x) - wanted).norm() < 0.35 * (wanted - wanted.mean(0)).norm().clamp(min=wanted.norm() * 0.5)
    assert count(held).bits < 0.6 * count(net).bits


@pytest.mark.parametrize("name", [e.name for e in entries("grid")])
def test_files_take_every_grid(name: str) -> None:
    recipe = Recipe.of_json([{"part": "quantize.to_grid", "grid": {"part": name}}])
    held = recipe.steps[0].apply(small_mlp(), Work())
    for slot, stored in freeze(held).tensors.items():
        assert np.array_equal(stored.value, held.slot(slot)().detach().numpy())
