"""Nonsense from the terminal: exit 2, one line that names the value and helps, no traceback, nothing half-written."""

import pickle
import struct
import zlib

import numpy as np
import pytest

from paredown import cli

X = np.arange(60 * 16, dtype="float32").reshape(60, 1, 4, 4) % 7 / 7
Y = np.arange(60) % 3


class Bomb:
    """Something that would leave a trace if it were unpickled."""

    def __reduce__(self):
        return open, ("unpickled", "w")


def npz(path, **arrays):
    np.savez(path, **arrays)


def recipe(folder, text):
    (folder / "recipe.yaml").write_text(text)
    return ["apply", "recipe.yaml", "good.npz", "--out", "run"]


def find(*words, task="good.npz"):
    return ["find", task, "--floor", "0.5", "--budget", "20s", "--out", "run", *words]


def with_data(**arrays):
    def make(folder):
        npz(folder / "bad.npz", **arrays)
        return find(task="bad.npz")

    return make


def with_file(name, data, *words):
    def make(folder):
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        return list(words) or find(task=name)

    return make


def alone(step):
    """One layer, whose channels are the scores."""

    def make(folder):
        (folder / "net.py").write_text(NET.format("nn.Sequential(nn.Flatten(), nn.Linear(16, 3))"))
        return [*recipe(folder, f"steps: [{step}]"), "--model", "net.py:make"]

    return make


def words(*given):
    return lambda folder: list(given)


NAN = X.copy()
NAN[3, 0, 1, 1] = np.nan
NET = "from torch import nn\ndef make():\n    return {}\n"

CASES = {
    "no verb of that name": (words("finb", "digits"), "finb"),
    "no floor": (words("find", "digits"), "--floor"),
    "floor in percent": (words("find", "digits", "--floor", "97"), "0.97"),
    "floor below zero": (words("find", "digits", "--floor", "-0.1"), "-0.1"),
    "floor not a number": (words("find", "digits", "--floor", "high"), "high"),
    "floor nan": (words("find", "digits", "--floor", "nan"), "nan"),
    "negative budget": (words("find", "digits", "--floor", "0.9", "--budget", "-5m"), "-5m"),
    "budget of nothing": (words("find", "digits", "--floor", "0.9", "--budget", "0s"), "0s"),
    "budget without sense": (words("find", "digits", "--floor", "0.9", "--budget", "soon"), "soon"),
    "budget in unknown units": (words("find", "digits", "--floor", "0.9", "--budget", "3w"), "3w"),
    "no trials": (words("find", "digits", "--floor", "0.9", "--trials", "0"), "trials=0"),
    "no workers": (words("find", "digits", "--floor", "0.9", "--workers", "0"), "workers=0"),
    "negative seed": (words("find", "digits", "--floor", "0.9", "--seed", "-1"), "seed=-1"),
    "unknown device": (words("find", "digits", "--floor", "0.9", "--device", "tpu"), "tpu"),
    "absent device": (words("find", "digits", "--floor", "0.9", "--device", "cuda:7"), "cuda"),
    "unknown target": (words("find", "digits", "--floor", "0.9", "--target", "coreml"), "coreml"),
    "target of a later version": (words("find", "digits", "--floor", "0.9", "--target", "litert"), "litert"),
    "unknown cost": (words("find", "digits", "--floor", "0.9", "--minimize", "weight"), "weight"),
    "limit without size": (words("find", "digits", "--floor", "0.9", "--limit", "ram_bytes"), "ram_bytes"),
    "limit with a wrong unit": (words("find", "digits", "--floor", "0.9", "--limit", "ram_bytes=3ms"), "3ms"),
    "limit of nothing": (words("find", "digits", "--floor", "0.9", "--limit", "macs=0"), "macs=0"),
    "confidence above one": (words("find", "digits", "--floor", "0.9", "--confidence", "95"), "95"),
    "unknown searcher": (words("find", "digits", "--floor", "0.9", "--searcher", "search.magic"), "search.magic"),
    "unknown task": (words("find", "digitz", "--floor", "0.9"), "digits"),
    "absent file": (words("find", "nothing.npz", "--floor", "0.9"), "nothing.npz"),
    "unknown model": (words("find", "digits", "--floor", "0.9", "--model", "lenet5"), "lenet_5"),
    "absent model file": (words("find", "digits", "--floor", "0.9", "--model", "no.py:make"), "no.py"),
    "absent model function": (with_file("net.py", NET.format("nn.Linear(1, 1)"), *find("--model", "net.py:build")), "make"),
    "model file with a syntax error": (with_file("net.py", "def make(:\n", *find("--model", "net.py:make")), "net.py"),
    "model function that raises": (with_file("net.py", NET.format("1 / 0"), *find("--model", "net.py:make")), "ZeroDivisionError"),
    "model function that returns no module": (with_file("net.py", NET.format("3"), *find("--model", "net.py:make")), "int"),
    "model with too few outputs": (with_file("net.py", NET.format("nn.Sequential(nn.Flatten(), nn.Linear(16, 2))"), *find("--model", "net.py:make")), "(2, 3)"),
    "model that does not fit the samples": (with_file("net.py", NET.format("nn.Sequential(nn.Flatten(), nn.Linear(9, 3))"), *find("--model", "net.py:make")), "net.py"),
    "onnx as a model": (with_file("net.onnx", b"x", *find("--model", "net.onnx")), "net.onnx: it is not an ONNX file"),
    "nan pixels": (with_data(x=NAN, y=Y), "1 "),
    "infinite pixels": (with_data(x=np.where(X > 0.8, np.inf, X), y=Y), "inf"),
    "one class only": (with_data(x=X, y=Y * 0), "class"),
    "negative labels": (with_data(x=X, y=Y - 1), "-1"),
    "fractional labels": (with_data(x=X, y=Y + 0.5), "0.5"),
    "lengths that differ": (with_data(x=X, y=Y[:50]), "50"),
    "empty data": (with_data(x=X[:0], y=Y[:0]), "empty"),
    "empty test split": (with_data(x_train=X, y_train=Y, x_test=X[:0], y_test=Y[:0]), "test"),
    "roles of different shapes": (with_data(x_train=X, y_train=Y, x_test=X[:, :, :2], y_test=Y), "shape"),
    "classes that train lacks": (with_data(x_train=X, y_train=Y, x_test=X, y_test=Y + 1), "3"),
    "arrays of objects": (with_data(x=np.array([Bomb()] * 4, dtype=object), y=np.arange(4) % 2), "object"),
    "an npz without labels": (with_data(x_train=X), "y_train"),
    "a pickle called npz": (with_file("bad.npz", pickle.dumps(Bomb())), "bad.npz"),
    "an empty npz": (with_file("bad.npz", b""), "bad.npz"),
    "a csv with words": (with_file("bad.csv", "a,b,label\n1,2,0\n1,two,1\n"), "two"),
    "an unknown suffix": (with_file("bad.parquet", b"PAR1"), "bad.parquet"),
    "a recipe that is no YAML": (lambda f: recipe(f, "steps: [}"), "recipe.yaml"),
    "a recipe that is no list": (lambda f: recipe(f, "steps: 3"), "list"),
    "an unknown part": (lambda f: recipe(f, "steps: [{part: quantize.unifrom}]"), "quantize.uniform"),
    "a piece as a step": (lambda f: recipe(f, "steps: [{part: score.l1}]"), "score.l1"),
    "an unknown field": (lambda f: recipe(f, "steps: [{part: quantize.uniform, bit: 4}]"), "bits"),
    "a value out of range": (lambda f: recipe(f, "steps: [{part: quantize.uniform, bits: 9}]"), "9"),
    "a value of a wrong type": (lambda f: recipe(f, "steps: [{part: quantize.uniform, bits: four}]"), "four"),
    "a forbidden order": (lambda f: recipe(f, "steps: [{part: quantize.uniform}, {part: train.finetune}]"), "quantized"),
    "quantizing twice": (lambda f: recipe(f, "steps: [{part: quantize.uniform}, {part: quantize.uniform}]"), "quantized"),
    "a score of another kind": (lambda f: recipe(f, "steps: [{part: prune.channels, score: {part: saliency.snip}}]"), "it must be Score"),
    "a pruning that can remove nothing": (alone("{part: prune.channels}"), "1.weight: linear is returned by the network"),
    "a pruning of heads where there are none": (alone("{part: prune.heads}"), "prune.heads can remove nothing"),
    "a habit of another kind": (lambda f: recipe(f, "steps: [{part: train.finetune, habits: [score.l1]}]"), "it must be Habit"),
    "a schema of the future": (lambda f: recipe(f, "schema: paredown/recipe/9\nsteps: []"), "recipe/9"),
    "an absent recipe": (words("apply", "no.yaml", "digits"), "no.yaml"),
    "an artifact that is not there": (words("evaluate", "no.pdn", "digits"), "no.pdn"),
    "an artifact of no known kind": (with_file("net.bin", b"x", "evaluate", "net.bin", "digits"), "net.bin"),
    "an empty packed file": (with_file("a.pdn", b"", "evaluate", "a.pdn", "digits"), "packed"),
    "a text called packed": (with_file("a.pdn", b"hello world", "evaluate", "a.pdn", "digits"), "hel"),
    "garbage with a good checksum": (with_file("a.pdn", b"PDN\x01" + struct.pack("<I", zlib.crc32(b"PDN\x01" + b"\x77" * 99)) + b"\x77" * 99, "evaluate", "a.pdn", "digits"), "packed"),
    "a text called onnx": (with_file("a.onnx", b"hello", "evaluate", "a.onnx", "digits"), "a.onnx"),
    "a split that is not there": (with_file("a.pdn", b"x", "evaluate", "a.pdn", "digits", "--split", "dev"), "dev"),
    "a report of no run": (words("report", "."), "asked.json"),
    "an export of no run": (words("export", ".", "--to", "onnx"), "asked.json"),
    "an analysis of a wrong shape": (words("analyze", "dense", "--input", "3x0x8"), "3x0x8"),
    "an unknown card": (words("methods", "quantize.unifrom"), "quantize.uniform"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to stand in, with one good data set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAREDOWN_OFFLINE", "1")
    npz(tmp_path / "good.npz", x=X, y=Y)
    return tmp_path


def run(monkeypatch, given):
    monkeypatch.setattr("sys.argv", ["paredown", *given])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code


@pytest.mark.parametrize("name", CASES)
def test_bad_input_gets_one_line_that_helps(name, folder, monkeypatch, capsys):
    make, named = CASES[name]
    code = run(monkeypatch, make(folder))
    said = capsys.readouterr()
    assert code == 2, said.err
    assert said.err.startswith("paredown: ") and said.err.count("\n") == 1, said.err
    assert named in said.err, said.err
    assert "Traceback" not in said.err and len(said.err) < 600 and said.out == ""
    assert not (folder / "unpickled").exists()
    assert not list(folder.glob("**/best.*")) and not list(folder.glob("run/found.json"))


def test_there_are_at_least_forty_kinds():
    assert len(CASES) >= 40


def test_a_pickle_disguised_as_weights_is_not_run(folder, monkeypatch):
    from paredown.core.errors import BadInput
    from paredown.zoo.lenet import lenet_300_100
    from paredown.zoo.resolve import load_weights_

    (folder / "weights.pt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(BadInput, match=r"weights\.pt"):
        load_weights_(lenet_300_100((1, 4, 4), 3), folder / "weights.pt")
    assert not (folder / "unpickled").exists()


def test_a_read_only_folder_gets_a_clear_line(folder, monkeypatch, capsys):
    (folder / "run").write_text("a file where the folder should be")
    assert run(monkeypatch, find()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "run" in said


def test_a_full_disk_gets_a_clear_line_and_breaks_nothing(folder, monkeypatch, capsys):
    import errno

    from paredown.search import engine

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "run/steps/x")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "run", full)
        assert run(patch, find("--trials", "1")) == 2
    said = capsys.readouterr().err
    assert "No space left" in said and said.count("\n") == 1
    assert (folder / "run" / "asked.json").exists() and not (folder / "run" / "found.json").exists()
