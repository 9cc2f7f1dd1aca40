"""Every model of the zoo, and everything that may stand after --model."""

import inspect
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.cost.count import count
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.targets.lower import build
from paredown.targets.runtime import predictor
from paredown.train.data import Data
from paredown.train.fit import fit
from paredown.zoo.resolve import load_weights_, models, module_of, network
from zoo.by_hooks import PRODUCTS, SIBLINGS, SIDE, SMALLER, counted


@pytest.mark.parametrize("name", sorted(set(models()) - SIBLINGS))
def test_a_model_is_captured_counted_runs_trains_and_is_written(name: str) -> None:
    side, settings = SIDE.get(name, 32), SMALLER.get(name, {})
    shape = (1, side, side) if name.startswith(("lenet", "mlp", "logistic", "ds_cnn", "cp_mobile")) else (3, side, side)
    net = network({"model": name, **settings}, shape, 7)
    x = torch.rand(10, *shape)
    assert net.spec.inputs[0][1] == shape and net.eval()(x[:3]).shape == (3, 7) and net(x[:1]).shape == (1, 7)
    check_counts(net, name, shape)
    before = {k: v.detach().clone() for k, v in net.named_parameters()}
    fit(net, Data(x, torch.arange(10) % 7), CrossEntropy(), plan=Plan(epochs=2, batch=5, lr=1e-2))
    moved = [k for k, v in net.named_parameters() if not torch.equal(v, before[k])]
    assert len(moved) == len(before) and all(torch.isfinite(v).all() for v in net.parameters())
    scores = predictor(build(freeze(net)))(x.numpy())
    torch.testing.assert_close(torch.from_numpy(scores), net(x).detach(), rtol=1e-3, atol=1e-4)
    assert models()[name].__doc__ and list(inspect.signature(models()[name]).parameters)[:2] == ["shape", "classes"]


def check_counts(net: Net, name: str, shape: tuple[int, ...]) -> None:
    """Hold our counter's numbers on a captured network to those of hooks, and of attention's formulas."""
    params, macs = counted(name, SMALLER.get(name, {}), shape, 7)
    cost = count(net)
    assert (cost.params, cost.macs) == (params, macs + PRODUCTS.get(name, 0))


@pytest.mark.parametrize("name", sorted(set(models()) - SIBLINGS - {"autoencoder", "mlp", "logistic", "lenet_300_100"}))
def test_the_least_picture_runs_and_a_smaller_one_is_refused(name: str) -> None:
    """A model says how small pictures may be: it runs on those, and refuses smaller ones in one line."""
    least = next(side for side in range(1, 100) if not refused(name, side))
    with torch.device("meta"), torch.no_grad():
        model = module_of(name, (3, least, least), 7, SMALLER.get(name, {})).eval()
        assert model(torch.empty(2, 3, least, least)).shape == (2, 7)
    assert least == 1 or f"{least} x {least}" in refused(name, least - 1) or "divide" in refused(name, least - 1)


def refused(name: str, side: int) -> str:
    """Return what a model says of pictures of this side, or nothing."""
    try:
        with torch.device("meta"):
            module_of(name, (3, side, side), 7, SMALLER.get(name, {}))
    except BadInput as error:
        assert "\n" not in str(error) and name in str(error)
        return str(error)
    return ""


def test_the_seed_draws_the_weights() -> None:
    nets = [network({"model": "mlp"}, (4,), 2, seed) for seed in (0, 0, 1)]
    same = [all(torch.equal(v, nets[0].state_dict()[k]) for k, v in net.state_dict().items()) for net in nets]
    assert same == [True, True, False]


def test_settings_reach_the_model() -> None:
    net = network({"model": "mlp", "widths": [5, 3]}, (4,), 2)
    assert [net.slot(name)().shape[0] for name, _ in net.weighted()] == [5, 3, 2]
    pooled = network({"model": "dense", "widths": [4], "head": "pool"}, (1, 8, 8), 10)
    assert pooled.slot("5.weight" if "5.weight" in pooled.slot_names() else pooled.slot_names()[-2])().shape[1] == 4


@pytest.mark.parametrize(
    ("spec", "shape", "says"),
    [
        ({"model": "lenet5"}, (1, 28, 28), "did you mean|lenet_5"),
        ({"model": ""}, (1, 28, 28), "unknown"),
        ({"model": "_Block"}, (1, 28, 28), "unknown"),
        ({"model": "relu"}, (1, 28, 28), "unknown"),
        ({"model": "mlp", "depth": 3}, (4,), "takes no 'depth'"),
        ({"model": "mlp", "widths": "many"}, (4,), "mlp"),
        ({"model": "resnet_small", "depth": 21}, (3, 32, 32), "not 21"),
        ({"model": "resnet_small"}, (64,), "pictures"),
        ({"model": "lenet_5"}, (1, 8, 8), "16 x 16"),
        ({"model": "dense"}, (64,), "mlp"),
        ({"model": "dense", "reduce": 9}, (1, 8, 8), "leaves nothing|dense"),
        ({"model": "timm:no_such"}, (3, 32, 32), "timm"),
        ({"model": "torchvision:no_such"}, (3, 32, 32), "torchvision"),
        ({"model": "absent.onnx"}, (3, 32, 32), "absent.onnx"),
        ({"model": "absent.py:f"}, (4,), "does not exist"),
        ({"model": "module:f"}, (4,), "unknown"),
    ],
)
def test_what_is_no_model_is_said_in_one_line(spec: dict[str, Any], shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(BadInput, match=says) as error:
        network(spec, shape, 10)
    assert "\n" not in str(error.value)


FILE = """
import sys
import torch
from torch import nn

def nothing():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))

def both(shape, classes):
    return nn.Linear(shape[0], classes)

def torchs(num_classes=1000, width=5):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, num_classes))

def everything(**settings):
    return nn.Linear(4, settings.get("wide", 3))

class Own(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.fc = nn.Linear(4, classes)
    def forward(self, x):
        return self.fc(x)

def demanding(teacher):
    return nn.Linear(4, 3)

def failing():
    raise KeyError("no\\nsuch thing")

def silent():
    raise ValueError

def wrong():
    return 3

def leaving():
    sys.exit(7)

def narrow():
    return nn.Linear(4, 2)

def pair():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x
    return Pair()

def misfit():
    return nn.Linear(9, 3)

number = 5
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own models.py"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize(
    ("function", "settings"),
    [("nothing", {}), ("both", {}), ("torchs", {}), ("torchs", {"width": 2}), ("everything", {}), ("Own", {})],
)
def test_a_function_in_a_file(function: str, settings: dict[str, Any], own: Path) -> None:
    net = network({"model": f"{own}:{function}", **settings}, (4,), 3)
    assert net(torch.rand(5, 4)).shape == (5, 3)
    if settings:
        assert net.slot("0.weight")().shape == (2, 4)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("absent", "no function 'absent'; it has"),
        ("number", "no function"),
        ("", "no function|unknown"),
        ("demanding", "wants 'teacher'"),
        ("failing", "raised KeyError"),
        ("silent", "raised ValueError"),
        ("wrong", "returned a int"),
        ("leaving", "SystemExit|raised"),
        ("narrow", r"\(2, 2\)"),
        ("pair", "tuple"),
        ("misfit", "samples of shape|9"),
    ],
)
def test_a_function_that_does_not_do(function: str, says: str, own: Path) -> None:
    with pytest.raises(BadInput, match=says) as error:
        network({"model": f"{own}:{function}"}, (4,), 3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["def f(:", "import no_such_module_at_all", "raise RuntimeError('x\\ny')", "import sys; sys.exit(3)", "\0"]
)
def test_a_file_that_does_not_run(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"bad\.py") as error:
        network({"model": f"{path}:f"}, (4,), 3)
    assert "\n" not in str(error.value)


def test_two_files_of_one_name_are_two_files(tmp_path: Path) -> None:
    for folder, width in (("a", 3), ("b", 5)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.py").write_text(
            f"from torch import nn\ndef f(): return nn.Sequential(nn.Linear(4, {width}), nn.Linear({width}, 2))\n"
        )
        net = network({"model": f"{tmp_path / folder / 'model.py'}:f"}, (4,), 2)
        assert net.slot("0.weight")().shape == (width, 4)


def module() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt", "weights.pth", "weights.bin"])
def test_weights_are_loaded(name: str, tmp_path: Path) -> None:
    state = {k: v + 1 for k, v in module().state_dict().items()}
    path = tmp_path / name
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    fresh = module()
    load_weights_(fresh, path)
    assert all(torch.equal(v, state[k]) for k, v in fresh.state_dict().items())


def test_weights_come_with_the_model(own: Path, tmp_path: Path) -> None:
    net = nn.Linear(4, 3)
    torch.save(net.state_dict(), tmp_path / "w.pt")
    found = network({"model": f"{own}:both", "weights": str(tmp_path / "w.pt")}, (4,), 3)
    x = torch.rand(2, 4)
    torch.testing.assert_close(found(x), net(x))


class Boom:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("way", ["pickle", "torch", "torch old", "named safetensors", "hidden"])
def test_a_pickle_is_refused_and_not_run(way: str, tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / ("w.safetensors" if way == "named safetensors" else "w.pt")
    content: Any = {"0.weight": torch.rand(5, 4), "more": Boom(mark)} if way == "hidden" else Boom(mark)
    if way in ("pickle", "named safetensors"):
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=way != "torch old")
    with pytest.raises(BadInput) as error:
        load_weights_(module(), path)
    assert not mark.exists() and "\n" not in str(error.value)
    torch.load(path, weights_only=False) if way == "torch" else None  # the trap works where it is let
    assert mark.exists() is (way == "torch")


def test_a_whole_module_is_not_a_state_dict(tmp_path: Path) -> None:
    for content in (module(), [torch.rand(2)], {"a": 1}, torch.rand(3), {"0.weight": [1.0]}):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(BadInput) as error:
            load_weights_(module(), tmp_path / "w.pt")
        assert "\n" not in str(error.value)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    state = module().state_dict()
    for wrong in (
        {},
        {**state, "more": torch.rand(1)},
        {k: v for k, v in state.items() if k != "0.bias"},
        {**state, "0.bias": torch.rand(9)},
    ):
        torch.save(wrong, tmp_path / "w.pt")
        with pytest.raises(BadInput, match="do not fit"):
            load_weights_(module(), tmp_path / "w.pt")


def test_rubbish_for_weights_is_bad_input(tmp_path: Path) -> None:
    torch.save(module().state_dict(), tmp_path / "good.pt")
    safetensors.torch.save_file(module().state_dict(), tmp_path / "good.safetensors")
    draw = torch.Generator().manual_seed(0)
    for suffix in (".pt", ".safetensors"):
        good = (tmp_path / f"good{suffix}").read_bytes()
        rubbish = [
            bytes(torch.randint(0, 256, (int(n),), generator=draw).tolist())
            for n in torch.randint(0, 300, (60,), generator=draw)
        ]
        protocols = [b"\x80" + bytes([version]) + rest for version, rest in enumerate(rubbish[:6])]
        cut = [good[: len(good) * i // 20] for i in range(20)]
        for data in [b"", *rubbish, *protocols, *cut]:
            (tmp_path / f"w{suffix}").write_bytes(data)
            with pytest.raises(BadInput) as error:
                load_weights_(module(), tmp_path / f"w{suffix}")
            assert "\n" not in str(error.value)
    for path in (tmp_path / "absent.pt", tmp_path / "absent.safetensors", tmp_path):
        with pytest.raises(BadInput):
            load_weights_(module(), path)


def test_a_name_gives_a_module() -> None:
    assert isinstance(module_of("logistic", (1, 8, 8), 10, {}), nn.Module)
