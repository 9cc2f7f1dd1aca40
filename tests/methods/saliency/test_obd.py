"""Half the curvature times the square of the weight."""

import pytest
import torch
from torch import Tensor, nn

from contracts.nets import inputs_for, small_mlp
from contracts.saliency import SaliencyContract
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.curves import loss_at
from paredown.graph.net import Net
from paredown.methods.saliency.obd import Obd, damage, gauss_newton


class TestObd(SaliencyContract):
    def part(self) -> Obd:
        return Obd(16)


def test_on_a_quadratic_with_a_diagonal_hessian_the_damage_is_exact() -> None:
    """A-S3-12: L = ½ Σ h (w − w*)² at its minimum w*."""
    h, best = torch.rand(2, 30, generator=torch.Generator().manual_seed(0)).double()
    for at in range(30):
        w = best.clone()
        w[at] = 0
        assert float((0.5 * h * (w - best).square()).sum()) == pytest.approx(float(damage(best, h)[at]), rel=1e-12)


def test_the_diagonal_is_the_hessians_where_the_scores_are_piecewise_linear() -> None:
    """ReLU: in each single weight, in every layer, the scores are linear; labels do not matter on average over p."""
    net = small_mlp().double()
    (x,) = inputs_for(net, 6)
    names = ["0.weight", "4.weight"]
    for name, h in zip(names, gauss_newton(net, names, x), strict=True):
        weight, step = net.slot(name).value.data.view(-1), 1e-4
        for at in map(int, h.flatten().argsort(descending=True)[:200:20]):
            kept, losses = float(weight[at]), []
            for move in (step, 0.0, -step):
                weight[at] = kept + move
                losses.append(expected(net, x, at_rest=small_mlp().double()))
            weight[at] = kept
            bend = (losses[0] - 2 * losses[1] + losses[2]) / step**2
            assert float(h.flatten()[at]) == pytest.approx(bend, rel=2e-3, abs=1e-6)


def expected(net: Net, x: Tensor, at_rest: Net) -> float:
    """Return the cross-entropy with the labels as likely as the network at rest says they are."""
    with torch.no_grad():
        return float(-(at_rest(x).softmax(1) * net(x).log_softmax(1)).sum(1).mean())


def test_its_order_does_less_harm_than_that_of_sizes_where_inputs_have_different_scales() -> None:
    """A-S3-12: a regression on inputs of sizes 1 to 100; the weights are as much smaller as the inputs are larger."""
    torch.manual_seed(0)
    net = capture(nn.Linear(12, 3), torch.rand(2, 12)).double()
    scales = torch.logspace(0, 2, 12).double()
    with torch.no_grad():
        net.slot("weight").value.copy_(torch.randn(3, 12) / scales)
    x = torch.randn(200, 12).double() * scales
    y = net(x).argmax(1)
    weight = net.slot("weight")().detach()
    found = Obd().saliencies(net, ["weight"], Work({"calib": (x, y)}))["weight"]
    harms = {}
    for which, order in (("obd", found.flatten().argsort()), ("size", weight.abs().flatten().argsort())):
        other = net.copy()
        other.slot("weight").value.data.view(-1)[order[:12]] = 0
        harms[which] = float(loss_at(other, x, y, ())[0] - loss_at(net, x, y, ())[0])
    assert harms["obd"] < 0.25 * harms["size"]
