"""A flow of ones through the absolute weights."""

import pytest
import torch
from torch import nn

from contracts.nets import small_conv, small_mlp
from contracts.saliency import SaliencyContract
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.fold import fold_batchnorm
from paredown.graph.net import Net
from paredown.methods.saliency.synflow import Synflow


class TestSynflow(SaliencyContract):
    def part(self) -> Synflow:
        return Synflow()


def found(net: Net) -> dict[str, torch.Tensor]:
    return Synflow().saliencies(net, [name for name, _ in net.weighted()], Work().scoped("saliency.synflow", ()))


def test_it_is_the_product_of_the_weights_on_every_path() -> None:
    """R = 1ᵀ |W₃| |W₂| |W₁| 1: the score of one weight is what all paths through it carry."""
    net = small_mlp()
    first, second, third = (net.slot(f"{at}.weight")().detach().double().abs() for at in (0, 2, 4))
    wanted = (third.sum(0) @ second)[:, None] * first
    torch.testing.assert_close(found(net)["0.weight"], wanted)


def test_every_layer_of_a_chain_carries_the_same() -> None:
    """Part H: equal to less than 1e-6; with biases, norms that have seen data, and pooling in between."""
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(1, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
    ]
    model = nn.Sequential(*layers, nn.Linear(8, 12), nn.LayerNorm(12), nn.ReLU(), nn.Linear(12, 10)).train()
    for _ in range(3):
        model(torch.randn(16, 1, 8, 8))
    for net in (capture(model.eval(), torch.rand(2, 1, 8, 8)), small_mlp()):
        sums = [float(value.sum()) for value in found(net).values()]
        assert sums == pytest.approx([sums[0]] * len(sums), rel=1e-6) and sums[0] > 0


def test_what_flows_into_a_unit_flows_out_of_it() -> None:
    flows = found(small_mlp())
    torch.testing.assert_close(flows["0.weight"].sum(1), flows["2.weight"].sum(0), rtol=1e-9, atol=0)


def test_folding_norms_changes_no_score() -> None:
    net = small_conv()
    before, after = found(net), found(fold_batchnorm(net)[0])
    assert before.keys() == after.keys()
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=1e-5, atol=0)
