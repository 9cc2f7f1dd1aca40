"""The verbs from the terminal on real digits, with short trainings: words, exit codes, JSON."""

import json

import pytest

from paredown import cli
from paredown.search import space as spaces


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with one finished small search of digits in `run`."""
    folder = tmp_path_factory.mktemp("surface")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    patch.setattr(spaces.Measure, "epochs", lambda self, effort: 12.0)
    code, out = call(patch, "find", "digits", "--floor", "0.8", "--trials", "3", "--out", "run", "--json")
    assert code == 0
    (folder / "found.json").write_text(out)
    yield folder
    patch.undo()


def call(patch, *words, capsys=None):
    import contextlib
    import io

    patch.setattr("sys.argv", ["paredown", *words])
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code, out.getvalue()


def test_find_prints_one_json_document_with_the_surfaces_fields(folder):
    found = json.loads((folder / "found.json").read_text())
    assert found["schema"] == "paredown/find/1" and found["reached"] is True and found["why"] is None
    assert {"run", "floor", "minimize", "target", "best", "frontier", "baseline", "trials", "seconds"} <= set(found)
    best = found["best"]
    assert {"id", "recipe", "spec", "file_bytes", "artifacts", "cost", "val", "test"} <= set(best)
    assert {"params", "nonzero", "macs", "bops", "ram_bytes"} <= set(best["cost"])
    for split in ("val", "test"):
        assert {"metric", "value", "low", "high", "n"} <= set(best[split])
    for artifact in best["artifacts"]:
        assert {"target", "path", "bytes", "sha256", "mismatches", "n"} <= set(artifact)
    assert best["test"]["n"] == 450 and [a["target"] for a in best["artifacts"]] == ["packed", "onnx"]
    assert found["baseline"]["file_bytes"] > best["file_bytes"]
    assert all(type(row["file_bytes"]) is int for row in found["frontier"])


def test_a_floor_out_of_reach_exits_with_3_and_still_leaves_the_best(folder, monkeypatch):
    monkeypatch.chdir(folder)
    code, out = call(monkeypatch, "find", "digits", "--floor", "1.0", "--trials", "1", "--out", "missed", "--json")
    found = json.loads(out)
    assert code == 3 and found["reached"] is False and found["why"]
    assert (folder / "missed" / "best.pdn").exists()


def test_evaluate_gives_what_the_search_said(folder, monkeypatch):
    monkeypatch.chdir(folder)
    best = json.loads((folder / "found.json").read_text())["best"]
    for name in ("best.pdn", "best.onnx"):
        code, out = call(monkeypatch, "evaluate", f"run/{name}", "digits", "--json")
        found = json.loads(out)
        assert code == 0 and found["value"] == best["test"]["value"] and found["n"] == 450
        assert {"schema", "artifact", "bytes", "split", "metric", "low", "high", "latency_ms", "runtime"} <= set(found)


def test_apply_runs_a_recipe_and_measures_the_same_way(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "r.yaml").write_text(
        "steps:\n  - {part: train.finetune, plan: {epochs: 5, lr: 0.01}}\n  - {part: edit.fold_batchnorm}\n  - {part: quantize.uniform, bits: 4}\n"
    )
    code, out = call(monkeypatch, "apply", "r.yaml", "digits", "--out", "applied", "--json")
    found = json.loads(out)
    assert code == 0 and found["best"]["test"]["value"] > 0.8
    assert found["best"]["artifacts"][0]["bytes"] == (folder / "applied" / "best.pdn").stat().st_size


def test_analyze_adds_up(monkeypatch):
    code, out = call(monkeypatch, "analyze", "resnet_small", "--input", "3x32x32", "--json")
    found = json.loads(out)
    assert code == 0 and {"schema", "total", "layers", "uncounted"} <= set(found)
    for what in ("params", "nonzero", "bits", "macs"):
        assert sum(row[what] for row in found["layers"]) == found["total"][what]
    assert found["total"]["peak_bytes"] > 0 and all(row["can"] for row in found["layers"])


def test_export_writes_and_verifies_another_format(folder, monkeypatch):
    monkeypatch.chdir(folder)
    code, out = call(monkeypatch, "export", "run", "--to", "onnx", "--out", "deploy", "--json")
    made = json.loads(out)["artifacts"][0]
    assert code == 0 and (folder / "deploy" / "model.onnx").stat().st_size == made["bytes"] and made["mismatches"] == 0
    other = next(p.name for p in (folder / "run" / "candidates").iterdir())
    code, out = call(monkeypatch, "export", f"run:{other}", "--to", "packed", "--to", "onnx", "--json")
    assert code == 0 and len(json.loads(out)["artifacts"]) == 2


def test_report_and_cite(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "run" / "report.html").unlink()
    code, out = call(monkeypatch, "report", "run")
    assert code == 0 and (folder / out.strip()).exists()
    code, out = call(monkeypatch, "cite", "run")
    assert code == 0 and "1902.08153" in out and out.count("@misc") == len(set(out.split("@misc")[1:]))


@pytest.mark.parametrize("verb", ["methods", "tasks", "models", "rules", "targets"])
def test_the_catalogue_lists_and_speaks_json(verb, monkeypatch):
    code, text = call(monkeypatch, verb)
    assert code == 0 and len(text.splitlines()) >= 2
    code, out = call(monkeypatch, verb, "--json")
    assert code == 0 and json.loads(out)["schema"] == f"paredown/{verb}/1"


@pytest.mark.parametrize(
    "verb",
    [
        "find",
        "apply",
        "analyze",
        "evaluate",
        "export",
        "score",
        "report",
        "methods",
        "tasks",
        "models",
        "rules",
        "targets",
        "cite",
    ],
)
def test_every_verb_has_help_with_an_example(verb, monkeypatch):
    code, text = call(monkeypatch, verb, "--help")
    assert code == 0 and f"Example: paredown {verb}" in " ".join(text.split())
