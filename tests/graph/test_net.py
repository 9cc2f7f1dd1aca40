"""A Net runs like the module it stands for, and its files are whole, plain and checked."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from contracts.nets import inputs_for, small_conv, small_mlp
from paredown.core.errors import BadInput, Damaged
from paredown.graph.capture import capture
from paredown.graph.net import Net
from paredown.graph.slots import Codebook, Fixed, Grid, LearnedStep, Masked
from paredown.graph.spec import Node, Slot, Spec, Value


def mixed() -> Net:
    """Return a network with every kind of slot."""
    net = small_conv()
    weights = [name for name, _ in net.weighted()]
    value = {name: net.slot(name)().detach() for name in weights}
    net.set_slot(weights[0], Masked(value[weights[0]], value[weights[0]] > 0))
    net.set_slot(weights[1], Grid((value[weights[1]] * 20).round().clamp(-8, 7), torch.tensor(0.05), 4))
    net.set_slot(weights[2], Codebook(torch.randint(0, 3, value[weights[2]].shape), torch.tensor([-0.2, 0.0, 0.2])))
    return net.eval()


def test_what_is_saved_computes_the_same(tmp_path: Path) -> None:
    net = mixed()
    net.save(tmp_path / "a" / "b")
    again = Net.load(tmp_path / "a" / "b").eval()
    x = inputs_for(net)
    assert (
        torch.equal(again(*x), net(*x))
        and again.spec == net.spec
        and again.forms() == {"masked", "quantized", "shared"}
    )
    assert {k: v.dtype for k, v in again.state_dict().items()} == {k: v.dtype for k, v in net.state_dict().items()}
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == ["net.json", "weights.safetensors"]


def test_a_form_for_training_is_not_saved(tmp_path: Path) -> None:
    net = small_mlp()
    name, _ = next(net.weighted())
    net.set_slot(name, LearnedStep(net.slot(name)(), 4, torch.tensor(0.1)))
    with pytest.raises(BadInput, match="training only"):
        net.save(tmp_path)


class Boom:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("boom"),))


def test_a_pickle_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for victim in ("weights.safetensors", "net.json"):
        mixed().save(tmp_path / "net")
        (tmp_path / "net" / victim).write_bytes(pickle.dumps({"weight": Boom()}))
        with pytest.raises(Damaged):
            Net.load(tmp_path / "net")
    assert not (tmp_path / "boom").exists()


def described(net: Net, folder: Path) -> dict:
    net.save(folder)
    return json.loads((folder / "net.json").read_text())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "3",
        '"spec"',
        "{}",
        '{"spec": 1, "slots": {}}',
        "[" * 100_000,
        '{"spec": {}, "slots": {}}',
        "\xff",
        "{'a': 1}",
    ],
)
def test_a_description_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    small_mlp().save(tmp_path)
    (tmp_path / "net.json").write_text(text, encoding="latin1")
    with pytest.raises(BadInput) as error:
        Net.load(tmp_path)
    assert "\n" not in str(error.value)


def test_slots_that_do_not_fit_their_weights_are_refused(tmp_path: Path) -> None:
    good = described(small_mlp(), tmp_path)
    name = next(iter(good["slots"]))
    for meta in (
        {"slot": "free", "shape": [3, 3]},
        {"slot": "free", "shape": [2**20, 2**20]},
        {"slot": "free", "shape": [50_000, 50_000]},
        {"slot": "masked", "shape": good["slots"][name]["shape"]},
        {"slot": "other", "shape": [1]},
        None,
    ):
        (tmp_path / "net.json").write_text(json.dumps({**good, "slots": {**good["slots"], name: meta}}))
        with pytest.raises(BadInput) as error:
            Net.load(tmp_path)
        assert "\n" not in str(error.value)
    for slots in ({}, [], None, {**good["slots"], "more": {"slot": "free", "shape": [1]}}):
        (tmp_path / "net.json").write_text(json.dumps({**good, "slots": slots}))
        if isinstance(slots, dict) and "more" in slots:
            assert "more" not in Net.load(tmp_path).slot_names()
            continue
        with pytest.raises(BadInput):
            Net.load(tmp_path)


def test_weights_that_are_cut_or_absent_are_refused(tmp_path: Path) -> None:
    small_mlp().save(tmp_path)
    path = tmp_path / "weights.safetensors"
    data = path.read_bytes()
    for size in (0, 4, 8, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(Damaged):
            Net.load(tmp_path)
    path.unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        Net.load(tmp_path)


@pytest.mark.parametrize("text", ["torch.load", "torch.ops.load_library", "torch.nothing", "torch.nn"])
def test_text_in_a_file_names_no_function_of_torch(text: str) -> None:
    node = Node("y", "to.dtype", {"self": Value("x"), "dtype": text})
    with pytest.raises(BadInput, match="tensor type"):
        Net(Spec((("x", (1,)),), (node,), Value("y")), {})
    ok = Net(Spec((("x", (1,)),), (node.with_args(dtype="torch.float64"),), Value("y")), {})
    assert ok(torch.ones(1)).dtype == torch.float64


def test_parameters_may_have_any_name() -> None:
    """ModuleDict itself has attributes called keys, values, items, update and so on."""

    class Names(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.keys, self.values, self.update, self.items = (nn.Parameter(torch.randn(3)) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.keys + self.values * self.update - self.items

    module, x = Names(), torch.rand(2, 3)
    net = capture(module, x)
    torch.testing.assert_close(net(x), module(x))
    assert set(net.slot_names()) == {"keys", "values", "update", "items"}
    torch.testing.assert_close(net.copy()(x), module(x))


def test_rewiring_drops_slots_that_nothing_reads_and_misses_those_it_lacks() -> None:
    net = small_mlp()
    first = net.spec.nodes[0]
    kept = len(net.slots)
    net.rewire(Spec(net.spec.inputs, (first,), Value(first.name)))
    assert len(net.slots) == 2 < kept
    more = first.with_args(bias=Slot("nobody"))
    with pytest.raises(BadInput, match="nobody"):
        net.rewire(Spec(net.spec.inputs, (more,), Value(first.name)))


def test_watching_sees_every_node_and_may_replace_its_value() -> None:
    net, (x,) = small_mlp().eval(), inputs_for(small_mlp())
    seen = []
    plain = net.run(x, watch=lambda node, value: seen.append(node.name))
    assert seen == [n.name for n in net.spec.nodes] and torch.equal(plain, net(x))
    last = net.spec.nodes[-1].name
    assert net.run(x, watch=lambda node, value: value * 0 if node.name == last else None).abs().sum() == 0


def test_shapes_and_copies() -> None:
    net = small_conv().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    shapes = net.shapes()
    assert net.training and all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert shapes[net.spec.inputs[0][0]] == (1, 1, 8, 8) and shapes[net.spec.nodes[-1].name] == (1, 10)
    twin = net.copy()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert net.dtype == torch.float32 and net.copy().double().dtype == torch.float64
    assert net.double()(*(x.double() for x in inputs_for(small_conv()))).dtype == torch.float64


def test_each_weight_is_listed_once() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.relu(self.fc(x)))

    assert [name for name, _ in capture(Shared(), torch.rand(2, 4)).weighted()] == ["fc.weight"]


def test_a_norm_follows_the_training_until_a_slot_says_so() -> None:
    net, (x,) = small_conv(), inputs_for(small_conv(), 8)
    norms = [node for node in net.spec.nodes if node.op == "batch_norm"]
    net.set_slot("frozen", Fixed(torch.tensor(False)))
    nodes = [n.with_args(training=Slot("frozen")) if n in norms else n for n in net.spec.nodes]
    net.rewire(Spec(net.spec.inputs, tuple(nodes), net.spec.output))
    plain = small_conv()
    assert torch.equal(net.train()(x), plain.train()(x)) and torch.equal(net.eval()(x), plain.eval()(x))
    net.slot("frozen").value.fill_(True)
    again = net.copy()
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.train()(x), plain.eval()(x)) and torch.equal(again(x), plain(x))
