"""`paredown score`, `paredown rules` and `find --minimize score:RULE`, from the terminal and from Python."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import paredown
from contracts.nets import small_conv
from paredown import cli
from paredown.core.errors import BadInput
from paredown.core.goal import Goal, parse_limits
from paredown.core.work import Work
from paredown.cost.micronet import count, together
from paredown.graph.fold import fold_batchnorm
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.methods.prune.weights import Weights
from paredown.methods.quantize.uniform import Uniform
from paredown.search import space as spaces
from paredown.targets.onnx import Onnx
from paredown.targets.packed import Packed

OSI_AI = {"values_by_bits": {"32": 470776}, "mults_by_bits": {"32": 60456692}, "adds_by_bits": {"32": 57132604}}


def call(patch, *words):
    patch.setattr("sys.argv", ["paredown", *map(str, words)])
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished search of digits by MicroNet's score, in the folder `run`."""
    folder = tmp_path_factory.mktemp("scored")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    patch.setattr(spaces.Measure, "epochs", lambda self, effort: 8.0)
    words = ("find", "digits", "--floor", "0.6", "--trials", "3", "--out", "run", "--json")
    code, out, err = call(patch, *words, "--minimize", "score:micronet.cifar100")
    assert code in (0, 3), err
    yield folder, json.loads(out)
    patch.undo()


def test_counts_from_a_file(monkeypatch, tmp_path):
    (tmp_path / "counts.json").write_text(json.dumps({**OSI_AI, "accuracy": 0.8003}))
    code, out, _ = call(monkeypatch, "score", "micronet.cifar100", tmp_path / "counts.json", "--json")
    found = json.loads(out)
    assert code == 0 and found["schema"] == "paredown/score/1" and found["passes"] is True
    assert (found["rule"], found["edition"], round(found["total"], 6)) == ("micronet", "cifar100", 0.014777)
    assert {k: round(v, 6) for k, v in found["terms"].items()} == {"storage": 0.006449, "operations": 0.008328}
    assert set(found["conventions"]) == {"tree", "int", "fp16", "fp32"} and found["unverified"] == []
    code, text, _ = call(monkeypatch, "score", "micronet.cifar100", tmp_path / "counts.json")
    assert code == 0 and "0.014777" in text and "total, tree" in text and "accuracy 0.8003" in text


def test_clauses_from_memory_are_marked(monkeypatch, tmp_path):
    (tmp_path / "c.json").write_text('{"param_bytes": 122296, "macs": 29419156, "accuracy": 0.5}')
    code, text, _ = call(monkeypatch, "score", "dcase.2023", tmp_path / "c.json")
    assert code == 0 and "unverified, from memory: rank_weights" in text and "122.296" in text and "met" in text


def test_a_log_from_a_file(monkeypatch, tmp_path):
    (tmp_path / "log.tsv").write_text("epoch\thours\tf1Score\n4\t3.01\t0.7229\n5\t3.7639\t0.731013\n")
    code, out, _ = call(monkeypatch, "score", "dawnbench.squad_training", tmp_path / "log.tsv", "--json")
    assert code == 0 and json.loads(out)["total"] == 3.7639


def written(net: Net, folder: Path, backend) -> Path:
    return Path(backend.write(freeze(net), folder).path)


@pytest.mark.parametrize("backend", [Packed(), Onnx()], ids=["pdn", "onnx"])
def test_a_file_scores_as_the_network_it_holds(backend, tmp_path):
    net = Uniform(bits=4).apply(fold_batchnorm(small_conv())[0], Work())
    path = written(net, tmp_path, backend)
    found, wanted = paredown.score("micronet.imagenet", path), paredown.score("micronet.imagenet", net)
    assert found.terms == wanted.terms and found.total > 0 and found.passes is None
    assert paredown.score("dcase.2024", str(path)).passes is True


def closed(folder: Path, reference: Net, submission: Net) -> dict:
    for name, net in (("reference", reference), ("submission", submission)):
        written(net, folder / name, Onnx())
    paths = {name: f"{name}/{next((folder / name).iterdir()).name}" for name in ("reference", "submission")}
    (folder / "counts.json").write_text(json.dumps({**paths, "accuracy": 0.9, "latencies_ms": [1, 2, 3, 4, 5]}))
    return paredown.score("mlperf_tiny.image_classification", folder / "counts.json").to_json()


def test_the_closed_division_compares_two_files(tmp_path):
    net = fold_batchnorm(small_conv())[0]
    good = closed(tmp_path / "good", small_conv(), Uniform(bits=8).apply(net, Work()))
    assert good["passes"] is True and good["total"] == 3
    bad = closed(tmp_path / "bad", small_conv(), Weights(sparsity=0.5).apply(net, Work()))
    assert bad["passes"] is False and "pruned" in json.dumps(bad["checks"])


def test_a_run_was_minimised_by_the_score(run):
    folder, found = run
    key = "score:micronet.cifar100"
    scores = [row[key] for row in found["frontier"]]
    assert found["minimize"] == key and scores == sorted(scores) and min(scores) > 0
    for row in found["frontier"]:
        net = Net.load(folder / "run" / "candidates" / row["id"] / "net")
        tally = together(count(net).values())
        assert paredown.score("micronet.cifar100", tally.to_json()).total == pytest.approx(row[key])


def test_the_report_shows_the_score_among_what_is_counted(run):
    folder, found = run
    best = json.loads((folder / "run" / "candidates" / found["best"]["id"] / "result.json").read_text())
    assert best["cost"]["score:micronet.cifar100"] > 0 and "score:micronet.cifar100" not in best["measured"]
    assert "official score micronet.cifar100" in (folder / "run" / "report.html").read_text()


def test_a_run_is_scored_and_its_quality_counts_only_on_the_rules_own_data(run, monkeypatch):
    folder, found = run
    monkeypatch.chdir(folder)
    best = found["best"]["id"]
    code, out, _ = call(monkeypatch, "score", "micronet.cifar100", "run", "--json")
    scored = json.loads(out)
    assert code == 0 and scored["passes"] is None and "left out: accuracy" in scored["notes"][-1]
    assert "on digits" in scored["notes"][-1] and "about cifar100" in scored["notes"][-1]
    code, again, _ = call(monkeypatch, "score", "micronet.cifar100", f"run:{best}", "--json")
    assert json.loads(again) == scored
    code, text, _ = call(monkeypatch, "score", "dcase.2025", "run")
    assert code == 0 and "measured: accuracy" in text and "digits, test" in text


def test_the_list_and_a_card(monkeypatch):
    code, out, _ = call(monkeypatch, "rules", "--json")
    rows = json.loads(out)["rules"]
    assert code == 0 and {"micronet.cifar100", "dcase.2023", "lpcv.2018"} <= {row["name"] for row in rows}
    code, out, _ = call(monkeypatch, "rules", "dcase.2023", "--json")
    card = json.loads(out)
    assert card["unverified"] == ["kilobyte_bytes", "rank_weights"] and card["evidence"]["macs"] == "counted"
    assert all(row["clause"] for row in card["constants"])
    code, text, _ = call(monkeypatch, "rules", "dcase.2023")
    assert code == 0 and text.count("UNVERIFIED") == 2 and "limit_bytes = 128,000" in text
    code, text, _ = call(monkeypatch, "rules")
    assert code == 0 and "micronet.wikitext103" in text


NONSENSE = {
    "an unknown rule": (("score", "micronet.cifar10", "counts.json"), "micronet.cifar100"),
    "an unknown card": (("rules", "dcase.2019"), "dcase.2021"),
    "no source": (("score", "micronet.cifar100"), "source"),
    "a source that is nowhere": (("score", "micronet.cifar100", "nowhere"), "asked.json"),
    "a file that is not there": (("score", "micronet.cifar100", "none.json"), "none.json"),
    "an artifact that is not there": (("score", "micronet.cifar100", "none.pdn"), "none.pdn"),
    "a log that is not there": (("score", "dawnbench.squad_training", "none.tsv"), "none.tsv"),
    "counts that are no JSON": (("score", "micronet.cifar100", "words.json"), "words.json"),
    "counts that are a list": (("score", "micronet.cifar100", "list.json"), "values_by_bits"),
    "counts that lack some": (("score", "micronet.cifar100", "some.json"), "adds_by_bits"),
    "counts below zero": (("score", "micronet.cifar100", "below.json"), "-1"),
    "counts of another rule": (("score", "dcase.2022", "some.json"), "params"),
    "a reference of no known kind": (("score", "mlperf_tiny.keyword_spotting", "nets.json"), "a.bin"),
    "a rule that measures": (("find", "digits", "--floor", "0.9", "--minimize", "score:lpcv.2018"), "runtime_ms"),
    "a rule without a total": (("find", "digits", "--floor", "0.9", "--minimize", "score:dcase.2022"), "log_loss"),
    "an unknown score": (("find", "digits", "--floor", "0.9", "--minimize", "score:micronet"), "micronet.imagenet"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_gets_one_line_that_helps(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = {
        "words": "hello", "list": "[1, 2]", "some": '{"values_by_bits": {}, "mults_by_bits": {}}',
        "below": json.dumps({**OSI_AI, "mask_bits": -1}), "nets": '{"reference": "a.bin", "submission": "b.onnx"}',
    }  # fmt: skip
    for stem, text in texts.items():
        (tmp_path / f"{stem}.json").write_text(text)
    words, named = NONSENSE[name]
    code, out, err = call(monkeypatch, *words)
    assert code == 2 and out == "" and named in err, err
    assert err.startswith("paredown: ") and err.count("\n") == 1 and len(err) < 600
    assert not list(tmp_path.glob("runs/**/*"))


STRANGER = '''
from dataclasses import dataclass
from typing import ClassVar
from paredown.core.catalog import Card, part
from paredown.core.score import Score
from paredown.rules.evidence import Evidence, counted


class Size(Evidence):
    """What it wants."""
    params: int = counted(ge=0)


@part("stranger.thousands", Card(title="Thousands of parameters", source="a test"))
@dataclass(frozen=True)
class Thousands:
    """A rule of one line."""
    evidence: ClassVar[type[Size]] = Size

    def score(self, evidence):
        return Score("stranger.thousands", "", {"thousands": evidence.params / 1000}, evidence.params / 1000)
'''


def test_a_rule_is_one_file_of_any_package(tmp_path):
    """No shared file is edited: it is listed, has a card, scores and may be minimised."""
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "__init__.py").write_text("")
    (tmp_path / "stranger" / "thousands.py").write_text(STRANGER)
    (tmp_path / "c.json").write_text('{"params": 2500}')
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "PAREDOWN_PARTS": "stranger"}

    def run_(*words):
        line = [sys.executable, "-m", "paredown.cli", *words]
        return subprocess.run(line, check=False, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=120)

    scored = run_("score", "stranger.thousands", "c.json", "--json")
    assert scored.returncode == 0 and json.loads(scored.stdout)["total"] == 2.5, scored.stderr
    card = run_("rules", "stranger.thousands")
    assert card.returncode == 0 and "params: counted" in card.stdout, card.stderr
    goal = "from paredown.core.goal import Goal; print(Goal(0.5, 'score:stranger.thousands').rules)"
    done = subprocess.run(
        [sys.executable, "-c", goal], capture_output=True, text=True, env=env, timeout=120, check=True
    )
    assert "stranger.thousands" in done.stdout


def test_a_score_may_be_a_limit():
    limits = parse_limits(["score:micronet.cifar100=0.02"])
    goal = Goal(0.9, "file_bytes", limits)
    assert limits == {"score:micronet.cifar100": 0.02} and goal.rules == ("micronet.cifar100",)


def test_python_takes_evidence_and_networks():
    assert paredown.score("micronet.cifar100", {**OSI_AI, "accuracy": 0.79}).passes is False
    assert paredown.score("dcase.2022", small_conv()).total is None
    with pytest.raises(BadInput, match="lacks accuracy"):
        paredown.score("lpcv.2018", small_conv())
