"""High biases absorbed by the next layer (A-S4-29)."""

import functools

import pytest
import torch
from torch import nn

from contracts.nets import small_conv, small_mlp
from contracts.step import StepContract
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.fold import fold_batchnorm
from paredown.graph.net import Net
from paredown.graph.ranges import moments
from paredown.methods.edit.absorb_bias import AbsorbBias, absorbed
from paredown.methods.quantize.activations import Activations


def high(conv: bool = False) -> Net:
    """Return a network whose first biases are high, some of them."""
    return _high(conv).copy()


@functools.cache
def _high(conv: bool) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if conv:
            model = nn.Sequential(
                nn.Conv2d(1, 6, 3),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(6, 4, 3, bias=False),
                nn.Flatten(),
                nn.Linear(4, 10),
            )
        else:
            model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 10, bias=False))
        with torch.no_grad():
            model[0].bias[:3] += 9
    return capture(model, torch.rand(2, 1, 8, 8) if conv else torch.rand(2, 8))


class TestAbsorbBias(StepContract):
    keeps_function = True

    def part(self) -> AbsorbBias:
        return AbsorbBias(4.0)

    def nets(self) -> dict[str, Net]:
        return {"high": high(), "conv": high(True), "mlp": small_mlp(), "folded": fold_batchnorm(small_conv())[0]}

    def excused(self, net: Net, weight: str) -> bool:
        return True  # weights stay as they are, biases change


@pytest.mark.parametrize("conv", [False, True])
def test_biases_fall_and_the_function_is_the_same(conv: bool) -> None:
    net = high(conv).eval()
    x = torch.rand((64, *net.spec.inputs[0][1]), generator=torch.Generator().manual_seed(0))
    work = Work({"calib": (x, None)}).scoped("edit.absorb_bias", {"calib"})
    out = AbsorbBias().apply(net, work).eval()
    fell = net.slot("0.bias")() - out.slot("0.bias")()
    assert (fell[:3] > 5).all() and (fell[3:] >= 0).all() and (fell[3:] < 1).all()
    assert (out(x) - net(x)).abs().max() < 1e-4 * net(x).abs().max()
    assert len(out.slot_names()) == len(net.slot_names()) + 1


def test_quantized_activations_gain() -> None:
    net, x = high().eval(), torch.rand((200, 8), generator=torch.Generator().manual_seed(0))
    errors = []
    for prepared in (net, AbsorbBias().apply(net, Work({"calib": (x, None)}))):
        held = Activations(4, "min-max").apply(prepared, Work({"calib": (x, None)})).eval()
        errors.append(float((held(x) - net(x)).norm()))
    assert errors[1] < 0.5 * errors[0]


def test_the_constant_by_hand_and_the_moments() -> None:
    assert absorbed(torch.tensor([5.0, 1.0, -2.0]), torch.tensor([1.0, 1.0, 0.1]), 3.0).tolist() == [2, 0, 0]
    net, x = high().eval(), torch.rand((50, 8))
    mean, deviation = moments(net, x)[pair_maker(net)]
    raw = x @ net.slot("0.weight")().T + net.slot("0.bias")()
    torch.testing.assert_close(mean, raw.mean(0))
    torch.testing.assert_close(deviation, raw.std(0, correction=0))


def pair_maker(net: Net) -> str:
    return next(n.name for n in net.spec.nodes if n.op == "linear")


def test_a_layer_that_pads_takes_nothing_and_what_has_nothing_to_give_is_noted() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        padded = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1))
        low = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        with torch.no_grad():
            low[0].bias.zero_()
    for model, shape, word in ((padded, (1, 5, 5), "pads"), (low, (4,), "above zero")):
        x = torch.rand(20, *shape, generator=torch.Generator().manual_seed(0)) - 0.5
        work = Work({"calib": (x, None)}).scoped("edit.absorb_bias", {"calib"})
        AbsorbBias().apply(capture(model, x[:2]), work)
        assert any(word in n.text for n in work.notes if n.layer == "0.weight")
