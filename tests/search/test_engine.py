"""Whole small searches in this process."""

import json

import numpy as np
import pytest

import paredown
from paredown.core.errors import BadInput
from paredown.search import space as spaces


@pytest.fixture
def quick(monkeypatch):
    """Trainings of a few epochs."""
    monkeypatch.setattr(spaces.Measure, "epochs", lambda self, effort: max(1.0, 12 * effort))


@pytest.fixture
def vectors():
    """An easy task of vectors: three clouds."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(3, 6)) * 3
    y = np.arange(600) % 3
    return (centres[y] + draw.normal(size=(600, 6))).astype("float32"), y


def test_a_search_leaves_a_whole_run_folder(quick, vectors, tmp_path):
    run = paredown.find(vectors, floor=0.8, trials=5, out=tmp_path / "run")
    found = json.loads((tmp_path / "run" / "found.json").read_text())
    assert run.reached and found["reached"] and found["trials"] == 5
    best = found["best"]
    for artifact in best["artifacts"]:
        from paredown.core.artifact import sha256_of

        assert sha256_of(artifact["path"]) == artifact["sha256"]
        assert sum(artifact["itemised"].values()) == artifact["bytes"]
        again = paredown.evaluate(artifact["path"], vectors)
        assert again["value"] == artifact["test"] and again["bytes"] == artifact["bytes"]
    assert best["test"]["value"] == best["artifacts"][0]["test"]
    assert best["artifacts"][0]["mismatches"] == 0
    assert (tmp_path / "run" / "report.html").stat().st_size > 1000
    sizes = [row["file_bytes"] for row in found["frontier"]]
    values = [row["val"]["value"] for row in found["frontier"]]
    assert sizes == sorted(sizes) and values == sorted(values)


def test_test_is_touched_by_the_winner_alone(quick, vectors, tmp_path, monkeypatch):
    """No trial is given a task that has a test split, and only one stored result has a test value."""
    from paredown.search import engine

    seen = []
    real = engine.run

    def spied(candidate, bench, told=None):
        seen.append(set(bench.task.splits))
        return real(candidate, bench, told)

    monkeypatch.setattr(engine, "run", spied)
    paredown.find(vectors, floor=0.8, trials=4, out=tmp_path / "run")
    assert seen and all("test" not in roles for roles in seen)
    tested = [p for p in tmp_path.glob("run/candidates/*/result.json") if json.loads(p.read_text())["test"]]
    assert len(tested) == 1


def test_an_unreachable_floor_gives_the_best_and_says_why(quick, vectors, tmp_path):
    draw = np.random.default_rng(1)
    x, y = vectors
    run = paredown.find((x, draw.permutation(y)), floor=0.9, trials=3, out=tmp_path / "run")
    assert not run.reached and run.json["best"] and run.json["why"]


def test_workers_find_what_one_process_finds_on_the_same_trials(quick, vectors, tmp_path):
    """Two workers ask in larger rounds, so the trials differ; but each candidate's result is the same."""
    paredown.find(vectors, floor=0.8, trials=4, out=tmp_path / "one")
    paredown.find(vectors, floor=0.8, trials=4, workers=2, out=tmp_path / "two")
    shared = 0
    for path in tmp_path.glob("one/candidates/*/result.json"):
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        if other.exists():
            one, two = json.loads(path.read_text()), json.loads(other.read_text())
            assert one["artifacts"][0]["sha256"] == two["artifacts"][0]["sha256"]
            shared += 1
    assert shared >= 1


def test_prefixes_are_trained_once(quick, vectors, tmp_path, monkeypatch):
    """Candidates that differ in bytes alone share their float training."""
    from paredown.methods.train import finetune

    trained = []
    real = finetune.Finetune.apply
    monkeypatch.setattr(finetune.Finetune, "apply", lambda self, net, work: trained.append(1) or real(self, net, work))
    paredown.find(vectors, floor=0.8, trials=9, out=tmp_path / "run")
    assert len(trained) < 9


def test_hard_limits_are_kept(quick, vectors, tmp_path):
    run = paredown.find(vectors, floor=0.5, trials=6, limits={"macs": 150}, out=tmp_path / "run")
    assert run.json["best"]["cost"]["macs"] <= 150
    with pytest.raises(BadInput, match="file_bites"):
        paredown.find(vectors, floor=0.5, limits={"file_bites": 1})


def test_another_cost_can_be_minimised(quick, vectors, tmp_path):
    run = paredown.find(vectors, floor=0.6, trials=6, minimize="macs", out=tmp_path / "run")
    macs = [row["macs"] for row in run.frontier]
    assert macs == sorted(macs)
