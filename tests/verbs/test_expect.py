"""`paredown expect` with a timer that counts: words, JSON, exit codes, what is left out and what stands in."""

import contextlib
import io
import json

import numpy as np
import pytest

from paredown import cli
from paredown.core.errors import BadInput
from paredown.core.recipe import Recipe
from paredown.verbs import expect as verb
from paredown.verbs.expect import Means, expect, glimpse, pruned

CHANNELS = "steps:\n  - {part: train.finetune, plan: {epochs: 3}}\n  - {part: prune.channels, ratio: 0.5, score: {part: score.taylor}}\n"
WEIGHTS = "steps:\n  - {part: prune.weights, sparsity: 0.9}\n"
SHAPE = (1, 8, 8)


def of_one(calls):
    """Return a millisecond for each call, and ten for the whole file."""
    return {name: [10.0 if name == "whole" else 0.0 if name in ("empty", "chain") else 1.0] * 4 for name in calls}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder to stand in, and to keep classes in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAREDOWN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PAREDOWN_OFFLINE", "1")
    (tmp_path / "channels.yaml").write_text(CHANNELS)
    (tmp_path / "weights.yaml").write_text(WEIGHTS)
    return tmp_path


def call(patch, *words):
    patch.setattr("sys.argv", ["paredown", *words])
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code, out.getvalue()


def test_the_document_keeps_modelled_and_measured_apart_and_says_what_stands_in():
    found = expect("lenet_300_100", "channels.yaml", shape=SHAPE, means=Means(of_one))
    assert found["schema"] == "paredown/expect/1" and json.loads(json.dumps(found)) == found
    assert set(found["expected"]) == {"before", "after", "speedup"}
    assert all({"model", "version"} <= set(one) for one in found["expected"].values())
    assert {"repeats", "device", "toolchain"} <= set(found["measured"]) and found["measured"]["value"] == 10
    assert found["expected"]["before"]["value"] == pytest.approx(10)
    assert any("score.taylor is replaced by score.l1" in note for note in found["notes"])
    assert any("train.finetune: left out" in note for note in found["notes"])
    assert found["file_bytes"]["after"] < found["file_bytes"]["before"]


def test_a_class_is_measured_once_and_then_kept():
    first = expect("lenet_300_100", "channels.yaml", shape=SHAPE, means=Means(of_one))
    again = expect("lenet_300_100", "channels.yaml", shape=SHAPE, means=Means(of_one))
    assert first["measured_now"] == first["classes"] and again["measured_now"] == 0
    assert again["expected"] == first["expected"]


def test_masks_are_told_to_be_dense_with_the_bytes_of_the_file():
    found = expect("lenet_300_100", "weights.yaml", shape=SHAPE, runtime="packed", means=Means(of_one))
    assert found["expected"]["speedup"]["value"] == 1
    assert found["verdict"].startswith("not faster here") and ", because a mask is dense" in found["verdict"]
    (reason,) = [one for one in found["reasons"] if one["about"] == "masks"]
    assert reason["numbers"]["zeros"] == pytest.approx(0.9 * reason["numbers"]["weights"], rel=0.01)
    assert f"{found['file_bytes']['after']:,}" in reason["text"]


def test_a_saved_network_and_a_habit_that_masks_are_taken(folder):
    from paredown.zoo.resolve import network

    net = network({"model": "lenet_300_100"}, SHAPE, 10)
    net.save(folder / "saved")
    (folder / "habit.yaml").write_text(
        "steps: [{part: train.finetune, habits: [{part: habit.gradual, sparsity: 0.8}]}]"
    )
    found = expect(str(folder / "saved"), "habit.yaml", means=Means(of_one))
    zeros = [row["zeros"] for row in found["layers"] if row["after_macs"]]
    assert np.allclose(zeros, 0.8, atol=0.02) and any("habit's zeros" in note for note in found["notes"])


def test_both_sides_are_edited_and_only_one_is_pruned():
    from paredown.zoo.resolve import network

    net = network({"model": "resnet_8"}, SHAPE, 10)
    steps = [{"part": "edit.fold_batchnorm"}, {"part": "prune.channels", "ratio": 0.5}]
    before, after, notes = pruned(net, Recipe.of_json(steps), verb._work(net, None))
    assert not any(node.op == "batch_norm" for one in (before, after) for node in one.spec.nodes) and not notes
    assert sum(p.numel() for p in after.parameters()) < 0.5 * sum(p.numel() for p in before.parameters())


NONSENSE = {
    "no such model": (["lenet300", "--recipe", "channels.yaml"], "lenet_300_100"),
    "no such recipe": (["lenet_300_100", "--recipe", "no.yaml"], "no.yaml"),
    "no recipe": (["lenet_300_100"], "--recipe"),
    "no such runtime": (["lenet_300_100", "--recipe", "channels.yaml", "--runtime", "kernels"], "onnx, packed"),
    "nothing that prunes": (["lenet_300_100", "--recipe", "plain.yaml"], "prunes nothing"),
    "no such task": (["lenet_300_100", "--recipe", "channels.yaml", "--task", "digitz"], "digits"),
    "a wrong shape": (["lenet_300_100", "--recipe", "channels.yaml", "--input", "1x0x8"], "1x0x8"),
    "no classes": (["lenet_300_100", "--recipe", "channels.yaml", "--input", "1x8x8", "--classes", "0"], "classes 0"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_gets_one_line_and_2(name, folder, monkeypatch, capsys):
    (folder / "plain.yaml").write_text("steps: [{part: edit.fold_batchnorm}]")
    words, named = NONSENSE[name]
    code, out = call(monkeypatch, "expect", *words)
    said = capsys.readouterr().err
    assert code == 2 and out == "" and said.startswith("paredown: ") and said.count("\n") == 1 and named in said


def test_the_terminal_shows_layers_verdict_and_circumstances(monkeypatch):
    code, said = call(monkeypatch, "expect", "lenet_300_100", "--recipe", "channels.yaml", "--input", "1x8x8")
    assert code == 0
    for word in ("in no layer", "measured shape classes", "measured: the whole file before", "packed file"):
        assert word in " ".join(said.split())


def test_apply_says_it_before_training_or_says_how(folder, monkeypatch):
    line = glimpse("weights.yaml", "lenet_300_100", "digits", ("packed",), of_one)
    assert line.startswith("before training: not faster here") and "\n" not in line
    monkeypatch.setattr(verb, "GLIMPSED", 10)
    hint = glimpse("weights.yaml", "lenet_300_100", "digits", (), of_one)
    assert "paredown expect lenet_300_100 --recipe weights.yaml --task digits" in hint
    (folder / "plain.yaml").write_text("steps: [{part: edit.fold_batchnorm}]")
    assert (
        glimpse("plain.yaml", "lenet_300_100", "digits") is None
        and glimpse("no.yaml", "lenet_300_100", "digits") is None
    )


def test_classes_below_one_are_refused():
    with pytest.raises(BadInput, match="classes 0"):
        expect("lenet_300_100", "channels.yaml", shape=SHAPE, classes=0, means=Means(of_one))
