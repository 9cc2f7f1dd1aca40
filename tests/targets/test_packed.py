"""Packed files predict what the network does that they come from."""

import lzma
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from frozen_nets import digits, mlp, network, trained

from paredown.core.artifact import Artifact, sha256_of
from paredown.core.errors import BadInput, Damaged
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.methods.edit.fold_batchnorm import FoldBatchnorm
from paredown.methods.prune.weights import Weights
from paredown.methods.quantize.uniform import Uniform
from paredown.methods.share.kmeans import Kmeans
from paredown.targets.deliver import handed_over
from paredown.targets.onnx import Onnx
from paredown.targets.packed import Packed, arrays_of
from paredown.zoo.lenet import lenet_300_100


def variants() -> dict[str, Net]:
    """Return the trained network in each form."""
    float_net = trained()
    folded = FoldBatchnorm().apply(float_net, Work())
    calib = Work({"calib": (torch.from_numpy(digits().inputs("calib")), None)})
    return {
        "float": float_net,
        "folded": folded,
        "masked": Weights(0.5).apply(folded, Work()),
        "shared": Kmeans(4).apply(folded, Work()),
        "rounded": Uniform(bits=4, bias_bits=6).apply(folded, Work()),
        "rounded activations": Uniform(bits=8, bias_bits=8, activation_bits=8).apply(folded, calib),
        "masked and rounded": Uniform(bits=3).apply(Weights(0.5).apply(folded, Work()), Work()),
    }


@pytest.mark.parametrize("name", variants())
def test_no_prediction_differs_from_torchs(name: str, tmp_path: Path) -> None:
    net = variants()[name].eval()
    artifact = Packed().write(freeze(net), tmp_path)
    predict = Packed().load(Path(artifact.path))
    for role in ("train", "val", "test"):
        x = digits().inputs(role)
        with torch.no_grad():
            wanted = net(torch.from_numpy(x)).numpy()
        assert (predict(x).argmax(1) != wanted.argmax(1)).sum() == 0
        assert "activations" in name or np.abs(predict(x) - wanted).max() < 1e-4
    if name == "float":
        assert (wanted.argmax(1) == digits().splits["test"].y).mean() > 0.95


def test_the_artifact_is_the_file(tmp_path: Path) -> None:
    artifact = Packed().write(freeze(mlp()), tmp_path / "deep" / "folder")
    path = Path(artifact.path)
    assert path.stat().st_size == artifact.bytes == sum(artifact.itemised.values())
    assert artifact.sha256 == sha256_of(path) and artifact.target == "packed"
    assert [p.name for p in path.parent.iterdir()] == ["model.pdn"]


def test_fewer_bits_take_fewer_bytes(tmp_path: Path) -> None:
    sizes = [Packed().write(freeze(Uniform(bits=b).apply(trained(), Work())), tmp_path).bytes for b in (8, 6, 4, 2)]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < 0.6 * sizes[0]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "onnx", "more"])
def test_a_damaged_file_is_refused(damage: str, tmp_path: Path) -> None:
    path = Path(Packed().write(freeze(mlp()), tmp_path).path)
    data = path.read_bytes()
    onnx = Path(Onnx().write(freeze(mlp()), tmp_path).path).read_bytes()
    half = len(data) // 2
    flipped = data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]
    path.write_bytes({"cut": data[:half], "flip": flipped, "empty": b"", "onnx": onnx, "more": data + b"\0"}[damage])
    with pytest.raises(Damaged) as error:
        Packed().load(path)
    assert "\n" not in str(error.value)


def test_absent_files_and_folders_are_bad_input(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pdn", tmp_path):
        with pytest.raises(BadInput, match="cannot be read"):
            Packed().load(path)


def test_samples_of_another_shape_are_bad_input(tmp_path: Path) -> None:
    predict = Packed().load(Path(Packed().write(freeze(mlp()), tmp_path).path))
    for shape in ((2, 1, 8, 9), (2, 7), (2,)):
        with pytest.raises(BadInput):
            predict(np.zeros(shape, np.float32))
    with pytest.raises(BadInput):
        predict(np.zeros((2, 1, 8, 8), np.float64))


def test_a_network_that_no_runtime_can_run_is_still_read() -> None:
    """Reading and running are two things: a container holds what ONNX cannot say."""
    from paredown.targets.container import read, write

    assert read(write(network(3))[0]).spec.nodes


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    for engine in (Packed(), Onnx()):
        engine.write(freeze(trained()), tmp_path)
    code = (
        "import sys, paredown\n"
        "for path in sys.argv[1:]:\n"
        "    found = paredown.evaluate(path, 'digits')\n"
        "    assert found['n'] == 450 and found['value'] > 0.95, found\n"
        "assert not [m for m in sys.modules if m.split('.')[0] == 'torch']\n"
    )
    files = [str(tmp_path / "model.pdn"), str(tmp_path / "model.onnx")]
    done = subprocess.run(
        [sys.executable, "-c", code, *files], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_masked_floats_take_what_they_and_their_places_do(sparsity: float, tmp_path: Path) -> None:
    """Four bytes for each weight that stays, and the entropy of where: H(s) bits an entry, within 3 % (lenet_300_100)."""
    net = capture(lenet_300_100((1, 28, 28), 10), torch.rand(2, 1, 28, 28))
    found = Packed().write(freeze(Weights(sparsity).apply(net, Work())), tmp_path).itemised["floats"]
    sizes = [net.slot(name)().numel() for name, _ in net.weighted()]
    entropy = -sparsity * np.log2(sparsity) - (1 - sparsity) * np.log2(1 - sparsity)
    assert found == pytest.approx(sum(sizes) * ((1 - sparsity) * 4 + entropy / 8), rel=0.03)


def test_general_compressors_are_told_beside(tmp_path: Path) -> None:
    frozen = freeze(mlp())
    written = Packed().write(frozen, tmp_path)
    artifact = handed_over(written, frozen)
    assert not written.beside and not handed_over(Onnx().write(frozen, tmp_path), frozen).beside
    assert set(artifact.beside) == {"zstd -19", "xz -9"} and all(size > 100 for size in artifact.beside.values())
    codes = b"".join(a.tobytes() for stored in frozen.tensors.values() for a in arrays_of(stored))
    assert len(lzma.compress(codes, preset=9)) == artifact.beside["xz -9"]
    assert Artifact.of_json(artifact.to_json()) == artifact
