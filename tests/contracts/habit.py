"""What every habit promises. Inherit and override `part()`; optional: `net()`."""

import copy
import json
from typing import Any

import torch

from contracts.nets import inputs_for, small_mlp
from paredown.core.catalog import build, describe, entry
from paredown.graph.net import Net


class HabitContract:
    """Inherit for a habit: explicit state, so that training can be stopped and taken up again to the bit."""

    def part(self) -> Any:
        """Return the habit under test."""
        raise NotImplementedError

    def net(self) -> Net:
        """Return the network that is trained."""
        return small_mlp()

    def train(self, net: Net, state: dict, steps: range) -> dict:
        """Return the state after these of ten optimiser steps with the habit."""
        habit, (x,) = self.part(), inputs_for(net, 8)
        target = torch.arange(8) % 10
        for at in steps:
            loss = torch.nn.functional.cross_entropy(net(x), target)
            if hasattr(habit, "penalty"):
                loss = loss + habit.penalty(net, state)
            net.zero_grad(set_to_none=True)
            loss.backward()
            with torch.no_grad():
                for parameter in net.parameters():
                    if parameter.grad is not None:
                        parameter -= 0.05 * parameter.grad
            state = habit.step(net, state, (at + 1) / 10)
        return state

    def test_it_survives_json(self) -> None:
        assert build(json.loads(json.dumps(describe(self.part())))) == self.part()
        assert entry(self.part().part_name).kind == "habit"

    def test_its_state_is_tensors_and_numbers(self) -> None:
        net = self.net()
        state = self.part().start(net)
        assert isinstance(state, dict)
        state = self.train(net, state, range(10))
        leaves = torch.utils._pytree.tree_leaves(state)
        assert all(isinstance(leaf, torch.Tensor | int | float | str | bool | type(None)) for leaf in leaves)

    def test_stopped_and_taken_up_is_the_same_as_never_stopped(self) -> None:
        whole, halves = self.net(), self.net()
        self.train(whole, self.part().start(whole), range(10))
        state = self.train(halves, self.part().start(halves), range(5))
        again = self.net()
        again.load_state_dict(halves.state_dict())
        self.train(again, copy.deepcopy(state), range(5, 10))
        assert all(torch.equal(v, again.state_dict()[k]) for k, v in whole.state_dict().items())

    def test_the_network_stays_finite_and_can_be_saved(self) -> None:
        net = self.net()
        state = self.train(net, self.part().start(net), range(10))
        if hasattr(self.part(), "finish"):
            self.part().finish(net, state)
        assert all(torch.isfinite(v).all() for v in net.state_dict().values() if v.is_floating_point())
