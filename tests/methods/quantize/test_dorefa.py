"""DoReFa-Net, held to equations 5-12 (A-S4-33), and digits."""

from typing import Any

import pytest
import torch
from torch import nn

from contracts.digits_task import accuracy, digits
from contracts.nets import inputs_for, small_mlp
from contracts.trained_step import TrainedStepContract, deep_mlp, samples, trainer
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.count import count, stored_bits
from paredown.graph.activations import CONSTANT
from paredown.graph.capture import capture
from paredown.graph.net import Net
from paredown.graph.slots import Codebook, Grid
from paredown.methods.quantize.dorefa import (
    DoReFa,
    RoundedGradient,
    TanhWeight,
    quantize_unit,
    round_gradient,
    squeezed,
)

SHORT = Plan(epochs=2, batch=16)


class TestDoReFa(TrainedStepContract):
    def part(self) -> DoReFa:
        return DoReFa(plan=SHORT)

    def settings(self) -> list[DoReFa]:
        return [DoReFa(1, 4, "one", False, plan=Plan(epochs=3))]


class TestWithActivations(TrainedStepContract):
    flips = 0.02

    def part(self) -> DoReFa:
        return DoReFa(bits=1, activation_bits=2, plan=SHORT)


class TestWithRoundedGradients(TrainedStepContract):
    def part(self) -> DoReFa:
        return DoReFa(gradient_bits=4, plan=SHORT)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_numbers_between_0_and_1(bits: int) -> None:
    value = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    rounded = quantize_unit(value, bits)
    assert len(rounded.unique()) == 2**bits and rounded.min() == 0 and rounded.max() == 1
    assert (rounded - value).abs().max() <= 0.5 / (2**bits - 1) + 1e-12


@pytest.mark.parametrize("bits", range(2, 9))
def test_values_are_the_papers(bits: int) -> None:
    """Equation 9 with the size one: 2 quantize(tanh w / 2 max|tanh w| + 1/2) − 1."""
    weight = draw(40, 50)
    slot = TanhWeight(weight, bits, keep_size=False)
    torch.testing.assert_close(slot(), 2 * quantize_unit(squeezed(weight), bits) - 1)
    held = slot.held()
    assert isinstance(held, Codebook) and held.bits == bits and torch.equal(held(), slot())
    assert stored_bits(held) == 2000 * bits + 32 * 2**bits and (held() != 0).all()


def test_one_bit_is_the_sign_times_the_mean_size() -> None:
    weight = draw(40, 50)
    held = TanhWeight(weight, 1, keep_size=True).held()
    assert isinstance(held, Grid) and held.bits == 1
    assert torch.equal(held.codes.float(), weight.sign())
    assert float(held.step) == pytest.approx(float(weight.abs().mean()), rel=1 / 16)


def test_the_gradient_is_that_of_the_squeezed_weights() -> None:
    """d/dw of size · (2 squeezed − 1): size (1 − tanh²) / max|tanh|; of one bit the gradient passes as it is."""
    weight, upstream = draw(6, 7), draw(7, 6).T
    slot = TanhWeight(weight, 3, keep_size=True)
    slot().backward(upstream)
    bent = weight.tanh()
    torch.testing.assert_close(slot.value.grad, upstream * slot.size * (1 - bent**2) / bent.abs().max())
    single = TanhWeight(weight, 1, keep_size=True)
    single().backward(upstream)
    assert torch.equal(single.value.grad, upstream)


def test_a_kept_size_is_near_the_weights() -> None:
    weight = draw(40, 50) * 0.1
    near, far = (TanhWeight(weight, 8, keep)() - weight for keep in (True, False))
    assert near.abs().max() < 0.05 and far.abs().max() > 0.2


def apply(part: DoReFa, net: Net) -> tuple[Net, Work]:
    data = samples(net)
    work = Work({"fit": trainer(data), "calib": (data.x, data.y)})
    return part.apply(net, work).eval(), work


@pytest.mark.parametrize("bits", [1, 3])
def test_inner_inputs_have_the_levels_of_the_paper(bits: int) -> None:
    held, _ = apply(DoReFa(2, bits, plan=SHORT), small_mlp())
    nodes = [node for node in held.spec.nodes if node.op == CONSTANT]
    assert [(n.args["quant_min"], n.args["quant_max"]) for n in nodes] == [(0, 2**bits - 1)]
    assert nodes[0].args["scale"] == 1 / (2**bits - 1)
    seen: list[Any] = []
    held.run(*inputs_for(held, 64), watch=lambda node, value: seen.append(value) if node.op == CONSTANT else None)
    assert len(seen[0].unique()) <= 2**bits and seen[0].min() >= 0 and seen[0].max() <= 1
    assert f"w32a{bits}" in count(held).macs_by_bits


def test_inputs_that_may_be_negative_stay_real_and_are_noted() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 10)
        net = capture(nn.Sequential(*layers), torch.rand(2, 8))
    held, work = apply(DoReFa(2, 4, real_ends=False, plan=SHORT), net)
    texts = [note.text for note in work.notes]
    assert sum("negative" in text for text in texts) == 1 and sum("network's input" in text for text in texts) == 1
    assert sum(node.op == CONSTANT for node in held.spec.nodes) == 1


def test_digits_with_two_bits_and_two_bits() -> None:
    """64-256-256-10, the middle layer of 2-bit weights and inputs, three seeds; asserted: 94 %."""
    for seed in range(3):
        train, test = digits(seed)
        work = Work({"fit": trainer(train, seed), "calib": (train.x, train.y)})
        held = DoReFa(2, 2, plan=Plan(epochs=15)).apply(deep_mlp(seed), work)
        assert accuracy(held, test) >= 94, (seed, accuracy(held, test))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_rounded_gradients_have_the_levels_of_their_samples_largest(bits: int) -> None:
    """Equation 12: 2^k evenly spaced values from −max|dr| to max|dr|, the maximum over each sample."""
    grad = draw(3, 50, 40).double() * torch.tensor([1.0, 100.0, 0.0]).view(3, 1, 1)
    noise = torch.rand(grad.shape, generator=torch.Generator().manual_seed(1), dtype=grad.dtype) - 0.5
    rounded, high = round_gradient(grad, bits, noise), 2**bits - 1
    assert torch.equal(rounded[2], grad[2]), "a sample without a gradient gets none"
    for made, most in zip(rounded[:2], grad[:2].abs().amax((1, 2)), strict=True):
        codes = (made / most * high + high) / 2
        assert (codes - codes.round()).abs().max() < 1e-9 and (bits > 2 or len(codes.round().unique()) == 2**bits)
        assert float(codes.min()) >= -1e-9 and float(codes.max()) <= high + 1e-9
        assert float(made.abs().max()) == pytest.approx(float(most))
    assert ((rounded - grad).abs() <= 2 * grad.abs().amax((1, 2), keepdim=True) / high * (1 + 1e-9)).all()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_rounded_gradients_are_right_on_the_average(bits: int) -> None:
    """2,000 draws of each of 60 entries: the mean is within 5 standard errors; a level is 2 max|dr| / (2^k − 1) wide."""
    grad = draw(2, 30).double()
    width = 2 * grad.abs().amax(1, keepdim=True) / (2**bits - 1)
    noise = torch.rand((2000, 2, 30), generator=torch.Generator().manual_seed(0), dtype=grad.dtype) - 0.5
    mean = torch.stack([round_gradient(grad, bits, one) for one in noise]).mean(0)
    assert ((mean - grad).abs() <= 5 * width / 2 / 2000**0.5).all()


def test_gradients_are_rounded_at_the_outputs_of_the_layers_whose_weights_are() -> None:
    net, seen = small_mlp(), []
    held = DoReFa(2, gradient_bits=2, plan=SHORT).apply(net, Work({"fit": trainer(samples(net), 0, seen)}))
    assert type(held) is Net and [module.bits for module in seen[0].passes.values()] == [2]
    x = inputs_for(net, 6)[0]
    assert torch.equal(seen[0](x), held.eval()(x)), "the forward pass is as it was"
    value = draw(6, 16).requires_grad_()
    RoundedGradient(2)(value).backward(draw(6, 16))
    most = draw(6, 16).abs().amax(1, keepdim=True)
    assert all(len(row.unique()) <= 4 for row in value.grad)
    assert ((value.grad / most * 1.5 + 1.5).round() / 1.5 - 1 - value.grad / most).abs().max() < 1e-5


@pytest.mark.parametrize(
    "wrong", [{"bits": 0}, {"gradient_bits": 9}, {"activation_bits": 9}, {"size": "two"}, {"real_ends": 2}]
)
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        DoReFa(**wrong)
