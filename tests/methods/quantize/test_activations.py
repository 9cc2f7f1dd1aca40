"""Activations rounded to calibrated ranges."""

import pytest
import torch

from contracts.digits_task import accuracy, digits, mlp
from contracts.nets import inputs_for, small_conv, small_mlp
from contracts.step import StepContract
from paredown.core.work import Work
from paredown.cost.count import count
from paredown.graph.activations import CONSTANT
from paredown.graph.net import Net
from paredown.graph.ranges import METHODS
from paredown.methods.quantize.activations import Activations, quantizer
from paredown.methods.quantize.uniform import Uniform


class TestActivations(StepContract):
    def part(self) -> Activations:
        return Activations()

    def settings(self) -> list[Activations]:
        return [Activations(4, method, 7) for method in METHODS]

    def excused(self, net: Net, weight: str) -> bool:
        return True  # weights are left to other steps


def test_min_max_is_what_uniform_quantization_uses() -> None:
    net, (x,) = small_conv(), inputs_for(small_conv(), 40)
    ours = Activations(8, "min-max").apply(net, Work({"calib": (x, None)}))
    theirs = Uniform(activation_bits=8).apply(net, Work({"calib": (x, None)}))
    for a, b in zip(ours.spec.nodes, theirs.spec.nodes, strict=True):
        assert a.op == b.op and a.args.keys() == b.args.keys()
        if a.op == CONSTANT:
            assert a.args["scale"] == pytest.approx(b.args["scale"]) and a.args["zero_point"] == b.args["zero_point"]


@pytest.mark.parametrize("method", METHODS)
def test_eight_bits_keep_the_digits(method: str) -> None:
    for seed in range(3):
        (train, test), net = digits(seed), mlp(seed)
        held = Activations(8, method).apply(net, Work({"calib": (train.x[:300], None)}))
        assert accuracy(held, test) >= accuracy(net, test) - 1


def test_least_squares_beats_the_extremes_at_four_bits() -> None:
    """On all three seeds, the error of the network's scores."""
    for seed in range(3):
        train, net = digits(seed)[0], mlp(seed)
        errors = {}
        for method in ("min-max", "mse"):
            held = Activations(4, method).apply(net, Work({"calib": (train.x[:300], None)})).eval()
            errors[method] = float((held(train.x) - net.eval()(train.x)).square().mean())
        assert errors["mse"] < 0.95 * errors["min-max"]


def test_a_second_time_is_noted_and_changes_nothing() -> None:
    net, (x,) = small_mlp(), inputs_for(small_mlp(), 40)
    once = Activations().apply(net, Work({"calib": (x, None)}))
    work = Work({"calib": (x, None)}).scoped("quantize.activations", {"calib"})
    twice = Activations().apply(once, work)
    assert twice.spec == once.spec and len(work.notes) == 3
    assert set(count(once).macs_by_bits) == {"w32a8"}


def test_zero_is_one_of_the_levels() -> None:
    for found in ((-1.3, 2.2), (0.0, 5.0), (-3.0, 0.0), (0.5, 2.0)):
        node = quantizer("a", found, 4)
        args = node.args
        assert args["quant_min"] <= args["zero_point"] <= args["quant_max"]
        near = torch.fake_quantize_per_tensor_affine(torch.tensor([0.0, 2.0]), *(args[k] for k in list(args)[1:]))
        assert near[0] == 0 and abs(float(near[1]) - min(2.0, max(found[1], 0))) <= args["scale"]
