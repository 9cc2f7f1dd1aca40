"""Quantizers on values: where they stand, which levels they have, and what becomes of them."""

import math

import pytest
import torch
from torch import Tensor, nn

from contracts.nets import inputs_for, small_conv, small_mlp
from paredown.graph.activations import (
    CONSTANT,
    LEARNABLE,
    fix_activations,
    hold_activations,
    learn_activations,
    observe,
)  # fmt: skip
from paredown.graph.capture import capture
from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.slots import short_float


def signed() -> Net:
    torch.manual_seed(0)
    return capture(
        nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)), torch.rand(2, 6)
    ).eval()


def watched(net: Net, x: Tensor) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    net.run(x, watch=lambda node, value: seen.update({node.name: value}) if isinstance(value, Tensor) else None)
    return seen


@pytest.mark.parametrize("insert", [fix_activations, learn_activations])
def test_every_weighted_layer_reads_a_quantizer(insert) -> None:
    for net in (small_conv().eval(), small_mlp().eval()):
        (x,) = inputs_for(net, 16)
        insert(net, 8, x)
        names = {n.name: n.op for n in net.spec.nodes}
        weighted = [n for n in net.spec.nodes if n.op in WEIGHTED]
        assert {names[n.args["input"]] for n in weighted} <= {CONSTANT, LEARNABLE}
        readers = [n.args["input"] for n in weighted]
        assert len(set(readers)) == sum(op in (CONSTANT, LEARNABLE) for op in names.values())  # one for each value


def test_observe_sees_the_extremes() -> None:
    net, x = signed(), torch.randn(50, 6)
    seen, values = observe(net, x), watched(net, x)
    assert len(seen) == 3
    for name, (low, high, mean) in seen.items():
        value = values.get(name, x)
        assert (low, high) == (float(value.min()), float(value.max())) and mean == pytest.approx(
            float(value.abs().mean())
        )


@pytest.mark.parametrize("bits", [8, 4])
def test_constant_steps_cover_the_range_and_have_zero_as_a_level(bits: int) -> None:
    net, x = signed(), torch.randn(50, 6)
    plain, float_out = observe(net, x), net(x)
    fix_activations(net, bits, x)
    quantizers = [n for n in net.spec.nodes if n.op == CONSTANT]
    assert len(quantizers) == 3
    for node in quantizers:
        scale, zero = node.args["scale"], node.args["zero_point"]
        low, high, _ = plain[node.args["self"]]
        assert (node.args["quant_min"], node.args["quant_max"]) == (0, 2**bits - 1) and 0 <= zero <= 2**bits - 1
        assert scale == pytest.approx((max(high, 0) - min(low, 0)) / (2**bits - 1))
        probe = torch.linspace(min(low, 0), max(high, 0), 1001)
        got = torch.fake_quantize_per_tensor_affine(probe, scale, zero, 0, 2**bits - 1)
        assert (got - probe).abs().max() <= scale * (
            1 + 1e-4
        )  # half a step inside, one at the end that the zero point costs
        assert (got - probe).abs().median() <= scale / 2
        assert torch.fake_quantize_per_tensor_affine(torch.zeros(1), scale, zero, 0, 2**bits - 1) == 0
    error = (net(x) - float_out).abs().max()
    assert 0 < error < {8: 0.05, 4: 0.6}[bits]


@pytest.mark.parametrize("bits", [8, 4])
def test_learned_steps_start_as_the_paper_says(bits: int) -> None:
    net, x = signed(), torch.randn(50, 6)
    seen = observe(net, x)
    shapes = net.shapes()
    learn_activations(net, bits, x)
    for node in (n for n in net.spec.nodes if n.op == LEARNABLE):
        low, _, mean = seen[node.args["self"]]
        levels = (0, 2**bits - 1) if low >= 0 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        assert (node.args["quant_min"], node.args["quant_max"]) == levels
        assert float(net.slot(node.args["scale"])()) == pytest.approx(2 * mean / math.sqrt(levels[1]))
        size = math.prod(shapes[node.args["self"]])
        assert node.args["grad_factor"] == pytest.approx(1 / math.sqrt(size * levels[1]))
    net.train()(x).sum().backward()
    steps = [p for name, p in net.named_parameters() if "step" in name]
    assert len(steps) == 3 and all(p.grad is not None and p.grad.abs() > 0 for p in steps)


@pytest.mark.parametrize("bits", [8, 4])
def test_held_quantizers_compute_what_the_learned_ones_do(bits: int) -> None:
    net, x = signed(), torch.randn(50, 6)
    learn_activations(net, bits, x)
    with torch.no_grad():  # as if training had ended on steps that four significant bits hold
        for node in (n for n in net.spec.nodes if n.op == LEARNABLE):
            slot = net.slot(node.args["scale"])
            slot.value.copy_(short_float(slot.value))
    wanted = net.eval()(x)
    hold_activations(net)
    assert not [n for n in net.spec.nodes if n.op == LEARNABLE] and not [
        n for n in net.slot_names() if n.endswith((".step", ".zero"))
    ]
    torch.testing.assert_close(net(x), wanted, rtol=0, atol=1e-6)
    values = watched(net, x)
    for node in (n for n in net.spec.nodes if n.op == CONSTANT):
        assert len(values[node.name].unique()) <= 2**bits
        codes = values[node.name] / node.args["scale"]
        torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-3)
