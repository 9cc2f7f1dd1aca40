"""A recipe that ends in a file of integers alone: applied, measured, counted, read back, and the reference's in every code."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from test_surface import call

from paredown.data.tasks import load
from paredown.graph.freeze import freeze
from paredown.graph.from_onnx import from_onnx
from paredown.graph.integer_net import IntegerNet
from paredown.targets.onnx import Onnx
from paredown.targets.runtime import predictor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the recipe's run in `run`; the network is a small one with residual sums."""
    folder = tmp_path_factory.mktemp("integers")
    (folder / "net.py").write_text(
        "from paredown.zoo.resnet import resnet_small\n\n\ndef make():\n    return resnet_small((1, 8, 8), 10, depth=8, width=8)\n"
    )
    (folder / "r.yaml").write_text(
        "steps:\n  - {part: train.finetune, plan: {epochs: 4, lr: 0.01}}\n  - {part: edit.fold_batchnorm}\n"
        "  - {part: quantize.uniform, bits: 8}\n  - {part: quantize.activations, everywhere: true}\n"
    )
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    words = (
        "apply",
        "r.yaml",
        "digits",
        "--model",
        "net.py:make",
        "--target",
        "onnx",
        "--target",
        "packed",
        "--out",
        "run",
    )
    code, out = call(patch, *words, "--json")
    assert code == 0
    (folder / "found.json").write_text(out)
    yield folder
    patch.undo()


def test_both_files_are_the_network(folder: Path) -> None:
    best = json.loads((folder / "found.json").read_text())["best"]
    assert best["test"]["value"] > 0.85
    onnx_file, packed = best["artifacts"]
    assert (onnx_file["target"], packed["target"], packed["mismatches"]) == ("onnx", "packed", 0)
    # Where the processor saturates pairs of int8 products, predictions of the plain ONNX file may differ, and it is said.
    assert onnx_file["mismatches"] == 0 or "there are 0 mismatches" in onnx_file["note"]


def test_the_file_evaluates_and_is_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    best = json.loads((folder / "found.json").read_text())["best"]
    code, out = call(monkeypatch, "evaluate", "run/best.onnx", "digits", "--json")
    assert code == 0 and json.loads(out)["value"] == best["test"]["value"]
    code, out = call(monkeypatch, "analyze", "run/best.onnx", "--json")
    assert code == 0 and json.loads(out)["total"]["macs"] == best["cost"]["macs"]


def test_the_reference_has_the_files_scores(folder: Path) -> None:
    """Read back from ONNX, int32 biases and all, on the task's test split."""
    x = load("digits").inputs("test")
    frozen = freeze(from_onnx(folder / "run/best.onnx").eval())
    predict = predictor(Onnx().model(folder / "run/best.onnx"), exact=True)
    np.testing.assert_array_equal(IntegerNet(frozen).scores(x), predict(x))
    held = {t.data_type for t in onnx.load(folder / "run/best.onnx").graph.initializer}
    assert {onnx.TensorProto.INT8, onnx.TensorProto.INT32, onnx.TensorProto.UINT8} <= held
