"""You learn: to make a network's file many times smaller by pruning, sharing and entropy coding, and what each stage gives.

Deep Compression's three stages (arxiv:1510.00149) are three steps and a file: small weights are held at zero and the rest is trained
on; those share a few values, which are trained on; the packed file codes which value each weight has.
"""

import io
import lzma
import tempfile
from pathlib import Path

import numpy as np
import zstandard
from torch import manual_seed

import paredown
from paredown.core.work import Work
from paredown.graph.freeze import freeze
from paredown.targets.packed import Packed
from paredown.train.data import Data
from paredown.train.fit import fit
from paredown.zoo.lenet import lenet_300_100

TRAIN = {"part": "train.finetune", "plan": {"epochs": 15, "lr": 0.002}}
PRUNE = {"part": "prune.weights", "sparsity": 0.9, "scope": "global"}
SHARE = {"part": "share.kmeans", "clusters": 8}
TUNE = {"part": "train.finetune", "habits": [{"part": "habit.centroids"}], "plan": {"epochs": 5, "lr": 0.0005}}


def main() -> None:
    manual_seed(0)
    task, folder = paredown.load_task("digits"), Path(tempfile.mkdtemp())
    train, test = Data.of(task, "train"), task.splits["test"]
    work = Work({"fit": lambda net, **asked: fit(net, train, **asked)})
    net, found = paredown.capture(lenet_300_100(task.shape, 10), train.x[:2]), []
    for stage, steps in {"float": [TRAIN], "pruned": [PRUNE, TRAIN], "shared": [SHARE, TUNE]}.items():
        for step in paredown.Recipe.of_json(steps):
            net = step.apply(net, work)
        frozen, arrays = freeze(net), io.BytesIO()
        file = Packed().write(frozen, folder)
        right = Packed().load(folder / "model.pdn")(task.inputs("test")).argmax(1) == test.y  # of the file, read back
        np.savez(arrays, *(tensor.value for tensor in frozen.tensors.values()))
        raw = arrays.getvalue()
        sizes = file.bytes, len(zstandard.ZstdCompressor(19).compress(raw)), len(lzma.compress(raw, preset=9))
        print(
            f"{stage}: {len(raw)} bytes of arrays, packed {sizes[0]}, zstd {sizes[1]}, xz {sizes[2]}, {right.mean():.4f}"
        )
        found.append((file.bytes, float(right.mean())))
    (whole, before), _, (small, after) = found
    assert small < min(sizes[1:]) and whole > 20 * small and after > before - 0.02
    print(f"claim: {whole} -> {small} bytes, {whole / small:.0f} times smaller, test {before:.4f} -> {after:.4f}")


if __name__ == "__main__":
    main()
