"""ONNX files as networks: ours, PyTorch's exporter's, and graphs written by hand, each against ONNX Runtime."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "targets"))

from op_cases import CASES

import paredown
from paredown.core.artifact import sha256_of
from paredown.core.errors import BadInput, Damaged
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.from_onnx import from_onnx
from paredown.graph.groups import groups
from paredown.graph.shrink import remove_channels
from paredown.graph.slots import Codebook, Fixed, Free, Grid
from paredown.methods.quantize.uniform import Uniform
from paredown.methods.share.kmeans import Kmeans
from paredown.search import space as spaces
from paredown.targets.lower import build
from paredown.targets.runtime import session

DRAW = np.random.default_rng(0)


def floats(*shape):
    return DRAW.normal(size=shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def written(nodes, shape, weights=None, opset=21, batch="n", sizes=None):
    """An ONNX model of one input `x` and one output `y`. nodes: (op, inputs, outputs, attributes)."""
    made = [
        helper.make_node(op, read.split(",") if read else [], made.split(","), **attributes)
        for op, read, made, attributes in nodes
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *(sizes or shape)])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    stored = [w if isinstance(w, TensorProto) else numpy_helper.from_array(w, n) for n, w in (weights or {}).items()]
    graph = helper.make_graph(made, "hand", inputs, outputs, stored)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9 if opset < 21 else 10)
    model = onnx.shape_inference.infer_shapes(model)
    if not model.graph.output[0].type.tensor_type.HasField("shape"):
        model.graph.output[0].type.tensor_type.shape.SetInParent()
    return model


def agree(net, model, shape, counts=(1, 2, 5)):
    """Assert that the network computes what ONNX Runtime computes, whatever the batch size."""
    run, net = session(model), net.eval()
    for count in counts:
        x = DRAW.random((count, *shape)).astype(np.float32) - 0.3
        wanted = run.run(None, {run.get_inputs()[0].name: x})[0]
        with torch.no_grad():
            got = net(torch.from_numpy(x)).numpy()
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(wanted).max())))


@pytest.mark.parametrize("name", CASES)
def test_what_we_write_we_read(name):
    module, shape = CASES[name]
    net = capture(module, torch.rand(2, *shape))
    again = from_onnx(build(freeze(net))).eval()
    for count in (1, 2, 5):
        x = torch.rand(count, *shape)
        with torch.no_grad():
            torch.testing.assert_close(again(x), net.eval()(x), rtol=1e-4, atol=1e-5)


PICTURE = (4, 7, 9)
KERNEL, BIAS = floats(6, 4, 3, 3), floats(6)
WINDOW = {"kernel_shape": [3, 2], "strides": [2, 2]}
MATRIX, VECTOR = floats(5, 8), floats(5)
NONE = np.zeros(0, np.float32)


def conv(**attributes):
    return [("Conv", "x,w,b", "y", attributes)], PICTURE, {"w": KERNEL, "b": BIAS}


def pool(op, opset=21, **attributes):
    return [(op, "x", "y", {**WINDOW, **attributes})], PICTURE, {}, opset


def back(**attributes):
    return [("ConvTranspose", "x,w", "y", attributes)], PICTURE, {"w": floats(4, 3, 3, 3)}


def gemm(weight=MATRIX, third=VECTOR, **attributes):
    return [("Gemm", "x,w,c", "y", attributes)], (8,), {"w": weight, "c": third}


def one(op, *others, shape=PICTURE, opset=21, **attributes):
    names = [f"c{at}" for at in range(len(others))]
    return [(op, ",".join(["x", *names]), "y", attributes)], shape, dict(zip(names, others, strict=True)), opset


def turned(op, other, shape=PICTURE):
    return [(op, "c,x", "y", {})], shape, {"c": other}


def grid_sample(mode, opset, **attributes):
    """Sampling at places that the picture's first two channels give."""
    nodes = [
        ("Slice", "x,from,to,axis", "two", {}), ("Transpose", "two", "places", {"perm": [0, 2, 3, 1]}),
        ("GridSample", "x,places", "y", {"mode": mode, **attributes}),
    ]  # fmt: skip
    return nodes, PICTURE, {"from": ints(0), "to": ints(2), "axis": ints(1)}, opset


BELL = [("Div", "x,root", "a", {}), ("Erf", "a", "e", {}), ("Add", "e,one", "p", {})]
BELLS = {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
CHAIN = [
    ("Shape", "x", "s", {}), ("Gather", "s,zero", "n", {}), ("Unsqueeze", "n,first", "n1", {}),
    ("Concat", "n1,rest", "to", {"axis": 0}), ("Reshape", "x,to", "y", {}),
]  # fmt: skip

HAND = {
    "conv same upper": conv(auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv same lower": conv(auto_pad="SAME_LOWER", strides=[2, 2]),
    "conv valid": conv(auto_pad="VALID", dilations=[2, 1]),
    "conv uneven pads": conv(pads=[0, 1, 2, 0]),
    "transposed uneven": back(strides=[2, 2], pads=[0, 1, 1, 0], output_padding=[1, 0]),
    "transposed to a shape": back(strides=[2, 2], output_shape=[14, 18]),
    "transposed same": back(strides=[2, 2], auto_pad="SAME_UPPER"),
    "gemm": gemm(transB=1),
    "gemm turned": gemm(np.ascontiguousarray(MATRIX.T)),
    "gemm scaled": gemm(transB=1, alpha=0.5, beta=2.0),
    "gemm scalar": gemm(third=floats(1), transB=1),
    "gemm row": gemm(third=floats(1, 5), transB=1),
    "gemm bare": ([("Gemm", "x,w", "y", {"transB": 1})], (8,), {"w": MATRIX}),
    "gemm of values": (
        [("Gemm", "x,x", "p", {"transA": 1}), ("Gemm", "x,p,c", "y", {"beta": 0.5})], (8,), {"c": floats(8)},
    ),
    "matmul left": turned("MatMul", floats(3, 7)),
    "matmul and sum": (
        [("MatMul", "x,w", "p", {}), ("Add", "b,p", "y", {})], (5, 8), {"w": floats(8, 3), "b": floats(3)},
    ),
    "max same": pool("MaxPool", auto_pad="SAME_LOWER"),
    "max uneven": pool("MaxPool", pads=[1, 0, 0, 1]),
    "max ceil": pool("MaxPool", ceil_mode=1),
    "average same": pool("AveragePool", auto_pad="SAME_UPPER"),
    "average uneven": pool("AveragePool", pads=[1, 0, 0, 1]),
    "average uneven counted": pool("AveragePool", pads=[1, 0, 0, 1], count_include_pad=1),
    "average old": pool("AveragePool", opset=11, pads=[1, 1, 1, 1]),
    "global max": one("GlobalMaxPool"),
    "global volume": one("GlobalAveragePool", shape=(2, 3, 4, 5)),
    "instance norm": one("InstanceNormalization", floats(4), floats(4), epsilon=0.01),
    "group norm": one("GroupNormalization", floats(4), floats(4), num_groups=2),
    "layer norm over two": one("LayerNormalization", floats(7, 9), floats(7, 9), axis=2),
    "prelu": one("PRelu", floats(4, 1, 1)),
    "selu": one("Selu", alpha=1.0, gamma=2.0),
    "hard sigmoid": one("HardSigmoid", alpha=0.3, beta=0.4),
    "softplus": one("Softplus"),
    "clip old": one("Clip", min=-0.1, max=0.2, opset=6),
    "clip": one("Clip", np.float32(-0.1), np.float32(0.2)),
    "clip at zero": one("Clip", np.float32(0)),
    "softmax old": one("Softmax", shape=(8,), opset=11),
    "number minus": turned("Sub", np.float32(2)),
    "number over": ([("Exp", "x", "e", {}), ("Div", "c,e", "y", {})], PICTURE, {"c": np.float32(2)}),
    "tensor minus": turned("Sub", floats(4, 1, 1)),
    "tensor over": ([("Exp", "x", "e", {}), ("Div", "c,e", "y", {})], PICTURE, {"c": floats(4, 1, 1)}),
    "reciprocal": ([("Exp", "x", "e", {}), ("Reciprocal", "e", "y", {})], PICTURE),
    "power": one("Pow", np.float32(3)),
    "maximum": one("Max", np.float32(0.1)),
    "minimum of three": ([("Neg", "x", "m", {}), ("Min", "x,c,m", "y", {})], PICTURE, {"c": floats(4, 1, 1)}),
    "sum of three": ([("Neg", "x", "m", {}), ("Sum", "x,c,m", "y", {})], PICTURE, {"c": floats(4, 1, 1)}),
    "mean old": one("ReduceMean", axes=[2, 3], keepdims=0, opset=13),
    "sum": one("ReduceSum", ints(-1, 1)),
    "chain of shapes": (CHAIN, PICTURE, {"zero": np.int64(0), "first": ints(0), "rest": ints(4, -1)}),
    "reshape keeps": one("Reshape", ints(0, 0, -1)),
    "flatten": one("Flatten"),
    "flatten far": one("Flatten", axis=3),
    "squeeze": one("Squeeze", ints(1, -1), shape=(1, 5, 1)),
    "unsqueeze two": one("Unsqueeze", ints(1, -1)),
    "slice old": one("Slice", axes=[1, 2], starts=[1, -4], ends=[3, 100], opset=9),
    "slice": one("Slice", ints(1, 0), ints(100, -1), ints(2, 3), ints(2, 1)),
    "gather one": one("Gather", np.int64(-1), axis=2),
    "gather run": one("Gather", ints(1, 2), axis=1),
    "pad": one("Pad", ints(0, 0, 1, 2, 0, 1, 0, 0), np.float32(0.7)),
    "pad axes": one("Pad", ints(1, 2), np.float32(0), ints(2)),
    "resize": one("Resize", NONE, np.float32([1, 1, 2, 3])),
    "resize asymmetric": one("Resize", NONE, np.float32([1, 1, 2, 2]), coordinate_transformation_mode="asymmetric"),
    "resize linear": one("Resize", NONE, np.float32([1, 1, 2, 2]), mode="linear"),
    "resize cubic": one("Resize", NONE, np.float32([1, 1, 2, 3]), mode="cubic"),
    "resize cubic corners": one(
        "Resize", NONE, NONE, ints(5, 12), mode="cubic", axes=[2, 3], coordinate_transformation_mode="align_corners"
    ),
    "grid sample old": grid_sample("bilinear", 16, align_corners=1),
    "grid sample old cubic": grid_sample("bicubic", 16, padding_mode="border"),
    "grid sample": grid_sample("linear", 20, padding_mode="reflection"),
    "grid sample nearest": grid_sample("nearest", 20),
    "upsample": one("Upsample", np.float32([1, 1, 2, 2]), opset=9),
    "depth to space": one("DepthToSpace", blocksize=2),
    "space to depth": one("SpaceToDepth", blocksize=2, shape=(3, 4, 6)),
    "transpose": one("Transpose", perm=[0, 2, 3, 1]),
    "dropout": one("Dropout", np.float32(0.4)),
    "cast": one("Cast", to=1),
    "folded weight": (
        [("Mul", "w,s", "v", {}), ("Conv", "x,v", "y", {})], PICTURE, {"w": KERNEL, "s": floats(6, 1, 1, 1)},
    ),
    "constant node": ([("Constant", "", "c", {"value_float": 1.5}), ("Add", "x,c", "y", {})], PICTURE),
    "gelu, x first": ([*BELL, ("Mul", "x,p", "q", {}), ("Mul", "q,half", "y", {})], PICTURE, BELLS),
    "gelu, half first": ([*BELL, ("Mul", "x,half", "h", {}), ("Mul", "h,p", "y", {})], PICTURE, BELLS),
}  # fmt: skip


@pytest.mark.parametrize("name", HAND)
def test_graphs_written_by_hand(name):
    nodes, shape, weights, opset = (*HAND[name], *({}, 21)[len(HAND[name]) - 2 :])
    model = written(nodes, shape, weights, opset)
    agree(from_onnx(model), model, shape)


def test_a_squeeze_of_everything_keeps_the_batch():
    model = written([("Squeeze", "x", "y", {})], (1, 5, 1))
    net = from_onnx(model)
    agree(net, model, (1, 5, 1), counts=(2, 5))
    assert net(torch.rand(1, 1, 5, 1)).shape == (1, 5)


def test_a_gelu_written_out_becomes_one_node_and_a_sum_a_bias():
    net = from_onnx(written(*HAND["gelu, x first"]))
    assert [node.op for node in net.spec.nodes] == ["gelu"]
    net = from_onnx(written(*HAND["matmul and sum"]))
    assert [node.op for node in net.spec.nodes] == ["linear"] and len(net.slot_names()) == 2


def test_weights_train_and_statistics_do_not():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 3))
    net = from_onnx(build(freeze(capture(module, torch.rand(2, 1, 8, 8)))))
    kinds = [type(net.slot(name)) for name in net.slot_names()]
    assert kinds == [Free] * 4 + [Fixed] * 2 + [Free] * 2
    net.train()(torch.rand(8, 1, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_a_vector_that_exporters_merged_is_stored_for_each_layer_and_a_matrix_once():
    """A fresh norm's shift equals its mean, and fresh layers' biases are equal by chance; tied weights are meant."""
    weights = {"one": np.ones(4, np.float32), "zero": np.zeros(4, np.float32), "w": floats(4, 4, 1, 1)}
    norm = "one,zero,zero,one"
    nodes = [
        ("BatchNormalization", f"x,{norm}", "a", {}), ("Conv", "a,w,zero", "b", {}),
        ("BatchNormalization", f"b,{norm}", "c", {}), ("Conv", "c,w,zero", "d", {}), ("Conv", "d,v,zero", "y", {}),
    ]  # fmt: skip
    model = written(nodes, PICTURE, {**weights, "v": floats(4, 4, 1, 1)})
    net = from_onnx(model)
    agree(net, model, PICTURE)
    forms = [type(net.slot(name)) for name in net.slot_names()]
    assert forms.count(Free) == 4 + 2 + 2 and forms.count(Fixed) == 4  # two norms, two weights, a bias for each weight
    net.train()(torch.rand(2, *PICTURE)).sum().backward()


@pytest.mark.parametrize("dtype", [TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4])
@pytest.mark.parametrize("steps", [1, 6])
def test_integers_with_one_step_or_one_for_each_channel_come_back_as_a_grid(dtype, steps):
    low, zero = (-7, 0) if dtype == TensorProto.INT4 else (-128, 128 if dtype == TensorProto.UINT8 else 0)
    codes = DRAW.integers(low, -low, (6, 4, 3, 3))
    weights = {
        "q": helper.make_tensor("q", dtype, codes.shape, (codes + zero).ravel().tolist()),
        "s": np.abs(floats(steps)) if steps > 1 else np.float32(0.1),
        "z": helper.make_tensor("z", dtype, [steps] if steps > 1 else [], [zero] * steps),
    }
    model = written([("DequantizeLinear", "q,s,z", "w", {"axis": 0}), ("Conv", "x,w", "y", {})], PICTURE, weights)
    net = from_onnx(model)
    agree(net, model, PICTURE)
    slot = net.slot("q")
    assert isinstance(slot, Grid) and slot.bits == (4 if dtype == TensorProto.INT4 else 8)
    assert (slot.codes.numpy() == codes).all() and slot.step.numel() == steps


def test_integers_far_from_zero_become_floats_and_bias_of_32_bits_too():
    weights = {
        "q": DRAW.integers(-9, 9, (5, 8)).astype(np.int8), "s": floats(8),
        "b": np.arange(5, dtype=np.int32) * 100_000, "t": np.float32(1e-6),
    }  # fmt: skip
    nodes = [
        ("DequantizeLinear", "q,s", "w", {"axis": 1}),
        ("DequantizeLinear", "b,t", "c", {}),
        ("Gemm", "x,w,c", "y", {"transB": 1}),
    ]
    model = written(nodes, (8,), weights)
    net = from_onnx(model)
    agree(net, model, (8,))
    assert all(isinstance(net.slot(name), Free) for name in net.slot_names())


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_quantizers_on_values_that_flow(kind):
    pair = [("QuantizeLinear", "x,s,z", "q", {}), ("DequantizeLinear", "q,s,z", "y", {})]
    model = written(pair, (8,), {"s": np.float32(0.25), "z": kind(3)})
    net = from_onnx(model)
    assert [node.op for node in net.spec.nodes] == ["fake_quantize_per_tensor_affine"]
    agree(net, model, (8,))
    with pytest.raises(BadInput, match="differs from its QuantizeLinear"):
        from_onnx(
            written(
                [pair[0], ("DequantizeLinear", "q,t,z", "y", {})],
                (8,),
                {"s": np.float32(0.25), "t": np.float32(1), "z": kind(3)},
            )
        )


class Residual(nn.Module):
    """What an exporter meets: a shortcut, batch norms, a size taken from the batch."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.a, self.b, self.fc = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1), nn.Linear(24, 3)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = F.max_pool2d(F.silu(self.b(F.relu(self.a(x)))) + x, 4)
        return self.fc(x.view(x.shape[0], -1))


class Attention(nn.Module):
    """One block over tokens, with heads by view and transpose."""

    def __init__(self):
        super().__init__()
        self.norm, self.qkv, self.out, self.fc = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        n, t, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).view(n, t, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = ((q @ k.transpose(-1, -2)) / 2).softmax(-1) @ v
        return self.fc(F.gelu(x + self.out(mixed.transpose(1, 2).reshape(n, t, 8))).mean(1))


EXPORTED = [(Residual(), (1, 8, 8), 12), (Attention(), (5, 8), 0)]
"""Module, shape, and how many parameters the exporter folds away."""


@pytest.mark.parametrize(("module", "shape", "folded"), EXPORTED, ids=["residual", "attention"])
def test_what_pytorch_exports(module, shape, folded, tmp_path):
    path, sizes = tmp_path / "net.onnx", {"x": {0: torch.export.Dim("n", min=2)}}
    torch.onnx.export(module.eval(), (torch.rand(2, *shape),), path, dynamo=True, dynamic_shapes=sizes, verbose=False)
    net = from_onnx(path).eval()
    for count in (1, 2, 5):
        x = torch.rand(count, *shape)
        with torch.no_grad():
            torch.testing.assert_close(net(x), module(x), rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in module.parameters()) - folded
    beside = tmp_path / "net.onnx.data"
    if beside.exists():
        beside.unlink()
        with pytest.raises(BadInput, match=r"net\.onnx\.data"):
            from_onnx(path)


def test_a_file_of_fixed_batch_gets_a_free_one():
    weights = {"w": floats(4 * 63, 3), "to": ints(1, -1), "last": ints(1, 3, 1)}
    nodes = [("Reshape", "x,to", "f", {}), ("MatMul", "f,w", "m", {}), ("Reshape", "m,last", "y", {})]
    model = written(nodes, PICTURE, weights, batch=1)
    net = from_onnx(model).eval()
    agree(net, model, PICTURE, counts=(1,))
    assert net(torch.rand(5, *PICTURE)).shape == (5, 3, 1)


def test_channels_of_an_imported_network_can_go():
    net = from_onnx(build(freeze(capture(Residual(), torch.rand(2, 1, 8, 8)))))
    able = [group for group in groups(net) if len(group)]
    thin, left = remove_channels(net, {group: (0,) for group in able})
    assert able and not left and thin(torch.rand(3, 1, 8, 8)).shape == (3, 3)
    assert sum(p.numel() for p in thin.parameters()) < sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    "step", [Uniform(4, bias_bits=8, activation_bits=8), Uniform(8, "tensor"), Kmeans(4)], ids=["w4a8", "w8", "shared"]
)
def test_our_own_compressed_files_come_back_as_they_were(step, tmp_path):
    x = torch.rand(16, 1, 8, 8)
    before = step.apply(capture(Residual().eval(), x), Work({"calib": (x, torch.zeros(16).long())}))
    path = tmp_path / "best.onnx"
    path.write_bytes(build(freeze(before)).SerializeToString())
    again = from_onnx(path)
    pairs = [(before.slot(a), again.slot(b)) for a, b in zip(before.slot_names(), again.slot_names(), strict=True)]
    assert any(isinstance(old, Grid | Codebook) for old, _ in pairs)
    for old, new in pairs:
        assert isinstance(new, type(old)) and torch.equal(old(), new())
    assert again.forms() == before.forms()
    assert [node.op for node in again.spec.nodes if "fake" in node.op] == [
        node.op for node in before.spec.nodes if "fake" in node.op
    ]


def test_names_of_any_kind():
    weights = {"a/b::c": floats(1, 8), "values": floats(1, 8), "x_1": floats(1, 8), "a.b_c": floats(1, 8)}
    reads = ["x", *weights]
    nodes = [("Add", f"{'x' if at == 1 else f'/sum.{at - 1}'},{reads[at]}", f"/sum.{at}", {}) for at in range(1, 5)]
    model = written([*nodes, ("Identity", "/sum.4", "y", {})], (8,), weights)
    net = from_onnx(model)
    agree(net, model, (8,))
    names = [node.name for node in net.spec.nodes]
    assert len({*names, *net.slot_names()}) == 8 and all(name.isidentifier() for name in names)


BAD = {
    "an operator that is not there": (one("ArgMax", axis=1)[0], {}, "operator 'ArgMax' at node 'y'"),
    "a stranger's operator": ([("Relu", "x", "y", {"domain": "com.microsoft"})], {}, "Relu"),
    "a weight that is computed": ([("Conv", "x,x,x", "y", {})], {}, "Conv"),
    "a constant that is too large": (
        [("ConstantOfShape", "s", "c", {}), ("Add", "x,c", "y", {})], {"s": ints(10**6, 10**6)}, "entries",
    ),
    "a constant of the batch's size": (
        [("Shape", "x", "s", {}), ("ConstantOfShape", "s", "c", {}), ("Add", "x,c", "y", {})], {}, "batch",
    ),
    "a misfit": ([("Conv", "x,w", "y", {})], {"w": floats(6, 5, 3, 3)}, "operator 'Conv' at node 'y'"),
    "a cubic curve of another slope": (
        [("Resize", "x,,s", "y", {"mode": "cubic", "cubic_coeff_a": -0.5})], {"s": np.float32([1, 1, 2, 2])}, "-0.75",
    ),
    "a cubic curve cut off": (
        [("Resize", "x,,s", "y", {"mode": "cubic", "exclude_outside": 1})], {"s": np.float32([1, 1, 2, 2])}, "-0.75",
    ),
    "a slice backwards": (
        [("Slice", "x,from,to,axis,step", "y", {})],
        {"from": ints(-1), "to": ints(-100), "axis": ints(2), "step": ints(-1)}, "backwards",
    ),
    "a value that is too large": ([("Pad", "x,p", "y", {})], {"p": ints(0, 0, 0, 10**8, 0, 0, 0, 0)}, "entries"),
    "an output that is constant": ([("Identity", "c", "y", {})], {"c": floats(3)}, "does not depend"),
    "half a GELU": (
        [("Mul", "x,r", "t", {}), ("Erf", "t", "e", {}), ("Add", "e,r", "y", {})],
        {"r": np.float32(0.5**0.5)},
        "GELU",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_told_in_one_line(name):
    nodes, weights, said = BAD[name]
    with pytest.raises(BadInput, match=said) as caught:
        from_onnx(written(nodes, PICTURE, weights))
    assert "\n" not in str(caught.value)


def test_shapes_that_are_open_or_differ():
    model = written([("Relu", "x", "y", {})], PICTURE, sizes=(4, "h", "w"))
    with pytest.raises(BadInput, match="leaves the shape of a sample open"):
        from_onnx(model)
    assert from_onnx(model, PICTURE).spec.inputs[0][1] == PICTURE
    with pytest.raises(BadInput, match=r"samples of shape \(4, \?, \?\), not \(3, 8, 8\)"):
        from_onnx(model, (3, 8, 8))


@pytest.mark.parametrize("content", [b"", b"x", b"\x00" * 99, b"PK\x03\x04"])
def test_files_that_are_no_onnx(content, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(Damaged, match=r"net\.onnx"):
        from_onnx(path)


def test_a_tensor_that_does_not_fit_its_own_type():
    model = written(*HAND["folded weight"])
    model.graph.initializer[0].dims[0] = 5
    with pytest.raises(BadInput, match="'w'"):
        from_onnx(model)


def test_weights_outside_the_folder_are_refused_and_beside_it_loaded(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    model = written([("Conv", "x,w,b", "y", {})], PICTURE, {"w": KERNEL, "b": BIAS})
    for location, allowed in (
        ("w.bin", True),
        ("../w.bin", False),
        (str(tmp_path / "w.bin"), False),
        ("link.bin", False),
    ):
        copied = onnx.ModelProto()
        copied.CopyFrom(model)
        tensor = copied.graph.initializer[0]
        onnx.external_data_helper.set_external_data(tensor, location)
        for place in (home, tmp_path):
            (place / "w.bin").write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        (home / "link.bin").unlink(missing_ok=True)
        (home / "link.bin").symlink_to(tmp_path / "w.bin")
        (home / "net.onnx").write_bytes(copied.SerializeToString())
        if allowed:
            agree(from_onnx(home / "net.onnx"), model, PICTURE)
        else:
            with pytest.raises(BadInput, match="outside its folder"):
                from_onnx(home / "net.onnx")
        with pytest.raises(BadInput):
            from_onnx(copied)


@pytest.fixture
def quick(monkeypatch):
    """Trainings of a few epochs."""
    monkeypatch.setattr(spaces.Measure, "epochs", lambda self, effort: max(1.0, 12 * effort))


def test_find_takes_an_onnx_file_and_analyze_its_shape(quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    y = np.arange(240) % 3
    x = (
        np.random.default_rng(0).random((240, 1, 8, 8)) * 0.5
        + (np.arange(64).reshape(8, 8) % 3 == y[:, None, None, None])
    ).astype(np.float32)
    np.savez("data.npz", x=x, y=y)
    Path("net.onnx").write_bytes(build(freeze(capture(Residual(), torch.rand(2, 1, 8, 8)))).SerializeToString())
    run = paredown.find("data.npz", floor=0.4, model="net.onnx", trials=1, out="run")
    assert run.reached and run.best is not None
    assert run.json["best"]["spec"] == {"model": "net.onnx", "digest": sha256_of("net.onnx")}
    assert paredown.analyze("net.onnx")["layers"][0]["shape"] == [1, 6, 8, 8]
    with pytest.raises(BadInput, match=r"samples of shape \(1, 8, 8\), not \(3, 8, 8\)"):
        paredown.analyze("net.onnx", (3, 8, 8))
    with pytest.raises(BadInput, match=r"\(2, 2\)"):
        paredown.find((x, y % 2), floor=0.7, model="net.onnx", trials=1, out="other")
