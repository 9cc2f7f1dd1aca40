"""Channels go, with everything that hangs on them; the rest of the network computes as before."""

import pytest
import torch
from torch import Tensor, nn

from contracts.nets import small_conv, small_mlp
from contracts.step import StepContract, macs, params, same
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.groups import groups
from paredown.graph.net import Net
from paredown.graph.shrink import mask_channels
from paredown.graph.slots import Free
from paredown.methods.prune.channels import Channels, balanced, leaving
from paredown.methods.score.l1 import L1
from paredown.methods.score.l2 import L2
from paredown.methods.score.taylor import Taylor


class TestChannels(StepContract):
    def part(self) -> Channels:
        return Channels(0.5)

    def settings(self) -> list[Channels]:
        return [
            Channels(0.25, score=Taylor("weight")),
            Channels(0.7, L2(), "global"),
            Channels(0.3, multiple_of=4, greedy=True),
        ]


class TestChannelsByTaylor(StepContract):
    def part(self) -> Channels:
        return Channels(0.4, score=Taylor(), scope="global")


def chain(weights: list[Tensor]) -> Net:
    """Return 1×1 convolutions with ReLUs between, with these (output × input) weights."""
    layers: list[nn.Module] = []
    for weight in weights:
        layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False)
        layer.weight.data = weight[:, :, None, None].clone()
        layers += [layer, nn.ReLU()]
    return capture(nn.Sequential(*layers[:-1]).eval(), torch.rand(1, weights[0].shape[1], 4, 4))


def test_the_thin_network_is_the_masked_one() -> None:
    net = small_conv().eval()
    thin = Channels(0.5).apply(net, Work())
    masked = net
    for group in groups(net):
        if len(group):
            masked = mask_channels(masked, group, group.lowest(L1().importance(net, group, Work()), len(group) // 2))
    x = torch.rand(5, 1, 8, 8)
    assert same(masked.eval()(x), thin.eval()(x), 1e-6) and params(thin) < params(net)


def test_cost_falls_as_the_formula_says() -> None:
    net = chain([torch.rand(8, 3), torch.rand(10, 8), torch.rand(5, 10)])
    thin = Channels(0.5).apply(net, Work())
    assert macs(net) == 16 * (8 * 3 + 10 * 8 + 5 * 10)
    assert macs(thin) == 16 * (4 * 3 + 5 * 4 + 5 * 5)


def test_greedy_does_not_count_weights_that_read_removed_channels() -> None:
    """Li et al., figure 3. The second layer's filter 0 is large only where it reads the channel that goes."""
    first = torch.tensor([[0.1], [1.0]])
    second = torch.tensor([[9.0, 0.1], [0.1, 1.0]])
    net = chain([first, second, torch.eye(2)])

    def kept(step: Channels) -> float:
        return float(step.apply(net, Work()).slot("2.weight")().flatten())

    assert kept(Channels(0.5)) == pytest.approx(0.1), "independent: sums 9.1 and 1.1, filter 0 stays"
    assert kept(Channels(0.5, greedy=True)) == pytest.approx(1.0), "greedy: sums 0.1 and 1.0, filter 1 stays"


def test_how_many_go() -> None:
    assert [leaving(8, r) for r in (0.0, 0.1, 0.125, 0.5, 0.95)] == [0, 0, 1, 4, 7]
    assert leaving(10, 0.3) == 3 and leaving(1, 0.9) == 0
    assert [20 - leaving(20, 0.5, s) for s in (1, 4, 8, 16, 32)] == [10, 12, 16, 16, 20]


def test_what_stays_is_a_multiple() -> None:
    net = small_mlp()
    thin = Channels(0.4, multiple_of=8).apply(net, Work())
    assert [thin.slot(f"{n}.weight")().shape[0] for n in (0, 2, 4)] == [24, 16, 10]


def test_global_takes_from_where_it_matters_least() -> None:
    first = torch.cat([torch.full((4, 3), 1.0), torch.full((4, 3), 0.01)])
    net = chain([first, torch.rand(8, 8) + 5, torch.rand(5, 8)])
    thin = Channels(0.25, scope="global").apply(net, Work())
    assert thin.slot("0.weight")().shape[0] == 4 and thin.slot("2.weight")().shape[0] == 8
    assert (thin.slot("0.weight")() == 1).all()


def test_each_group_keeps_one_under_any_ratio() -> None:
    thin = Channels(0.95, scope="global").apply(small_conv(), Work())
    assert min(min(thin.slot(n)().shape, default=1) for n in thin.slot_names()) >= 1
    assert balanced(torch.zeros(3)).tolist() == [0, 0, 0]


def test_tied_layers_that_stay_are_noted() -> None:
    work = Work()
    Channels(0.5).apply(small_mlp(), work.scoped("prune.channels", ()))
    assert [(n.step, n.layer) for n in work.notes] == [("prune.channels", "4.weight")]
    assert "returned by the network" in work.notes[0].text


def test_bad_settings_are_refused() -> None:
    for bad in (
        lambda: Channels(1.0),
        lambda: Channels(-0.1),
        lambda: Channels(scope="layer"),
        lambda: Channels(scope="global", greedy=True),
        lambda: Channels(multiple_of=0),
        lambda: Channels(scope="global", multiple_of="8"),  # type: ignore[arg-type]
    ):
        with pytest.raises(BadInput):
            bad()


def test_dead_channels_go_without_a_trace() -> None:
    net = small_mlp().eval()
    group = groups(net)[0]
    dead = [unit for unit in range(len(group)) if unit % 2]
    blank = mask_channels(net, group, dead).eval()
    for name in blank.slot_names():
        blank.set_slot(name, Free(blank.slot(name)()))
    thin = Channels(0.5).apply(blank, Work())
    x = torch.rand(6, 64)
    assert thin.slot("0.weight")().shape == (16, 64)
    first = torch.nn.functional.linear(x, thin.slot("0.weight")(), thin.slot("0.bias")())
    alive = [unit for unit in range(len(group)) if unit not in dead]
    assert same(first, torch.nn.functional.linear(x, net.slot("0.weight")(), net.slot("0.bias")())[:, alive], 1e-6)
