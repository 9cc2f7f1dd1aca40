"""One candidate: prefixes, teachers, notes, failure and the deadline."""

import json
import time

import pytest
import torch

from paredown.core.candidate import Candidate
from paredown.core.recipe import Recipe
from paredown.data.tasks import load
from paredown.search import trial
from paredown.search.trial import Bench, OutOfTime, run

PLAN = {"epochs": 3, "lr": 0.01, "batch": 64}
TRAIN = {"part": "train.finetune", "plan": PLAN}
LEARN = {"part": "quantize.learned_step", "plan": PLAN}


@pytest.fixture(scope="module")
def digits():
    return load("digits").without("test")


def candidate(task, *steps, model="logistic", seed=0):
    return Candidate({"model": model}, Recipe.of_json(list(steps)), seed, task.digest)


def test_a_result_tells_its_story_and_its_file_is_what_it_says(digits, tmp_path):
    result, _ = run(candidate(digits, TRAIN, LEARN), Bench(digits, "cpu", tmp_path))
    assert [c["step"] for c in result.steps] == ["train.finetune", "quantize.learned_step"]
    assert result.steps[-1]["file_bytes"] == result.file_bytes == result.artifacts[0].bytes
    assert result.artifacts[0].mismatches == 0 and result.val.split == "val" and result.val.n == 336
    assert sum(row["params"] for row in result.layers) == result.cost["params"] == 650


def test_the_longest_stored_prefix_is_gone_on_from(digits, tmp_path, monkeypatch):
    bench = Bench(digits, "cpu", tmp_path)
    first, _ = run(candidate(digits, TRAIN, LEARN), bench)
    fitted = []
    real = trial.fit
    monkeypatch.setattr(trial, "fit", lambda *a, **k: fitted.append(1) or real(*a, **k))
    second, _ = run(candidate(digits, TRAIN, {**LEARN, "bits": 3}), bench)
    assert len(fitted) == 1 and second.steps[0] == first.steps[0]
    alone, _ = run(candidate(digits, TRAIN, {**LEARN, "bits": 3}), Bench(digits, "cpu", tmp_path / "alone"))
    assert alone.artifacts[0].sha256 == second.artifacts[0].sha256


def test_a_loss_with_a_teacher_learns_from_the_network_before_the_step(digits, tmp_path, monkeypatch):
    seen = []
    real = trial.fit

    def spied(net, data, loss, habits, plan, seed, extras):
        seen.append((loss.part_name, extras.teacher, {k: v.clone() for k, v in net.state_dict().items()}))
        return real(net, data, loss, habits, plan, seed, extras)

    monkeypatch.setattr(trial, "fit", spied)
    soft = {**TRAIN, "loss": {"part": "loss.soften", "temperature": 2.0}}
    run(candidate(digits, TRAIN, soft), Bench(digits, "cpu", tmp_path))
    assert seen[0][1] is None
    name, teacher, before = seen[1]
    assert name == "loss.soften" and not teacher.training
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())


def test_a_model_of_the_zoo_can_teach_from_the_first_step(digits, tmp_path):
    soft = {**TRAIN, "loss": {"part": "loss.soften", "teacher": "lenet_300_100"}}
    result, _ = run(candidate(digits, soft), Bench(digits, "cpu", tmp_path))
    plain, _ = run(candidate(digits, TRAIN), Bench(digits, "cpu", tmp_path))
    assert result.failed is None and result.artifacts[0].sha256 != plain.artifacts[0].sha256


def test_learning_from_oneself_before_any_training_is_refused(digits, tmp_path):
    result, _ = run(candidate(digits, {**TRAIN, "loss": {"part": "loss.soften"}}), Bench(digits, "cpu", tmp_path))
    assert "no trained network to learn from" in result.failed


def test_what_a_step_left_alone_is_noted(digits, tmp_path):
    _, notes = run(candidate(digits, TRAIN, {"part": "quantize.uniform"}, model="mlp"), Bench(digits, "cpu", tmp_path))
    assert any(n["step"] == "quantize.uniform" and "batch_norm" in n["text"] for n in notes)


def test_the_deadline_stops_a_training_and_leaves_no_half_of_it(digits, tmp_path):
    bench = Bench(digits, "cpu", tmp_path, deadline=time.time() - 1)
    with pytest.raises(OutOfTime):
        run(candidate(digits, TRAIN), bench)
    assert not list(tmp_path.glob("steps/*/story.json"))


def test_a_stored_story_is_plain_json(digits, tmp_path):
    run(candidate(digits, TRAIN), Bench(digits, "cpu", tmp_path))
    story = json.loads(next(tmp_path.glob("steps/*/story.json")).read_text())
    assert story["steps"][0]["step"] == "train.finetune"
