"""A Taylor expansion of the loss at single weights."""

import pytest
import torch
from torch import nn

from contracts.nets import inputs_for, small_mlp
from contracts.saliency import SaliencyContract
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.curves import loss_at
from paredown.methods.saliency.expansion import Expansion, expanded


class TestFirstOrder(SaliencyContract):
    def part(self) -> Expansion:
        return Expansion()


class TestSecondOrder(SaliencyContract):
    def part(self) -> Expansion:
        return Expansion(order=2, batch=16)


def test_a_linear_loss_is_met_by_the_first_order_and_a_quadratic_one_by_the_second() -> None:
    draw = torch.Generator().manual_seed(0)
    w, g, h = torch.randn(3, 20, generator=draw).double()
    assert torch.allclose(expanded(w, g), (g * w) - (g * torch.zeros(20)))
    curved = g + h * w  # of L(w) = gᵀw + ½ Σ h w², whose rise without a weight is −(g w + ½ h w²)
    torch.testing.assert_close(expanded(w, curved, h * w), g * w + 0.5 * h * w.square())


def test_two_orders_are_nearer_to_the_truth_than_one() -> None:
    """The weights of one output of a logistic regression, all but one of them zero: H w is its own curvature times it."""
    torch.manual_seed(0)
    net = capture(nn.Linear(6, 3), torch.rand(2, 6)).double()
    x, y = inputs_for(net, 60)[0] * 4, torch.arange(60) % 3
    errors = {1: 0.0, 2: 0.0}
    for at in range(6):
        alone = net.copy()
        with torch.no_grad():
            alone.slot("weight").value.zero_()[0, at] = 0.8
        without = alone.copy()
        with torch.no_grad():
            without.slot("weight").value.zero_()
        truth = float(loss_at(alone, x, y, ())[0] - loss_at(without, x, y, ())[0])
        for order in errors:
            part = Expansion(order=order, batch=1000)
            found = part.saliencies(alone, ["weight"], Work({"calib": (x, y)}))["weight"][0, at]
            errors[order] += abs(float(found.sqrt()) - abs(truth))
    assert errors[2] < 0.35 * errors[1]


def test_squares_are_taken_batch_by_batch() -> None:
    net, y = small_mlp().double(), torch.arange(12) % 10
    (x,) = inputs_for(net, 12)
    found = Expansion(batch=5).saliencies(net, ["4.weight"], Work({"calib": (x, y)}))["4.weight"]
    weight, wanted = net.slot("4.weight").value, torch.zeros(10, 16).double()
    for some, labels in zip(x.split(5), y.split(5), strict=True):
        (g,) = torch.autograd.grad(loss_at(net, some, labels, ())[0], weight)
        wanted += len(labels) / 12 * (g * weight.detach()).square()
    torch.testing.assert_close(found, wanted)


def test_an_order_of_three_is_refused() -> None:
    with pytest.raises(ValueError, match="order"):
        Expansion(order=3)
