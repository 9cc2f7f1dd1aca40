"""Layers share one weight."""

import functools
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.digits_task import digits
from contracts.nets import inputs_for, small_mlp
from contracts.step import StepContract
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.count import count
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.graph.slots import Grid
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.share.tie import Tie, places
from paredown.targets.container import read, write
from paredown.targets.onnx import Onnx
from paredown.train.fit import fit


class Residual(nn.Module):
    """A stem, five residual blocks of two convolutions each with a norm, and a linear layer; the fourth block is wider inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        inner = [8, 8, 8, 16, 8]
        self.a = nn.ModuleList(nn.Conv2d(8, wide, 3, padding=1) for wide in inner)
        self.n = nn.ModuleList(nn.BatchNorm2d(wide) for wide in inner)
        self.b = nn.ModuleList(nn.Conv2d(wide, 8, 3, padding=1) for wide in inner)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for a, n, b in zip(self.a, self.n, self.b, strict=True):
            x = x + b(F.relu(n(a(F.relu(x)))))
        return self.fc(x.mean((2, 3)))


def residual() -> Net:
    return _residual().copy()


def deep_mlp() -> Net:
    return _deep().copy()


@functools.cache
def _residual() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return capture(Residual().eval(), torch.rand(2, 1, 8, 8))


@functools.cache
def _deep() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers: list[nn.Module] = [nn.Linear(64, 32), nn.ReLU()]
        for _ in range(3):
            layers += [nn.Linear(32, 32), nn.ReLU()]
        return capture(nn.Sequential(*layers, nn.Linear(32, 10)), torch.rand(2, 64))


class TestTie(StepContract):
    def part(self) -> Tie:
        return Tie()

    def settings(self) -> list[Tie]:
        return [Tie(0, "first"), Tie(1000)]

    def nets(self) -> dict[str, Net]:
        return {"residual": residual(), "deep": deep_mlp(), "nothing to tie": small_mlp()}


class TestFirstOfAll(TestTie):
    def part(self) -> Tie:
        return Tie(0, "first")

    def excused(self, net: Net, weight: str) -> bool:
        """The first weight is kept, and stands for others."""
        return weight in tied(self.part().apply(net, Work()))


def tied(net: Net) -> dict[str, list[str]]:
    """Return {slot: nodes that read it} of those that several read."""
    return {name: [n.name for n in nodes] for name, nodes in net.spec.slot_users().items() if len(nodes) > 1}


def test_places_are_those_in_residual_branches() -> None:
    found = places(residual())
    conv = ("conv2d", (8, 8, 3, 3), 1)
    assert found["a.0.weight"] == found["a.4.weight"] == (2, 0, *conv) and found["b.1.weight"] == (2, 1, *conv)
    assert found["a.3.weight"] == (2, 0, "conv2d", (16, 8, 3, 3), 1)
    assert found["stem.weight"][:2] == found["fc.weight"][:2] == (1, 0)


def test_counted_parameters_fall_by_what_is_tied() -> None:
    net = residual()
    work = Work().scoped("share.tie", ())
    out = Tie(2).apply(net, work)
    assert {name: len(nodes) for name, nodes in tied(out).items()} == {
        "a.0.weight": 2, "b.0.weight": 2, "a.2.weight": 2, "b.2.weight": 2,
    }  # fmt: skip
    before, after = count(net), count(out)
    assert before.params - after.params == 4 * 8 * 8 * 9 and before.bits - after.bits == 32 * 4 * 8 * 8 * 9
    assert before.macs == after.macs
    assert {note.layer for note in work.notes} == {"stem.weight", "a.3.weight", "b.3.weight", "fc.weight"}
    assert "(16, 8, 3, 3)" in next(note.text for note in work.notes if note.layer == "a.3.weight")
    whole = Tie(0).apply(net, Work())
    assert sorted(tied(whole)) == ["a.0.weight", "b.0.weight"] and len(tied(whole)["a.0.weight"]) == 4


@pytest.mark.parametrize("start", ["mean", "first"])
def test_where_the_shared_weight_starts(start: str) -> None:
    net = deep_mlp()
    out = Tie(3, start).apply(net, Work())
    weights = [net.slot(f"{at}.weight")() for at in (2, 4, 6)]
    wanted = torch.stack(weights).mean(0) if start == "mean" else weights[0]
    assert torch.equal(out.slot("2.weight")(), wanted) and "4.weight" not in out.slot_names()
    assert [out.slot(f"{at}.bias")().numel() for at in (2, 4, 6)] == [32] * 3
    with torch.no_grad():
        for at in (2, 4, 6):
            net.slot(f"{at}.weight").value.copy_(wanted)
        x = inputs_for(net, 8)[0]
        assert torch.equal(net(x), out(x))


def test_one_tensor_it_stays(tmp_path: Path) -> None:
    """After training, in the saved network, in the ONNX file and in the packed one."""
    out = Tie(0).apply(deep_mlp(), Work())
    before = out.slot("2.weight")().detach().clone()
    fit(out, digits(0)[0], CrossEntropy(), plan=Plan(epochs=1))
    assert not torch.equal(out.slot("2.weight")(), before) and len(tied(out)["2.weight"]) == 3
    out.save(tmp_path)
    again = Net.load(tmp_path).eval()
    assert tied(again) == tied(out)
    x = digits(0)[1].x[:50]
    with torch.no_grad():
        wanted = out.eval()(x).numpy()
        assert np.array_equal(again(x).numpy(), wanted)
    path = Path(Onnx().write(freeze(out), tmp_path).path)
    np.testing.assert_allclose(Onnx().load(path)(x.numpy()), wanted, rtol=1e-4, atol=1e-5)
    assert [tuple(t.dims) for t in onnx.load(path).graph.initializer].count((32, 32)) == 1
    packed = read(write(freeze(out))[0])
    assert [t.shape for t in packed.tensors.values()].count((32, 32)) == 1
    assert len([node for node in packed.spec.nodes if node.op == "linear"]) == 5


def test_the_gradient_is_the_sum_over_its_places() -> None:
    net, out = deep_mlp(), Tie(0).apply(deep_mlp(), Work())
    with torch.no_grad():
        for at in (2, 4, 6):
            net.slot(f"{at}.weight").value.copy_(out.slot("2.weight")())
    x = inputs_for(net, 8)[0]
    for one in (net, out):
        one(x).square().sum().backward()
    wanted = sum(net.slot(f"{at}.weight").value.grad for at in (2, 4, 6))
    assert torch.allclose(out.slot("2.weight").value.grad, wanted, atol=1e-5)


def test_what_is_tied_or_held_otherwise_is_left_alone() -> None:
    once = Tie(2).apply(deep_mlp(), Work())
    work = Work().scoped("share.tie", ())
    again = Tie(0).apply(once, work)
    assert ("2.weight", "it is tied already") in [(note.layer, note.text) for note in work.notes]
    assert again.spec == once.spec
    net = deep_mlp()
    net.set_slot("4.weight", Grid(torch.ones(32, 32), torch.tensor(0.1), 4))
    out = Tie(0).apply(net, Work())
    assert len(tied(out)["2.weight"]) == 2 and isinstance(out.slot("4.weight"), Grid)
    with pytest.raises(BadInput, match="start"):
        Tie(2, "last")
