"""ONNX files: integers are integers there, in as few bits as were asked for."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from frozen_nets import digits, mlp, trained
from onnx import TensorProto, numpy_helper

from paredown.core.errors import BadInput, Damaged
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.graph.slots import Codebook, Grid
from paredown.methods.edit.fold_batchnorm import FoldBatchnorm
from paredown.methods.quantize.uniform import Uniform
from paredown.targets.lower import build
from paredown.targets.onnx import Onnx


def quantized(net: Net, **settings: object) -> Net:
    x = torch.from_numpy(digits().inputs("calib"))
    return Uniform(**settings).apply(net, Work({"calib": (x, None)})).eval()


def written(net: Net, folder: Path) -> onnx.ModelProto:
    artifact = Onnx().write(freeze(net), folder)
    assert sum(artifact.itemised.values()) == artifact.bytes == Path(artifact.path).stat().st_size
    return onnx.load(artifact.path)


@pytest.mark.parametrize(
    ("bits", "kind", "per_weight"),
    [(8, TensorProto.INT8, 1.0), (5, TensorProto.INT8, 1.0), (4, TensorProto.INT4, 0.5), (3, TensorProto.INT4, 0.5)],
)
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_weights_are_stored_at_their_width(
    bits: int, kind: int, per_weight: float, granularity: str, tmp_path: Path
) -> None:
    net = quantized(mlp(), bits=bits, granularity=granularity)
    model = written(net, tmp_path)
    codes = {tuple(t.dims): t for t in model.graph.initializer if len(t.dims) == 2}
    assert set(codes) == {(40, 64), (10, 40)}
    for shape, tensor in codes.items():
        assert tensor.data_type == kind and not tensor.float_data and not tensor.int32_data
        assert len(tensor.raw_data) == np.prod(shape) * per_weight
    read_by = {node.input[0]: node.op_type for node in model.graph.node}
    reader = "Cast" if bits <= 4 else "DequantizeLinear"  # 4-bit codes are read as int8
    assert all(read_by[t.name] == reader for t in codes.values())
    floats = sum(len(t.raw_data) for t in model.graph.initializer if t.data_type == TensorProto.FLOAT)
    assert floats <= 4 * (50 + (50 if granularity == "channel" else 2))
    stored = np.sort(np.concatenate([numpy_helper.to_array(t).astype(int).ravel() for t in codes.values()]))
    held = np.concatenate(
        [net.slot(n).codes.numpy().astype(int).ravel() for n in net.slot_names() if n.endswith("weight")]
    )
    np.testing.assert_array_equal(stored, np.sort(held))


def test_a_codebook_is_stored_as_indices(tmp_path: Path) -> None:
    net = mlp()
    for name in [n for n in net.slot_names() if n.endswith("weight")]:
        shape = net.slot(name)().shape
        net.set_slot(name, Codebook(torch.randint(0, 9, shape), torch.randn(9)))
    kinds = {tuple(t.dims): t.data_type for t in written(net, tmp_path).graph.initializer}
    assert kinds[40, 64] == kinds[10, 40] == TensorProto.UINT4 and kinds[9,] == TensorProto.FLOAT


@pytest.mark.parametrize(("bits", "held"), [(1, 320), (2, 640)])
def test_one_and_two_bits_are_packed_into_bytes_where_that_is_smaller(bits: int, held: int, tmp_path: Path) -> None:
    """Of the two layers the larger one is packed; the codes of the smaller one are 4-bit integers."""
    net = mlp()
    for name, _ in net.weighted():
        weight = net.slot(name)().detach()
        codes = weight.sign() if bits == 1 else (weight * 20).round().clamp(-2, 1)
        net.set_slot(name, Grid(codes, weight.abs().mean(1, keepdim=True), bits))
    tensors = {t.name: t for t in written(net, tmp_path).graph.initializer if t.name.startswith("w")}
    assert sorted((t.data_type, len(t.raw_data)) for t in tensors.values()) == [
        (TensorProto.UINT8, held), (TensorProto.INT4, 200),
    ]  # fmt: skip
    x = digits().inputs("val")
    got = Onnx().load(tmp_path / "model.onnx")(x)
    np.testing.assert_allclose(got, net.eval()(torch.from_numpy(x)).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_sixteen_bits(tmp_path: Path) -> None:
    net = quantized(mlp(), bias_bits=16)
    kinds = {tuple(t.dims): t.data_type for t in written(net, tmp_path).graph.initializer}
    assert kinds[40,] == TensorProto.INT16
    x = digits().inputs("val")
    predict = Onnx().load(tmp_path / "model.onnx")
    np.testing.assert_allclose(predict(x), net(torch.from_numpy(x)).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("activation_bits", [0, 8, 4])
def test_predictions_are_torchs(bits: int, activation_bits: int, tmp_path: Path) -> None:
    folded = FoldBatchnorm().apply(trained(), Work())
    net = quantized(folded, bits=bits, bias_bits=8, activation_bits=activation_bits)
    model = written(net, tmp_path)
    quantizers = {n.input[2] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    kinds = {t.name: t.data_type for t in model.graph.initializer}
    assert {kinds[q] for q in quantizers} == ({TensorProto.UINT8} if activation_bits else set())
    x = digits().inputs("val")
    got = Onnx().load(tmp_path / "model.onnx")(x)
    with torch.no_grad():
        scores = net(torch.from_numpy(x)).numpy()
    assert (got.argmax(1) == scores.argmax(1)).mean() >= (1 if not activation_bits else 0.99)
    assert (got.argmax(1) == digits().splits["val"].y).mean() > 0.5


def test_the_batch_is_free_and_any_runtime_may_load_it(tmp_path: Path) -> None:
    model = written(trained(), tmp_path)
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    predict = Onnx().load(tmp_path / "model.onnx")
    x = digits().inputs("val")
    whole = predict(x)
    assert whole.shape == (len(x), 10)
    np.testing.assert_allclose(np.concatenate([predict(x[:1]), predict(x[1:4])]), whole[:4], rtol=1e-5, atol=1e-5)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    data = (tmp_path / "model.onnx", Onnx().write(freeze(mlp()), tmp_path))[0].read_bytes()
    broken = tmp_path / "broken.onnx"
    for content in (b"", b"PDN\x01rubbish", data[: len(data) // 2], b"\x80\x04pickle", data[:-3]):
        broken.write_bytes(content)
        with pytest.raises(BadInput) as error:
            Onnx().load(broken)
        assert "\n" not in str(error.value)
    broken.write_bytes(b"")
    with pytest.raises(Damaged):
        Onnx().load(broken)
    with pytest.raises(BadInput, match="cannot be read"):
        Onnx().load(tmp_path / "absent.onnx")


@pytest.mark.parametrize("shape", [(2, 1, 8, 9), (2, 64), (2, 1, 8), (2, 3, 8, 8)])
def test_samples_of_another_shape_are_bad_input(shape: tuple[int, ...], tmp_path: Path) -> None:
    Onnx().write(freeze(mlp()), tmp_path)
    with pytest.raises(BadInput) as error:
        Onnx().load(tmp_path / "model.onnx")(np.zeros(shape, np.float32))
    assert "\n" not in str(error.value)


def test_a_network_still_in_training_is_not_written(tmp_path: Path) -> None:
    from paredown.graph.slots import LearnedStep

    net = mlp()
    net.set_slot("1.weight", LearnedStep(net.slot("1.weight")(), 4, torch.tensor(0.1)))
    with pytest.raises(BadInput, match="training only"):
        freeze(net)
    assert not list(tmp_path.iterdir())


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full while the file is written leaves nothing under its name."""
    import os

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        Onnx().write(freeze(mlp()), tmp_path)
    assert not list(tmp_path.iterdir())


def test_normalised_and_dictionary_outputs(tmp_path: Path) -> None:
    class Two(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"scores": x.flatten(1)[:, :10], "rest": x.sum((1, 2, 3))}

    model = written(capture(Two(), torch.rand(2, 1, 8, 8)), tmp_path)
    assert [o.name for o in model.graph.output] == ["scores", "rest"]
    x = digits().inputs("val")[:3]
    np.testing.assert_array_equal(Onnx().load(tmp_path / "model.onnx")(x), x.reshape(3, -1)[:, :10])


def test_no_input_is_written_that_is_not_there() -> None:
    """ONNX Runtime fuses a norm only into a convolution of two inputs or three, not of two and an empty one."""
    model = build(freeze(trained()))
    assert any(node.op_type == "BatchNormalization" for node in model.graph.node)
    assert all(node.input[-1] for node in model.graph.node if node.input)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/fused.onnx"
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        fused = onnx.load(options.optimized_model_filepath)
    assert not any(node.op_type == "BatchNormalization" for node in fused.graph.node)
