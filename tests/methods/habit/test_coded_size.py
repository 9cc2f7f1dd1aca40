"""The code length in the loss: the formula, its gradient, and that training lands on the bytes that were asked for."""

import copy
import functools
import math
from typing import Any

import numpy as np
import pytest
import torch

from contracts.digits_task import accuracy, digits, mlp
from contracts.habit import HabitContract
from contracts.nets import small_mlp
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.code_length import level_bits
from paredown.graph.net import Net
from paredown.graph.slots import Grid, LearnedStep
from paredown.methods.code.adaptive import Adaptive
from paredown.methods.habit.coded_size import FIRST, LEAST, MOST, REFRESH, CodedSize
from paredown.methods.quantize.learned_step import LearnedStepQuantization, first_step
from paredown.train.data import Data
from paredown.train.fit import fit


def learning(bits: int = 4) -> Net:
    """Return a network all of whose weights learn a step."""
    net = small_mlp()
    for name, _ in net.weighted():
        value = net.slot(name)().detach()
        net.set_slot(name, LearnedStep(value, bits, first_step(value, bits)))
    return net


class TestCodedSize(HabitContract):
    def part(self) -> CodedSize:
        return CodedSize(100.0)

    def net(self) -> Net:
        return learning()


class TestWithoutLearnedSteps(HabitContract):
    def part(self) -> CodedSize:
        return CodedSize(16)


def test_the_penalty_is_the_length_at_the_levels_and_linear_between() -> None:
    net, habit = learning(), CodedSize(100.0)
    state = habit.start(net)
    habit.penalty(net, state)
    rate = math.exp(state["log_price"]) / habit.bytes
    with torch.no_grad():
        for slot in (s for s in net.slots.values() if isinstance(s, LearnedStep)):
            slot.value.copy_(slot())  # on the levels
    slots = [s for s in net.slots.values() if isinstance(s, LearnedStep)]
    wide = state["cost"].view(len(slots), -1)
    middle = wide.shape[1] // 2
    wanted = sum(float(wide[i, (s.levels().round().long() + middle).flatten()].sum()) for i, s in enumerate(slots))
    state["count"] = 1  # no new look at the histogram
    assert float(habit.penalty(net, state)) == pytest.approx(rate * wanted / 8, rel=1e-4)
    assert (wide[:, 0] > wide[:, middle] + 5).all()  # a level that nothing has costs most


def test_its_gradient_is_the_difference_quotient() -> None:
    net, habit = learning(), CodedSize(100.0)
    state = habit.start(net)
    habit.penalty(net, state)
    state["count"] = 1
    slot = next(s for s in net.slots.values() if isinstance(s, LearnedStep))
    slot.value.data = slot.value.data.double()
    net.zero_grad()
    habit.penalty(net, dict(state)).backward()
    draw = np.random.default_rng(0)
    levels = slot.levels().detach().flatten()
    free = [
        i for i in draw.permutation(levels.numel()) if 0.05 < float(levels[i] % 1) < 0.95 and abs(levels[i]) < slot.high
    ][:10]
    assert len(free) == 10
    for at in free:
        found = []
        for sign in (1, -1):
            moved = copy.deepcopy(net)
            other = next(s for s in moved.slots.values() if isinstance(s, LearnedStep))
            with torch.no_grad():
                other.value.view(-1)[at] += sign * 1e-4 * float(slot.step())
            found.append(float(habit.penalty(moved, dict(state))))
        quotient = (found[0] - found[1]) / (2e-4 * float(slot.step()))
        assert float(slot.value.grad.view(-1)[at]) == pytest.approx(quotient, rel=1e-2, abs=1e-7)


def test_the_rate_rises_when_the_codes_are_too_long_and_falls_when_short() -> None:
    for wanted, direction in ((16.0, 1), (1e6, -1)):
        net, habit = learning(), CodedSize(wanted)
        state = {**habit.start(net), "t": 1.0}
        before = state["log_price"]
        habit.penalty(net, state)
        assert (state["log_price"] - before) * direction > 0 and LEAST <= state["log_price"] <= MOST
        after = state["log_price"]
        for _ in range(REFRESH - 1):
            habit.penalty(net, state)
        assert state["log_price"] == after  # between two looks it stays
        habit.penalty(net, state)
        assert state["log_price"] != after


def test_codes_of_the_wanted_size_add_the_same_whatever_the_size() -> None:
    """λ · bytes is steered, not λ: a network of 100 kB that began at the λ of 500 B would be all zeros at once."""
    net, small, large = learning(), CodedSize(50.0), CodedSize(5e5)
    state = small.start(net)
    small.penalty(net, state)
    state["count"] = 1  # no new look at the histogram
    assert state["log_price"] == pytest.approx(FIRST)
    one, other = (50 * float(small.penalty(net, dict(state))), 5e5 * float(large.penalty(net, dict(state))))
    assert one == pytest.approx(other) and one > 0


def test_the_aim_falls_to_the_bytes_over_the_first_half() -> None:
    """At t = 0 the present size is the aim, so the rate stays; from the middle on, the bytes are."""
    net, habit = learning(), CodedSize(50.0)
    state = habit.start(net)
    before = state["log_price"]
    habit.penalty(net, state)
    assert state["log_price"] == pytest.approx(before) and state["first"] > 50
    state = habit.step(net, {**state, "count": 0}, 0.5)
    habit.penalty(net, state)
    assert state["log_price"] == pytest.approx(before + 0.6 * 0.3)


def trained(data: Data, seed: int, net: Net, loss: Any, habits: Any, plan: Plan) -> Any:
    return fit(net, data, loss, habits, plan, seed)


def test_training_lands_within_fifteen_per_cent_of_the_bytes() -> None:
    aim = 300.0
    for seed in range(3):
        train, test = digits(seed)

        part = LearnedStepQuantization(bits=4, habits=(CodedSize(aim),), plan=Plan(epochs=20, lr=5e-3))
        held = part.apply(mlp(seed), Work({"fit": functools.partial(trained, train, seed)}))
        codes = [held.slot(n).codes.numpy() for n in held.slot_names() if isinstance(held.slot(n), Grid)]
        size = sum(map(level_bits, codes)) / 8
        assert size == pytest.approx(aim, rel=0.15), seed
        coded = sum(len(Adaptive().encode(c)) for c in codes)
        assert coded == pytest.approx(size, rel=0.02, abs=len(codes) * 1.5)  # a code on its own ends in a whole byte
        assert accuracy(held, test) > 88, seed


def test_bytes_outside_the_range_are_refused() -> None:
    for wrong in (0, -3, 15, math.inf, "many"):
        with pytest.raises(BadInput, match="bytes"):
            CodedSize(wrong)
