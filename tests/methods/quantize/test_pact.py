"""PACT, held to equations 1-3 (A-S4-33), and digits."""

import pytest
import torch
from torch import nn

from contracts.digits_task import accuracy, digits
from contracts.nets import small_mlp
from contracts.trained_step import TrainedStepContract, deep_mlp, samples, trainer
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.count import count
from paredown.graph.activations import CONSTANT, LEARNABLE
from paredown.graph.capture import capture
from paredown.graph.net import Net
from paredown.graph.slots import short_float
from paredown.methods.quantize.pact import Clip, Pact, clip_inputs_, hold_clips_

SHORT = Plan(epochs=2, batch=16)


class TestPact(TrainedStepContract):
    flips = 0.02

    def part(self) -> Pact:
        return Pact(plan=SHORT)

    def settings(self) -> list[Pact]:
        return [Pact(8, 2, 0.0, False, plan=Plan(epochs=3))]


def clipped(top: float, bits: int) -> Net:
    """Return x → relu → 1 · clipped and rounded."""
    model = nn.Sequential(nn.ReLU(), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        model[1].weight.fill_(1.0)
    net = capture(model, torch.rand(2, 1))
    clip_inputs_(net, {net.spec.nodes[0].name: top}, bits)
    return net


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_values_are_the_papers(bits: int) -> None:
    """Equation 2: round(clip(x, 0, α) (2^k − 1) / α) α / (2^k − 1)."""
    top = 2.0**bits - 1  # a step of exactly 1
    net, x = clipped(top, bits), torch.linspace(-1, 1.5 * top, 1001)[:, None]
    assert torch.equal(net(x), x.clamp(0, top).round())
    assert net(x).unique().numel() == 2**bits


def test_gradients_are_the_papers() -> None:
    """Of α: 1 for each x ≥ α, else 0 (equation 3), with no part of the rounding; of x: 1 from 0 to α, else 0."""
    net = clipped(3.0, 2)
    x = torch.tensor([[-1.0], [0.3], [1.6], [2.9], [3.1], [50.0]], requires_grad=True)
    upstream = torch.tensor([[1.0], [2.0], [4.0], [8.0], [16.0], [32.0]])
    net(x).backward(upstream)
    clip = next(slot for slot in net.slots.values() if isinstance(slot, Clip))
    assert clip.value.grad.tolist() == [16 + 32]
    assert x.grad.flatten().tolist() == [0, 2, 4, 8, 0, 0]


def test_a_level_is_used_with_a_step_of_four_significant_bits() -> None:
    clip = Clip(torch.tensor(2.345), 4)
    assert torch.equal(clip.step(), short_float(clip.step())) and float(clip().detach()) == float(15 * clip.step())
    clip().sum().backward()
    assert clip.value.grad.tolist() == [1.0]


def test_holding_changes_nothing_and_leaves_one_constant_quantizer() -> None:
    net, x = clipped(2.7, 3), torch.linspace(-1, 5, 999)[:, None]
    held = net.copy()
    hold_clips_(held)
    assert torch.equal(held(x), net(x))
    ops = [node.op for node in held.spec.nodes]
    assert ops.count(CONSTANT) == 1 and LEARNABLE not in ops and "minimum" not in ops
    assert held.slot_names() == ["1.weight"]


def levels(net: Net) -> list[float]:
    return [float(slot.value.detach()) for slot in net.slots.values() if isinstance(slot, Clip)]


def test_levels_are_learned_and_decay_lowers_them() -> None:
    found = {}
    for decay in (0.0, 0.1):
        net, seen = small_mlp(), []
        data = samples(net)
        part = Pact(decay=decay, real_ends=False, plan=Plan(epochs=20, batch=16, lr=1e-2))
        held = part.apply(net, Work({"fit": trainer(data, 0, seen), "calib": (data.x, data.y)}))
        found[decay] = levels(seen[0])
        assert len(found[decay]) == 2 and sum(node.op == CONSTANT for node in held.spec.nodes) == 2
        assert {key.split("a")[1] for key in count(held).macs_by_bits} == {"32", "4"}
    assert all(low < high for low, high in zip(found[0.1], found[0.0], strict=True))


def test_digits_with_two_bits_and_two_bits() -> None:
    """64-256-256-10, the middle layer of 2-bit weights and inputs, three seeds; asserted: 94 %."""
    for seed in range(3):
        train, test = digits(seed)
        work = Work({"fit": trainer(train, seed), "calib": (train.x, train.y)})
        held = Pact(2, 2, plan=Plan(epochs=15)).apply(deep_mlp(seed), work)
        assert accuracy(held, test) >= 94, (seed, accuracy(held, test))


@pytest.mark.parametrize("wrong", [{"bits": 0}, {"activation_bits": 0}, {"decay": -1.0}, {"real_ends": 2}])
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Pact(**wrong)
