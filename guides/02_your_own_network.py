"""You learn: to compress your own network on your own arrays, with a recipe of your own, into a file you can measure.

There is no class to subclass. A model is a function that returns a torch module (`path/to/file.py:function`, here in
this very file); a task is a pair of arrays. The recipe trains, removes half of the channels, trains again, folds the
batch norms and rounds to 4 bits: all steps from the catalogue (`paredown methods`).
"""

import tempfile
from pathlib import Path

from sklearn.datasets import load_digits
from torch import nn

import paredown


def make(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return any network for samples of this shape; its weights are drawn by torch."""
    return nn.Sequential(
        nn.Conv2d(shape[0], 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(24 * 4, classes),
    )  # fmt: skip


RECIPE = [
    {"part": "train.finetune", "plan": {"epochs": 12, "lr": 0.01}},
    {"part": "prune.channels", "ratio": 0.5, "score": {"part": "score.taylor"}},
    {"part": "train.finetune", "plan": {"epochs": 12, "lr": 0.005}},
    {"part": "edit.fold_batchnorm"},
    {"part": "quantize.uniform", "bits": 4},
]


def main() -> None:
    digits = load_digits()
    x, y = (digits.images / 16).astype("float32")[:, None], digits.target  # n x channels x height x width
    folder = Path(tempfile.mkdtemp()) / "run"
    recipe = paredown.Recipe.of_json(RECIPE)
    run = paredown.apply(recipe, f"{__file__}:make", (x, y), out=folder)

    before = paredown.analyze(make((1, 8, 8), 10), (1, 8, 8))["total"]
    after = run.json["best"]["cost"]
    print(f"parameters {before['params']} -> {after['params']}, MACs {before['macs']} -> {after['macs']}")
    assert run.best is not None
    measured = paredown.evaluate(run.best.path, (x, y))  # a .pdn: decoded without torch
    onnx = paredown.evaluate(folder / "best.onnx", (x, y))  # the same network for any ONNX runtime
    assert measured["value"] == onnx["value"] > 0.9
    assert after["params"] < before["params"] / 2
    print(f"float weights would take {before['bits'] // 8} bytes, the file takes {measured['bytes']}")
    print(f"claim: {measured['bytes']} bytes, test accuracy {measured['value']:.4f}, the same in both formats")


if __name__ == "__main__":
    main()
