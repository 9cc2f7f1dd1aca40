"""The loss's slope with respect to a factor on each weight."""

import pytest
import torch

from contracts.nets import inputs_for, small_mlp
from contracts.saliency import SaliencyContract
from paredown.core.work import Work
from paredown.graph.curves import loss_at
from paredown.methods.saliency.snip import Snip, connection


class TestSnip(SaliencyContract):
    def part(self) -> Snip:
        return Snip()


def test_it_is_the_slope_of_a_factor_at_one() -> None:
    net = small_mlp().double()
    x, y = inputs_for(net, 24)[0], torch.arange(24) % 10
    (slope,) = torch.autograd.grad(loss_at(net, x, y, ())[0], net.slot("2.weight").value)
    total = float((slope * net.slot("2.weight").value).abs().sum())
    found = total * Snip().saliencies(net, ["2.weight"], Work({"calib": (x, y)}))["2.weight"].flatten()
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


def test_shares_sum_to_one_and_the_loss_s_scale_does_not_matter() -> None:
    """A-S4-05: normalised over all weights that are judged; a loss a thousand times as large has the same shares."""
    draw = torch.Generator().manual_seed(0)
    weights, slopes = ([torch.randn(size, generator=draw) for size in ((4, 3), (5,))] for _ in range(2))
    found, scaled = connection(weights, slopes), connection(weights, [1000 * g for g in slopes])
    assert sum(float(value.sum()) for value in found) == pytest.approx(1, rel=1e-6)
    for one, other in zip(found, scaled, strict=True):
        torch.testing.assert_close(one, other)
        assert torch.equal(one.flatten().argsort(), other.flatten().argsort())
    assert float(connection([torch.ones(2)], [torch.zeros(2)])[0].sum()) == 0
    net, x = small_mlp(), inputs_for(small_mlp(), 16)[0]
    names = [name for name, _ in net.weighted()]
    all_of_them = Snip().saliencies(net, names, Work({"calib": (x, torch.arange(16) % 10)}))
    assert sum(float(value.sum()) for value in all_of_them.values()) == pytest.approx(1, rel=1e-5)
