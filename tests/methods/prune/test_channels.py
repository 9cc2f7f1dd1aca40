"""Channels go, with everything that hangs on them; the rest of the network computes as before."""

import functools

import pytest
import torch
from torch import Tensor, nn

from contracts.digits_task import accuracy
from contracts.nets import small_conv, small_mlp
from contracts.pooled_digits import pictures, pooled
from contracts.step import StepContract, macs, params, same
from contracts.trained_step import trainer
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.groups import Group, groups
from paredown.graph.net import Net
from paredown.graph.shrink import mask_channels
from paredown.graph.slots import Free
from paredown.methods.prune.channels import Channels, balanced, leaving, lowest_of_all
from paredown.methods.score.l1 import L1
from paredown.methods.score.l2 import L2
from paredown.methods.score.lasso import Lasso
from paredown.methods.score.random_channels import RandomChannels
from paredown.methods.score.taylor import Taylor
from paredown.methods.score.thinet import ThiNet
from paredown.methods.train.finetune import Finetune


class TestChannels(StepContract):
    def part(self) -> Channels:
        return Channels(0.5)

    def settings(self) -> list[Channels]:
        return [
            Channels(0.25, score=Taylor("weight")),
            Channels(0.7, L2(), "global"),
            Channels(0.3, multiple_of=4, greedy=True),
            Channels(0.3, ThiNet(images=3), repair=True),
        ]


class TestChannelsByTaylor(StepContract):
    def part(self) -> Channels:
        return Channels(0.4, score=Taylor(), scope="global")


class TestChannelsRepaired(StepContract):
    def part(self) -> Channels:
        return Channels(0.4, ThiNet(images=2), repair=True)


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


def test_globally_the_count_is_exact_and_equal_scores_too() -> None:
    a = Group("a", ((),) * 4, (), needed=(frozenset(range(4)),))
    b = Group("b", ((),) * 3, (), needed=(frozenset(range(3)),))
    one = torch.ones(4), torch.ones(3)
    assert lowest_of_all(one, (a, b), 3) == [(0, 1, 2), ()]
    assert lowest_of_all(one, (a, b), 5) == [(0, 1, 2), (0, 1)], "one stays of each; the next ones go in its place"
    assert lowest_of_all(one, (a, b), 7) == [(0, 1, 2), (0, 1)]
    some = torch.tensor([0.5, torch.inf, 0.1, torch.inf]), torch.tensor([0.3, 0.2, 0.9])
    assert lowest_of_all(some, (a, b), 3) == [(2,), (0, 1)]
    assert lowest_of_all(some, (a, b), 9) == [(0, 2), (0, 1)], "the infinite ones stay"
    assert balanced(some[0])[1] == torch.inf and float(balanced(some[0])[[0, 2]].square().mean()) == pytest.approx(1)


def test_globally_what_stays_is_a_multiple_and_no_layer_goes() -> None:
    net = small_mlp()
    for multiple, ratio in ((4, 0.5), (8, 0.6), (8, 0.95)):
        kept = [
            Channels(ratio, L1(), "global", m).apply(net, Work()).slot(f"{n}.weight")().shape[0]
            for m in (1, multiple)
            for n in (0, 2)
        ]
        assert all(
            found % multiple == 0 and 0 <= found - free < multiple
            for free, found in zip(kept[:2], kept[2:], strict=True)
        )
        assert min(kept) >= 1


def test_repair_needs_the_calibration_split_and_only_then() -> None:
    net, work = small_mlp(), Work().scoped("prune.channels", ())
    Channels(0.5).apply(net, work)
    with pytest.raises(LookupError, match="calib"):
        Channels(0.5, repair=True).apply(net, work)


def left(score: object, seed: int, repair: bool) -> float:
    """Return the accuracy after half of every layer went by `score`, without training."""
    test, work = pictures(seed)[1], Work({"calib": (pictures(seed)[0].x, pictures(seed)[0].y)}, seed)
    return accuracy(Channels(0.5, score, repair=repair).apply(pooled(seed), work).eval(), test)


def test_repair_without_training() -> None:
    """A-S0-17 and A-S4-10: half of every layer goes, nothing is trained; on three seeds.

    Measured: ThiNet 13.3, 21.1, 21.3 %, repaired 91.8, 94.7, 96.0; LASSO repaired 92.9, 93.3, 95.1; channels by lot repaired
    88.2, 91.3, 91.1; L1 23.8, 24.0, 27.8, repaired 93.6, 91.6, 94.4; whole 98.2, 98.4, 99.3.
    """
    for seed in range(3):
        thinet, lasso, lot = (left(score, seed, repair=True) for score in (ThiNet(), Lasso(), RandomChannels()))
        assert min(thinet, lasso) > lot + 1 and thinet > left(ThiNet(), seed, repair=False) + 50


@functools.cache
def normed(seed: int) -> Net:
    """Return Part H's 16-32-64 with norms, trained for 6 epochs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for before, after in ((1, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if after < 64 else []
        model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
        net = capture(model, torch.rand(2, 1, 8, 8))
    work = Work({"fit": trainer(pictures(seed)[0], seed)}, seed)
    return Finetune(plan=Plan(epochs=6, lr=1e-2, batch=128)).apply(net, work).eval()


def test_half_of_every_layer_and_six_epochs() -> None:
    """Part H: with L1 within 2.5 points of the whole network after fine-tuning, on each of three seeds.

    Measured: 98.7, 98.4, 97.8 % against 99.1, 97.8, 98.2 whole. Part H's second claim, that L1 is no worse than channels by lot on the mean, has no margin and is not
    asserted: with 10 epochs before and batches of 64, 98.2 against 98.9 %, and 98.3 against 98.2 % at a third of the learning
    rate and twice the epochs.
    """
    for seed in range(3):
        net, (train, test) = normed(seed), pictures(seed)
        work = Work({"fit": trainer(train, seed)}, seed)
        thin = Finetune(plan=Plan(epochs=6, lr=1e-2, batch=128)).apply(Channels(0.5).apply(net, work), work)
        assert accuracy(thin.eval(), test) > accuracy(net, test) - 2.5
