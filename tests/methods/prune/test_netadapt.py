"""NetAdapt: every round falls far enough, every group proposes, the best proposal is taken."""

import pytest
import torch
from torch import nn

from contracts.judged import JudgedStepContract, labelled, on_digits, widened
from contracts.nets import small_conv, small_mlp
from contracts.pooled_digits import pooled
from contracts.step import macs, same
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.priced import priced
from paredown.graph.capture import capture
from paredown.graph.groups import groups
from paredown.graph.net import Net
from paredown.methods.prune.amc import Amc
from paredown.methods.prune.meta import Meta
from paredown.methods.prune.netadapt import NetAdapt
from paredown.methods.prune.sensitivity import Sensitivity


class TestNetAdapt(JudgedStepContract):
    def part(self) -> NetAdapt:
        return NetAdapt(0.7, step=0.2, short=0.0, judge="loss")

    def settings(self) -> list[NetAdapt]:
        return [NetAdapt(0.4, "nvidia_t4", 0.1, 0.9, short=2.0, long=3.0, plan=Plan(epochs=2))]


@pytest.mark.parametrize(("make", "cost"), [(small_mlp, "macs"), (small_conv, "params"), (small_conv, "nvidia_t4")])
def test_every_round_falls_by_its_reduction_and_no_further_than_a_unit(make, cost: str) -> None:
    net, step = make(), NetAdapt(0.6, cost, 0.08, 0.9, short=0.0, judge="loss")
    price = priced(cost)
    whole = price(net)
    out, rounds = step.rounds(net, labelled(net))
    cut = 0.08 * whole
    assert len(rounds) > 2
    for at, one in enumerate(rounds):
        assert one.before == (whole if at == 0 else rounds[at - 1].chosen.cost)
        assert one.reduction == pytest.approx(min(cut, one.before - 0.6 * whole))
        assert all(p.units > 0 and p.cost <= one.before - one.reduction + 1e-9 * whole for p in one.proposals)
        assert one.chosen.error == min(p.error for p in one.proposals)
        cut *= 0.9
    assert price(out) == pytest.approx(rounds[-1].chosen.cost) and price(out) <= 0.6 * whole * (1 + 1e-9)


def test_each_round_has_a_proposal_of_every_group_and_each_is_trained() -> None:
    net, seen = pooled(0), list[Net]()
    work = on_digits(0, seen)
    out, rounds = NetAdapt(0.6, step=0.15, short=0.2, judge="loss").rounds(net, work)
    able = [group for group in groups(net) if len(group)]
    assert [len(one.proposals) for one in rounds] == [len(able)] * len(rounds) and len(able) == 3
    assert len(seen) == 3 * len(rounds) and macs(out) <= 0.6 * macs(net)
    for at, one in enumerate(rounds):
        mine = seen[3 * at : 3 * at + 3]
        assert [macs(candidate) for candidate in mine] == [p.cost for p in one.proposals]


def test_a_proposal_takes_the_fewest_units_that_are_enough() -> None:
    """64-32-16-10: a unit of the first layer is 64 + 16 MACs, of the second 32 + 10; 10 % of 2720 are 272."""
    net = small_mlp()
    _, rounds = NetAdapt(0.88, step=0.1, short=0.0, judge="loss").rounds(net, labelled(net))
    assert [(p.group, p.units) for p in rounds[0].proposals] == [("0.weight", 4), ("2.weight", 7)]


def test_a_layer_that_nothing_reads_pays_first() -> None:
    """Two thirds of a layer's channels are dead: all rounds take from them, and the function stays. Three seeds."""
    for seed in range(3):
        net, work = widened(seed, dead=True), on_digits(seed)
        out, rounds = NetAdapt(0.75, step=0.08, short=0.0, judge="loss").rounds(net, work)
        assert [one.chosen.group for one in rounds] == ["4.weight"] * len(rounds) and len(rounds) > 2
        assert same(out.eval()(work.use("calib")[0]), net(work.use("calib")[0]), 1e-5) and macs(out) <= 0.75 * macs(net)
        assert {note.layer for note in work.notes} == {"0.weight", "8.weight", "13.weight"}


def test_a_budget_that_no_group_can_reach_is_refused() -> None:
    net = small_mlp()
    with pytest.raises(BadInput, match="no group alone can lower"):
        NetAdapt(0.02, step=0.5, short=0.0, judge="loss").apply(net, labelled(net))
    with pytest.raises(BadInput, match="decay"):
        NetAdapt(decay=0.2)


@pytest.mark.parametrize(
    "part", [NetAdapt(0.5), Sensitivity(budget=0.5), Amc(0.5), Meta(0.5)], ids=lambda p: p.part_name
)
def test_a_network_without_channels_that_can_go_is_refused_in_words(part) -> None:
    net = capture(nn.Linear(6, 3).eval(), torch.rand(2, 6))
    with pytest.raises(BadInput, match="no channel of this network can go"):
        part.apply(net, labelled(net))


def test_the_long_training_is_the_last_one() -> None:
    net, lengths = small_mlp(), list[float]()
    work = labelled(net)

    def train(made: Net, loss: object, habits: object, plan: Plan) -> None:
        lengths.append(plan.epochs)

    NetAdapt(0.8, step=0.2, short=0.5, long=7.0).apply(net, Work({**work.services, "fit": train}))
    assert lengths[-1] == 7.0 and set(lengths[:-1]) == {0.5}
