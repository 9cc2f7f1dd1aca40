"""Why accuracy dropped, from the terminal and from Python: for a run, for a candidate, for files, and in the report."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

import paredown
from paredown import cli
from paredown.core.diagnosis import Diagnosis
from paredown.core.errors import BadInput
from paredown.graph.net import Net
from paredown.search import space as spaces
from paredown.zoo.resolve import made


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A recipe that rounds to two bits with one step a tensor, applied."""
    folder = tmp_path_factory.mktemp("diagnosis")
    (folder / "r.yaml").write_text(
        "steps:\n  - {part: train.finetune, plan: {epochs: 15, lr: 0.01}}\n  - {part: edit.fold_batchnorm}\n"
        "  - {part: quantize.uniform, bits: 2, granularity: tensor, activation_bits: 8}\n"
    )
    return paredown.apply(folder / "r.yaml", "mlp", "digits", out=folder / "run")


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory):
    """A small search, whose winner learned its steps."""
    patch = pytest.MonkeyPatch()
    patch.setattr(spaces.Measure, "epochs", lambda self, effort: 12.0)
    yield paredown.find("digits", floor=0.8, trials=2, out=tmp_path_factory.mktemp("found") / "run")
    patch.undo()


def call(capsys, monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["paredown", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code, capsys.readouterr()


def test_a_run_is_explained_as_a_value_and_what_is_stored_is_the_same(run):
    found = paredown.analyze(run)["diagnosis"]
    assert found["schema"] == "paredown/diagnosis/1" and found["split"] == "val" and found["n"] == 336
    assert found["dropped"] and found["causes"] and found["accuracy"] < found["float_accuracy"]
    stored = json.loads((run.folder / "candidates" / run.json["best"]["id"] / "diagnosis.json").read_text())
    assert stored == json.loads(json.dumps(found)) and Diagnosis.of_json(stored).dropped
    assert run.json["undiagnosed"] is None
    again = paredown.analyze(f"{run.folder}:{run.json['best']['id']}")
    assert again["diagnosis"]["causes"] == found["causes"] and again["total"]["params"] > 0


def test_the_terminal_ranks_the_causes_and_writes_the_page(run, capsys, monkeypatch, tmp_path):
    code, shown = call(capsys, monkeypatch, "analyze", run.folder, "--report", tmp_path / "a.html")
    assert code == 0 and "Accuracy fell from" in shown.out and "1. layer" in shown.out and "try: " in shown.out
    page = (tmp_path / "a.html").read_text()
    assert "Why did accuracy drop?" in page and '<svg class="decibels"' in page
    code, shown = call(capsys, monkeypatch, "analyze", run.folder, "--json")
    assert code == 0 and json.loads(shown.out)["diagnosis"]["layers"]


def test_a_file_is_explained_beside_its_float_network(run, capsys, monkeypatch, tmp_path):
    steps = sorted(
        (run.folder / "steps").glob("*/story.json"), key=lambda path: len(json.loads(path.read_text())["steps"])
    )
    net = Net.load(steps[0].parent)
    state = made({"model": "mlp"}, (1, 8, 8), 10).state_dict()
    state.update({key: net.slot(key)().detach() for key in state if key in net.slot_names()})
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "float.safetensors")
    wanted = paredown.analyze(run)["diagnosis"]
    words = (
        "analyze",
        run.folder / "best.pdn",
        "--task",
        "digits",
        "--against",
        f"mlp:{tmp_path / 'float.safetensors'}",
        "--json",
    )
    code, shown = call(capsys, monkeypatch, *words)
    found = json.loads(shown.out)["diagnosis"]
    assert code == 0 and found["accuracy"] == pytest.approx(wanted["accuracy"], abs=0.004)
    assert [c["kind"] for c in found["causes"]] == [c["kind"] for c in wanted["causes"]]
    assert paredown.analyze(str(run.folder / "best.onnx"), task="digits", against=net)["diagnosis"]["n"] == 336


def test_a_search_explains_its_winner_and_knows_its_weights_before_rounding(trained_run):
    assert trained_run.json["undiagnosed"] is None
    found = paredown.analyze(trained_run)["diagnosis"]
    assert any("before rounding, the weights that were trained for it reach" in note for note in found["notes"])
    assert all(row["moved"] == 0 for row in found["layers"])
    page = trained_run.report().read_text()
    assert 'id="drop"' in page and found["verdict"].split("(")[0] in page
    base = trained_run.json["baseline"]["id"]
    said = paredown.analyze(f"{trained_run.folder}:{base}")
    assert said["diagnosis"] is None and "not quantized" in said["undiagnosed"]


def test_without_the_steps_the_stored_diagnosis_is_shown_or_what_is_missing_is_said(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run.folder, copy)
    shutil.rmtree(copy / "steps")
    assert paredown.analyze(copy)["diagnosis"]["causes"]
    (copy / "candidates" / run.json["best"]["id"] / "diagnosis.json").unlink()
    assert "no longer in" in paredown.analyze(copy)["undiagnosed"]


def test_a_diagnosis_that_fails_does_not_fail_the_run(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a layer that nobody thought of")

    monkeypatch.setattr("paredown.verbs.diagnose.diagnose", broken)
    steps = [{"part": "train.finetune", "plan": {"epochs": 1}}, {"part": "quantize.uniform", "bits": 8}]
    made_run = paredown.apply(paredown.Recipe.of_json(steps), "mlp", "digits", out=tmp_path / "run")
    assert made_run.json["undiagnosed"] == "a layer that nobody thought of"
    assert "This was not looked into: a layer that nobody thought of." in made_run.report().read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{run}", "--against", "nothing"), "float network 'nothing' is of no known kind"),
        (("{run}", "--against", "w.safetensors"), "need their model"),
        (("{run}", "--against", "mlp:/nowhere/w.safetensors"), "cannot be read"),
        (("{run}:abcdef", "--json"), "has no candidate 'abcdef'"),
        (("{run}/best.pdn", "--task", "digits"), "against is missing"),
        (("{run}/best.pdn", "--against", "{run}"), "task is missing"),
        (("mlp", "--task", "digits", "--against", "{run}"), "is not quantized as it stands"),
        (("/nowhere/x.pdn",), "cannot be read"),
    ],
)
def test_nonsense_gets_one_line(run, words, said, capsys, monkeypatch):
    code, shown = call(capsys, monkeypatch, "analyze", *(word.replace("{run}", str(run.folder)) for word in words))
    assert code == 2 and said in shown.err and shown.err.count("\n") == 1 and shown.err.startswith("paredown: ")


def test_another_task_is_refused(run):
    with pytest.raises(BadInput, match="is not the data that run"):
        paredown.analyze(run, task=(torch.rand(60, 1, 8, 8), torch.arange(60) % 3))
