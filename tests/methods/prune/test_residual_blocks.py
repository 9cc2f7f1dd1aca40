"""Residual branches: found where they are, removed with all that only they need, least influence first."""

import pytest
import torch
from torch import Tensor, nn

from contracts.nets import small_conv, small_mlp
from contracts.step import StepContract, macs, params, same
from contracts.trained_step import samples
from paredown.core.errors import BadInput
from paredown.core.metric import METRICS, quality
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.net import Net
from paredown.graph.residual import branches, without
from paredown.methods.prune.residual_blocks import SCORES, ResidualBlocks, changes, influence, relative


class TestBlocks(StepContract):
    def part(self) -> ResidualBlocks:
        return ResidualBlocks(1)

    def settings(self) -> list[ResidualBlocks]:
        return [ResidualBlocks(2, "loss", False), ResidualBlocks(3, "metric")]


class Tower(nn.Module):
    """Four residual branches that add a scaled part of what a layer makes, the third with a projection beside it."""

    def __init__(self, scales: tuple[float, ...] = (1.0, 0.01, 0.5, 0.3)) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(8, 16), nn.Linear(16, 5)
        self.project = nn.Linear(16, 16, bias=False)
        self.one = nn.ModuleList(nn.Linear(16, 16) for _ in scales)
        self.two = nn.ModuleList(nn.Linear(16, 16) for _ in scales)
        for layer, scale in zip(self.two, scales, strict=True):
            layer.weight.data.mul_(scale)
            layer.bias.data.mul_(scale)

    def forward(self, x: Tensor, leave: int = -1) -> Tensor:
        x = torch.relu(self.stem(x))
        for at, (one, two) in enumerate(zip(self.one, self.two, strict=True)):
            short = self.project(x) if at == 2 else x
            x = short if at == leave else short + two(torch.relu(one(x)))
        return self.head(x)


def tower(*scales: float) -> tuple[Tower, Net]:
    """Return a tower and its network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Tower(*(scales,) if scales else ()).eval()
    return model, capture(model, torch.rand(2, 8))


def labelled(net: Net, model: nn.Module) -> Work:
    """Return samples with the labels that `model` gives."""
    x = samples(net, 64).x
    y = model(x).argmax(1).detach()

    def evaluate(other: Net) -> object:
        return quality(METRICS["accuracy"], "val", other.eval()(x).detach().numpy(), y.numpy())

    return Work({"calib": (x, y), "evaluate": evaluate})


def test_branches_are_found_and_without_one_the_network_is_the_model_that_skips_it() -> None:
    model, net = tower()
    found = branches(net)
    assert [set(branch.slots) for branch in found] == [
        {f"{part}.{at}.{what}" for part in ("one", "two") for what in ("weight", "bias")} for at in range(4)
    ]
    x = torch.rand(6, 8)
    for at, branch in enumerate(found):
        out = without(net, branch)
        assert same(out(x), model(x, leave=at), 1e-6) and not same(out(x), net(x), 1e-6)
        assert params(net) - params(out) == macs(net) - macs(out) + 32 == 2 * 17 * 16
        assert len(branches(out)) == 3


def test_what_is_no_residual_branch() -> None:
    """A sum of two equal ways, of one value with itself, of other shapes, of two inputs, and a scaled one."""

    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 1)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return (self.a(x) + self.b(x)) + (x + x) + self.c(x) + torch.add(x, self.a(x), alpha=2) + torch.add(x, y)

    net = capture(Sums().eval(), (torch.rand(2, 8), torch.rand(2, 8)))
    names = {branch.name for branch in branches(net)}
    inner = [n for n in net.spec.nodes if n.op == "add.Tensor" and (n.args.get("alpha") == 2 or n.args["other"] == "y")]
    first = next(n for n in net.spec.nodes if n.op == "add.Tensor")
    assert len(inner) == 2 and not names & {n.name for n in inner} and first.name not in names


def test_the_branch_that_adds_least_goes_first_by_every_score() -> None:
    model, net = tower(1.0, 0.001, 0.5, 0.3)
    for score in ("influence", "relative", "metric"):
        out = ResidualBlocks(1, score).apply(net, labelled(net, model))
        assert "one.1.weight" not in out.slot_names() and len(branches(out)) == 3, score


def test_by_loss_it_is_the_best_of_all_that_lack_one() -> None:
    model, net = tower()
    work = labelled(net, model)
    x, y = work.use("calib")
    losses = [float(torch.nn.functional.cross_entropy(without(net, b)(x), y)) for b in branches(net)]
    out = ResidualBlocks(1, "loss").apply(net, work)
    assert float(torch.nn.functional.cross_entropy(out(x), y)) == pytest.approx(min(losses))
    assert set(SCORES) == {"influence", "relative", "loss", "metric"} and len(set(losses)) == 4


def test_influence_is_one_less_the_cosine() -> None:
    x = torch.rand(5, 3, 2)
    assert influence(x, 3 * x).abs().max() < 1e-6 and (influence(x, -x) - 2).abs().max() < 1e-6
    turned = torch.stack([-x[:, 1], x[:, 0], x[:, 2] * 0], 1)
    assert (influence(x * torch.tensor([1.0, 1, 0])[:, None], turned) - 1).abs().max() < 1e-6
    assert (relative(x, 2 * x) - 0.5).abs().max() < 1e-6


def test_changes_are_those_of_the_values_themselves() -> None:
    _, net = tower()
    x = torch.rand(7, 8)
    seen = {}
    net.run(x, watch=lambda node, value: seen.update({node.name: value.detach()}))
    found = branches(net)
    wanted = [float(influence(seen[b.kept], seen[b.name]).mean()) for b in found]
    assert changes(net, found, x, influence) == pytest.approx(wanted, rel=1e-5) and len(set(wanted)) == 4


def test_branches_inside_go_with_the_one_outside() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            inner = torch.relu(self.a(x))
            inner = inner + torch.relu(self.b(inner))
            return self.c(x + inner)

    net = capture(Nested().eval(), torch.rand(2, 8))
    outer = branches(net)[-1]
    assert {"a.weight", "b.weight"} <= set(outer.slots)
    out = without(net, outer)
    x = torch.rand(4, 8)
    assert out.slot_names() == ["c.weight", "c.bias"]
    assert same(out(x), torch.nn.functional.linear(x, net.slot("c.weight")(), net.slot("c.bias")()), 1e-6)


def test_more_than_there_are_removes_all_and_none_is_said() -> None:
    work = Work()
    out = ResidualBlocks(5, "loss").apply(small_conv(), Work({"calib": (torch.rand(8, 1, 8, 8), torch.arange(8))}))
    assert not branches(out) and "deep.weight" not in out.slot_names()
    same_net = ResidualBlocks(2).apply(small_mlp(), work)
    assert {n.layer for n in work.notes} == {"0.weight", "2.weight", "4.weight"} and same_net.spec == small_mlp().spec
    with pytest.raises(BadInput, match="count"):
        ResidualBlocks(0)
