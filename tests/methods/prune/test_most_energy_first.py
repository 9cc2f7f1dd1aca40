"""Layers pruned in order of energy, weights given back, and the rest refit."""

import pytest
import torch
from torch import Tensor, nn

from contracts.nets import inputs_for, small_conv
from contracts.step import StepContract
from paredown.core.work import Work
from paredown.cost.count import layers
from paredown.cost.energy_aware import energy, shares
from paredown.graph.capture import capture
from paredown.graph.masks import mask_, mask_of
from paredown.graph.net import Net
from paredown.methods.prune.most_energy_first import MostEnergyFirst, refit, restored
from paredown.methods.prune.weights import Weights


class TestEnergyAware(StepContract):
    def part(self) -> MostEnergyFirst:
        return MostEnergyFirst(0.6)


def sample(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (x, y, W, kept): correlated inputs [n, samples], what W made of others, and a mask."""
    draw = torch.Generator().manual_seed(seed)
    mixed = torch.randn(9, 9, generator=draw).double()
    before = mixed @ torch.randn(9, 200, generator=draw).double()
    rows = torch.randn(5, 9, generator=draw).double()
    x = before + 0.3 * torch.randn(9, 200, generator=draw).double()
    return x, rows @ before, rows, torch.rand(5, 9, generator=draw) < 0.5


def missing(x: Tensor, y: Tensor, left: Tensor) -> float:
    return float((y - left @ x).square().mean())


def test_each_weight_given_back_is_the_one_that_helps_most() -> None:
    x, y, rows, kept = sample()
    second, target = x @ x.T / 200, y @ x.T / 200
    for count in range(1, 6):
        before, after = restored(rows, kept, second, target, count - 1), restored(rows, kept, second, target, count)
        (new,) = (after & ~before).nonzero().tolist()
        errors = {}
        for at in (~before).nonzero().tolist():
            trial = before.clone()
            trial[at[0], at[1]] = True
            errors[tuple(at)] = missing(x, y, rows * trial)
        assert min(errors, key=lambda at: errors[at]) == tuple(new)


def test_the_refit_solves_the_normal_equations_and_never_does_worse() -> None:
    x, y, rows, kept = sample()
    second, target = x @ x.T / 200, y @ x.T / 200
    left = refit(rows, kept, second, target, ridge=1e-12)
    assert torch.equal(left != 0, kept)
    assert float((((y - left @ x) @ x.T / 200) * kept).abs().max()) < 1e-8
    assert missing(x, y, left) < 0.9 * missing(x, y, rows * kept)
    pulled = refit(rows, kept, second, target, ridge=10.0)
    assert missing(x, y, left) < missing(x, y, pulled) < missing(x, y, rows * kept)


def work(net: Net) -> Work:
    (x,) = inputs_for(net, 64)
    return Work({"calib": (x, torch.zeros(64).long())})


def off(net: Net, out: Net) -> float:
    (x,) = inputs_for(net, 64)
    with torch.no_grad():
        return float((out.eval()(x) - net.eval()(x)).square().mean())


def test_it_stays_nearer_to_the_network_than_sizes_alone() -> None:
    net = small_conv()
    aware, by_size = MostEnergyFirst(0.6).apply(net, work(net)), Weights(0.6).apply(net, work(net))
    for name, _ in net.weighted():
        groups = 8 if name == "deep.weight" else 1
        assert int((~mask_of(aware, name)).sum()) == groups * int(0.6 * mask_of(aware, name).numel() / groups)
    assert off(net, aware) < 0.5 * off(net, by_size)


def test_layers_are_pruned_in_order_of_energy_until_it_is_low_enough() -> None:
    net = small_conv()
    order = [f"{share.name}.weight" for share in shares(layers(net)) if f"{share.name}.weight" in dict(net.weighted())]
    assert order[0] == "wide.weight"
    seen = []
    for target in (0.95, 0.8, 0.7):
        given = work(net)
        out = MostEnergyFirst(0.6, energy=target).apply(net, given)
        touched = [name for name in order if not mask_of(out, name).all()]
        assert touched == order[: len(touched)] and {note.layer for note in given.notes} == set(order) - set(touched)
        reached = energy(layers(out)).value / energy(layers(net)).value
        assert reached <= target or len(touched) == len(order)
        seen.append(len(touched))
    assert seen == sorted(seen) and seen[0] < len(order)


def test_the_layer_of_most_energy_first_takes_less_than_the_linear_layer_first_at_one_number_of_weights() -> None:
    """A-S3-EAP: at equal sparsity. The convolution uses each weight 256 times, the linear layer, a third larger, once."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(256, 6))
    net, gone, found = capture(model.eval(), torch.rand(2, 8, 16, 16)), 700, {}
    first, second = (f"{share.name}.weight" for share in shares(layers(net)))
    for name in (first, second):
        out = net.copy()
        stays = torch.ones_like(out.slot(name)(), dtype=torch.bool)
        stays.view(-1)[:gone] = False
        mask_(out, name, stays)
        found[name] = energy(layers(out)).value
    assert (first, second) == ("0.weight", "4.weight") and found[first] < found[second]


def test_nothing_is_given_back_that_was_masked_before() -> None:
    net = Weights(0.5).apply(small_conv(), Work())
    out = MostEnergyFirst(0.7, restore=1.0).apply(net, work(net))
    for name, _ in net.weighted():
        assert not (mask_of(out, name) & ~mask_of(net, name)).any()
        assert float(mask_of(out, name).float().mean()) == pytest.approx(0.3, abs=0.02)
