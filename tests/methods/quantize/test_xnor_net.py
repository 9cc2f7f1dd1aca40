"""XNOR-Net: counts of equal bits are products (A-S0-13, part E 14), both kinds of scaling, real ends (part F 16)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from contracts.digits_task import accuracy, digits
from contracts.nets import inputs_for, small_conv
from contracts.trained_step import TrainedStepContract, deep_mlp, samples, trainer
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.count import count
from paredown.graph.capture import capture
from paredown.graph.net import Net
from paredown.graph.signs import read_signs_
from paredown.graph.spec import Node
from paredown.methods.quantize.xnor_net import XnorNet, packed_signs, speed_up, xnor_product

SHORT = Plan(epochs=2, batch=16)


class TestXnorNet(TrainedStepContract):
    flips = 0.02

    def part(self) -> XnorNet:
        return XnorNet(plan=SHORT)

    def settings(self) -> list[XnorNet]:
        return [XnorNet(False, False, plan=Plan(epochs=3))]


class TestUnscaled(TrainedStepContract):
    flips = 0.02

    def part(self) -> XnorNet:
        return XnorNet(scaled=False, plan=SHORT)


@given(st.integers(1, 70), st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_counting_equal_bits_is_the_float_product(size: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    left, right = (draw.choice([-1.0, 1.0], (rows, size)) for rows in (5, 7))
    packed = packed_signs(left), packed_signs(right)
    assert packed[0].nbytes == 5 * -(-size // 8)
    assert (xnor_product(*packed, size) == left @ right.T).all()


def test_packed_bits_are_32_times_smaller_than_floats() -> None:
    rows = np.ones((64, 256), np.float32)
    assert rows.nbytes == 32 * packed_signs(rows).nbytes


def test_the_theoretical_speed_up() -> None:
    assert speed_up(256, 9) == pytest.approx(62.27, abs=5e-3)


class Two(nn.Module):
    """Two convolutions with a norm, a rectifier and a pooling between; the rectified values are read elsewhere too."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.c = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.a(x)))
        return self.b(torch.max_pool2d(x, 2)).mean((2, 3)) + self.c(x.mean((2, 3)))


def two() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return capture(Two().eval(), torch.rand(2, 1, 10, 10))


@pytest.mark.parametrize("scaled", [True, False])
def test_a_convolution_of_signs_by_hand(scaled: bool) -> None:
    """What a layer reads is the sign of the pooled, not rectified values; K is the box filter of their mean size."""
    net, (x,) = two(), inputs_for(two(), 6)
    made = net.copy()
    read_signs_(made, ["b.weight"], scaled, lambda layer, why: pytest.fail(f"{layer}: {why}"))
    layers = Two().eval()
    layers.load_state_dict({n: net.slot(n)() for n in net.slot_names()}, strict=False)
    with torch.no_grad():
        normed = layers.norm(layers.a(x))
        real = torch.max_pool2d(normed, 2)
        sign = torch.where(real > 0, 1.0, -1.0)
        product = nn.functional.conv2d(sign, layers.b.weight, None, 2, 1)
        if scaled:
            ones = torch.ones(1, 1, 3, 3) / 9
            product = product * nn.functional.conv2d(real.abs().mean(1, keepdim=True), ones, None, 2, 1)
        head = product + layers.b.bias.view(-1, 1, 1)
        wanted = head.mean((2, 3)) + layers.c(torch.relu(normed).mean((2, 3)))
        torch.testing.assert_close(made.eval()(x), wanted, rtol=1e-4, atol=1e-5)
    assert sum(node.op == "relu" for node in made.spec.nodes) == 1, "the linear layer still reads rectified values"


def test_a_linear_layer_is_scaled_by_the_mean_size_of_each_sample() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)).eval()
    net, x = capture(model, torch.rand(2, 6)), torch.randn(9, 6)
    read_signs_(net, ["2.weight"], True, lambda layer, why: pytest.fail(why))
    with torch.no_grad():
        real = model[0](x)
        sign = torch.where(real > 0, 1.0, -1.0)
        wanted = (sign @ model[2].weight.T) * real.abs().mean(1, keepdim=True) + model[2].bias
        torch.testing.assert_close(net.eval()(x), wanted, rtol=1e-4, atol=1e-5)
    assert not [node for node in net.spec.nodes if node.op == "relu"]


def test_the_gradient_of_a_sign_is_one_up_to_one() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = capture(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)), torch.rand(2, 4))
    read_signs_(net, ["2.weight"], False, lambda layer, why: pytest.fail(why))
    values = torch.tensor([[-2.0, -0.5, 0.5, 2.0]])
    grads: dict[str, Tensor] = {}

    def watch(node: Node, value: Tensor) -> Tensor | None:
        if node.name == net.spec.nodes[0].name:
            grads["in"] = values.clone().requires_grad_()
            return grads["in"]
        return None

    net.train().run(torch.rand(1, 4), watch=watch).sum().backward()
    weight = net.slot("2.weight")().detach()
    assert torch.equal(grads["in"].grad, weight * torch.tensor([[0.0, 1.0, 1.0, 0.0]]))


def test_inner_products_are_of_one_bit_by_one_bit() -> None:
    net, work = small_conv(), Work({"fit": trainer(samples(small_conv()))})
    held = XnorNet(scaled=False, plan=SHORT).apply(net, work)
    cost = count(held)
    assert cost.macs_by_bits["w1a1"] == 8 * 8 * 64 + 12 * 8 * 9 * 64 and cost.bops < count(net).bops / 3
    notes = {note.layer: note.text for note in work.notes}
    assert "real" in notes["stem.weight"] and "real" in notes["fc.weight"]
    assert [text for text in notes.values() if "grouped" in text], "the depthwise layer's input"


@pytest.mark.parametrize("scaled", [True, False])
def test_digits_with_signs_times_signs(scaled: bool) -> None:
    """64-256-256-10, the middle layer XNOR, three seeds; asserted: 94 %."""
    for seed in range(3):
        train, test = digits(seed)
        part = XnorNet(scaled=scaled, plan=Plan(epochs=20, lr=5e-3))
        held = part.apply(deep_mlp(seed), Work({"fit": trainer(train, seed)}))
        assert accuracy(held, test) >= 94, (seed, accuracy(held, test))
        assert [held.slot(name).bits for name, _ in held.weighted()] == [32, 1, 32]


@pytest.mark.parametrize("wrong", [{"scaled": "no"}, {"real_ends": 3}])
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        XnorNet(**wrong)
