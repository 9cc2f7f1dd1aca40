"""Rounding after training, held to the whitepaper's properties (A-S0-15) and the lecture's example (A-S4-24)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from contracts.nets import inputs_for, small_conv, small_mlp
from contracts.step import StepContract
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.cost.count import count
from paredown.graph.activations import CONSTANT
from paredown.graph.capture import capture
from paredown.graph.slots import Codebook, Grid, Masked
from paredown.methods.quantize.uniform import Uniform, grid


class TestUniform(StepContract):
    def part(self) -> Uniform:
        return Uniform(bits=4, bias_bits=6)

    def settings(self) -> list[Uniform]:
        return [Uniform(), Uniform(2, "tensor", 16, 8)]


class TestUniformWithActivations(StepContract):
    def part(self) -> Uniform:
        return Uniform(bits=8, granularity="tensor", activation_bits=8)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(2, 8), st.booleans(), st.floats(1e-6, 1e6), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_no_value_moves_by_more_than_half_a_step_and_zero_stays(
    bits: int, per_channel: bool, size: float, seed: int
) -> None:
    weight = draw(5, 3, 2, 2, seed=seed) * size
    weight[:, 0] = 0
    codes, step = grid(weight, bits, per_channel)
    error = (codes * step - weight).abs()
    assert (error <= step / 2 * (1 + 1e-5)).all()
    assert (codes[:, 0] == 0).all()
    assert codes.abs().max() == 2 ** (bits - 1) - 1 and step.shape == ((5, 1, 1, 1) if per_channel else ())
    assert torch.equal(grid(-weight, bits, per_channel)[0], -codes)


def test_channels_of_very_different_ranges() -> None:
    """The whitepaper's depthwise failure in miniature: ranges 100 times apart."""
    weight = draw(2, 1, 3, 3)
    weight[1] *= 100
    errors = {}
    for per_channel in (True, False):
        codes, step = grid(weight, 8, per_channel)
        errors[per_channel] = (codes * step - weight).flatten(1).norm(dim=1) / weight.flatten(1).norm(dim=1)
    assert (errors[True] <= errors[False] * (1 + 1e-6)).all()
    assert errors[True][0] < 0.01 and errors[False][0] > 0.1


@pytest.mark.parametrize("bits", range(2, 9))
def test_per_channel_is_never_worse(bits: int) -> None:
    weight = draw(8, 20) * torch.logspace(-2, 2, 8)[:, None]
    squared = [
        ((codes * step - weight) ** 2).sum() for codes, step in (grid(weight, bits, True), grid(weight, bits, False))
    ]
    assert squared[0] <= squared[1]


def test_zeros_and_vectors() -> None:
    codes, step = grid(torch.zeros(3, 4), 4)
    assert (codes == 0).all() and (step == 1).all()
    assert grid(draw(5), 4)[1].shape == ()


def test_a_grid_that_holds_the_weights_leaves_them_as_they_are() -> None:
    weight = torch.tensor([[-7.0, 0, 3], [7, 1, -2]]) * 0.25
    codes, step = grid(weight, 4)
    assert torch.equal(codes * step, weight)


def test_widths_and_slots() -> None:
    net = Uniform(bits=5, bias_bits=7).apply(small_mlp(), Work())
    slots = {name: net.slot(name) for name in net.slot_names()}
    assert all(isinstance(s, Grid) for s in slots.values())
    assert {s.bits for n, s in slots.items() if n.endswith("weight")} == {5} and {
        s.bits for n, s in slots.items() if n.endswith("bias")
    } == {7}
    assert all(s.step.numel() == (s.codes.shape[0] if n.endswith("weight") else 1) for n, s in slots.items())
    assert not [n for n, s in net.named_parameters()]
    assert {k.split("a")[0] for k in count(net).macs_by_bits} == {"w5"}


def test_pruned_weights_stay_zero_and_shared_ones_are_left_alone() -> None:
    net = small_mlp()
    first, second, third = (name for name, _ in net.weighted())
    weight = net.slot(first)().detach()
    net.set_slot(first, Masked(weight, weight > 0))
    net.set_slot(second, Codebook(torch.zeros(net.slot(second)().shape), torch.ones(1)))
    work = Work().scoped("quantize.uniform", ())
    held = Uniform(bits=4).apply(net, work)
    assert ((held.slot(first)() == 0) | (weight > 0)).all() and isinstance(held.slot(third), Grid)
    assert isinstance(held.slot(second), Codebook) and [n.layer for n in work.notes if "weight" in n.layer]


def test_norms_that_were_not_folded_are_noted() -> None:
    work = Work().scoped("quantize.uniform", ())
    Uniform().apply(small_conv(), work)
    assert len([n for n in work.notes if "batch norm" in n.text and "weight" in n.layer]) == 2


def test_activations_have_the_levels_that_were_asked_for() -> None:
    net = small_conv().eval()
    (x,) = inputs_for(net, 64)
    errors = {}
    for bits in (8, 4):
        held = Uniform(bits=8, activation_bits=bits).apply(net, Work({"calib": (x, None)})).eval()
        nodes = [n for n in held.spec.nodes if n.op == CONSTANT]
        assert len(nodes) == 5 and all(n.args["quant_max"] == 2**bits - 1 for n in nodes)
        errors[bits] = float((held(x) - net(x)).abs().mean() / net(x).abs().mean())
        assert {key.split("a")[1] for key in count(held).macs_by_bits} == {str(bits)}
    assert errors[8] < 0.03 and errors[8] * 4 < errors[4] < 0.6


def test_activations_need_the_calib_split() -> None:
    with pytest.raises(LookupError, match="calib"):
        Uniform(activation_bits=8).apply(small_mlp(), Work())
    assert "calib" in Uniform.card.needs


@pytest.mark.parametrize(
    "wrong",
    [
        {"bits": 1},
        {"bits": 9},
        {"bits": 4.0},
        {"bits": True},
        {"granularity": "row"},
        {"bias_bits": 3},
        {"activation_bits": 5},
    ],
)
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Uniform(**wrong)


def test_a_weight_that_is_used_twice_is_rounded_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(torch.relu(self.a(x)))

    net = capture(Tied(), torch.rand(2, 6))
    held = Uniform(bits=3, bias_bits=4).apply(net, Work()).eval()
    codes, step = grid(net.slot("a.weight")().detach(), 3)
    assert torch.equal(held.slot("a.weight")(), codes * step) and len(held.slot_names()) == 2
