"""Files are written, loaded by their suffix, and measured where they run."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from frozen_nets import digits, mlp, trained

from paredown.core.errors import BadInput, Damaged
from paredown.core.metric import wilson
from paredown.core.task import Split
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.targets.deliver import LATER, TARGETS, backend, deliver, latency_ms, load, measure
from paredown.train.data import Data
from paredown.train.evaluate import scores


def delivered(net: Net, target: str, folder: Path, role: str = "val"):
    return deliver(freeze(net), scores(net, Data.of(digits(), role)), digits(), role, target, folder)


@pytest.mark.parametrize("target", TARGETS)
def test_a_file_is_as_good_as_its_network(target: str, tmp_path: Path) -> None:
    net = trained()
    artifact = delivered(net, target, tmp_path)
    wanted = scores(net, Data.of(digits(), "val"))
    labels = digits().splits["val"].y
    assert artifact.mismatches == 0 and artifact.n == len(labels) and artifact.target == target
    assert artifact.quality is not None and artifact.quality.split == "val"
    assert artifact.quality.value == (wanted.argmax(1) == labels).mean()
    found = measure(artifact.path, digits(), "val")
    assert (found["value"], found["low"], found["high"]) == (
        artifact.quality.value,
        artifact.quality.low,
        artifact.quality.high,
    )
    assert found["bytes"] == artifact.bytes and found["n"] == len(labels) and found["schema"] == "paredown/evaluate/1"
    assert 0 < found["latency_ms"]["low"] <= found["latency_ms"]["median"] <= found["latency_ms"]["high"]


def test_mismatches_are_counted(tmp_path: Path) -> None:
    net = trained()
    other = scores(net, Data.of(digits(), "val"))
    other[:7] = -other[:7]
    artifact = deliver(freeze(net), other, digits(), "val", "packed", tmp_path)
    assert artifact.mismatches == 7


def test_the_confidence_is_the_intervals(tmp_path: Path) -> None:
    path = delivered(trained(), "packed", tmp_path).path
    wide, narrow = (measure(path, digits(), "test", c) for c in (0.99, 0.8))
    assert wide["low"] < narrow["low"] <= wide["value"] == narrow["value"] <= narrow["high"] < wide["high"]
    assert (wide["low"], wide["high"]) == wilson(wide["value"], 450, 0.99)


def test_a_file_under_the_others_name_is_refused(tmp_path: Path) -> None:
    net = freeze(mlp())
    for engine, wrong in (("packed", "x.onnx"), ("onnx", "x.pdn")):
        path = Path(backend(engine).write(net, tmp_path).path)
        shutil.copy(path, tmp_path / wrong)
        with pytest.raises(Damaged):
            load(tmp_path / wrong)
    for name in ("model.bin", "model", "model.pt"):
        shutil.copy(tmp_path / "model.pdn", tmp_path / name)
        with pytest.raises(BadInput, match="no known kind"):
            load(tmp_path / name)


def test_targets_that_are_not_there() -> None:
    for target in LATER:
        with pytest.raises(BadInput, match="not available"):
            backend(target)
    for target in ("tflite", "", "prune.weights", "no.such"):
        with pytest.raises(BadInput):
            backend(target)


def test_a_task_that_does_not_fit_the_file(tmp_path: Path) -> None:
    path = delivered(trained(), "packed", tmp_path).path
    small = replace(
        digits(), splits={"test": Split(np.zeros((3, 1, 9, 9), np.uint8), np.zeros(3, int))}, shape=(1, 9, 9)
    )
    with pytest.raises(BadInput, match=r"\(1, 9, 9\)"):
        measure(path, small)
    with pytest.raises(BadInput, match="2 classes"):
        measure(path, replace(digits(), classes=("a", "b")))
    with pytest.raises(BadInput, match="split 'tset'"):
        measure(path, digits(), "tset")


def test_latency_is_of_one_sample() -> None:
    seen = []
    found = latency_ms(lambda x: seen.append(x.shape) or x, np.zeros((1, 4)), repeats=8)
    assert set(seen) == {(1, 4)} and len(seen) == 13 and found["repeats"] == 8
