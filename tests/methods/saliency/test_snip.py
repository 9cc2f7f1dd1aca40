"""The loss's slope with respect to a factor on each weight."""

import pytest
import torch

from contracts.nets import inputs_for, small_mlp
from contracts.saliency import SaliencyContract
from paredown.core.work import Work
from paredown.graph.curves import loss_at
from paredown.methods.saliency.snip import Snip


class TestSnip(SaliencyContract):
    def part(self) -> Snip:
        return Snip()


def test_it_is_the_slope_of_a_factor_at_one() -> None:
    net = small_mlp().double()
    x, y = inputs_for(net, 24)[0], torch.arange(24) % 10
    found = Snip().saliencies(net, ["2.weight"], Work({"calib": (x, y)}))["2.weight"].flatten()
    weight, step = net.slot("2.weight").value.data.view(-1), 1e-5
    for at in (0, 37, 200, 511):
        kept, losses = float(weight[at]), []
        for factor in (1 + step, 1 - step):
            weight[at] = factor * kept
            losses.append(float(loss_at(net, x, y, ())[0]))
        weight[at] = kept
        assert float(found[at]) == pytest.approx(abs(losses[0] - losses[1]) / (2 * step), rel=1e-5, abs=1e-10)


def test_only_the_first_samples_are_looked_at() -> None:
    net, y = small_mlp(), torch.arange(16) % 10
    (x,) = inputs_for(net, 16)
    few = Snip(samples=4).saliencies(net, ["0.weight"], Work({"calib": (x, y)}))["0.weight"]
    alone = Snip().saliencies(net, ["0.weight"], Work({"calib": (x[:4], y[:4])}))["0.weight"]
    every = Snip().saliencies(net, ["0.weight"], Work({"calib": (x, y)}))["0.weight"]
    assert torch.equal(few, alone) and not torch.equal(few, every)
