"""The integer reference of whole networks: ONNX Runtime's codes, all of them; and integers alone, as close as rounding allows."""

import platform
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from integer_nets import NETS, final, peer_codes, pictures, quantized
from torch import Tensor, nn

from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.graph.activations import CONSTANT
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.from_onnx import from_onnx
from paredown.graph.frozen import Frozen
from paredown.graph.integer_codes import Codes, Levels
from paredown.graph.integer_net import IntegerNet
from paredown.graph.integer_rules import _added_fixed, scaled
from paredown.graph.spec import Node, Spec, Value
from paredown.methods.quantize.activations import Activations
from paredown.targets.lower import build
from paredown.targets.runtime import predictor

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="ONNX Runtime adds with other formulas on other processors"
)

FLOAT_KERNELS = {"Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool", "Relu"}


def assert_same(frozen: Frozen, folder: Path, count: int = 300) -> dict[str, int]:
    """Compare every code of every quantizer; return how often each operator stands in ONNX Runtime's graph."""
    x = pictures(count)
    theirs, operators = peer_codes(frozen, x, folder)
    ours = IntegerNet(frozen).values(x)
    for name, codes in theirs.items():
        assert ours[name].codes.dtype == codes.dtype == np.uint8
        np.testing.assert_array_equal(ours[name].codes, codes, err_msg=name)
    assert sum(len(np.unique(codes)) > 2 for codes in theirs.values()) == len(theirs)
    return operators


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("activation", [8, 4])
@pytest.mark.parametrize("name", NETS)
def test_every_code_is_onnx_runtimes(name: str, activation: int, learned: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    operators = assert_same(quantized(NETS[name](), activation=activation, learned=learned), tmp_path)
    assert not FLOAT_KERNELS & set(operators)
    if activation == 8:
        assert (operators["QuantizeLinear"], operators["DequantizeLinear"]) == (1, 1)


def test_a_pooling_shares_its_roots_learned_levels_in_the_file(tmp_path: Path) -> None:
    """It is on the levels of what it pools: the runtime pools codes and rounds nothing."""
    torch.manual_seed(0)
    operators = assert_same(quantized(NETS["joined"](), learned=True), tmp_path, 20)
    assert operators["MaxPool"] == 1 and operators["QLinearConcat"] == 1


class Products(nn.Module):
    """Products of values, differences, odd poolings; all that the other networks leave out and ONNX Runtime gets the same."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding="same"), nn.Conv2d(3, 6, (3, 2), padding=(1, 0))
        self.pool = nn.MaxPool2d(3, 2, 1, dilation=1, ceil_mode=True)
        self.c, self.fc = nn.Conv1d(6, 6, 3, padding=1, groups=2), nn.Linear(6 * 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        gate = nn.functional.adaptive_avg_pool2d(a, 1)
        x = self.pool(a * gate) - self.pool(a)
        x = nn.functional.adaptive_avg_pool2d(x, (3, 7)) + nn.functional.channel_shuffle(self.shrunk(b), 3)
        tokens = self.c(x.flatten(2)).unsqueeze(1).squeeze(1)
        return self.fc(torch.matmul(tokens, tokens.transpose(1, 2)).reshape(x.shape[0], -1))

    def shrunk(self, b: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(b, (3, 5), (4, 1))


def test_products_differences_and_odd_poolings(tmp_path: Path) -> None:
    torch.manual_seed(0)
    assert_same(quantized(Products()), tmp_path)


class Means(nn.Module):
    """What ONNX Runtime computes in float: a mean over dimensions, and a linear layer on tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc, self.last = nn.Conv2d(3, 6, 3), nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        tokens = torch.relu(self.fc(x.flatten(2).permute(0, 2, 1)))
        return self.last(tokens.mean(1)) + self.last(tokens.mean((1,)))


def test_where_the_runtime_computes_in_float_a_code_moves_by_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    frozen, x = quantized(Means()), pictures(300)
    theirs, operators = peer_codes(frozen, x, tmp_path)
    ours = IntegerNet(frozen).values(x)
    assert operators["MatMulIntegerToFloat"] == 1 and operators["ReduceMean"] == 2
    for name, codes in theirs.items():
        off = np.abs(ours[name].codes.astype(int) - codes)
        assert off.max() <= 1 and (off > 0).mean() < 0.005, name


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_narrow_weights_are_integers_too(bits: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    operators = assert_same(quantized(NETS["residual"](), bits), tmp_path, 100)
    assert not FLOAT_KERNELS & set(operators)


@pytest.mark.parametrize("name", NETS)
def test_integers_alone_stay_within_a_few_codes(name: str) -> None:
    torch.manual_seed(0)
    frozen, x = quantized(NETS[name]()), pictures(200)
    near, fixed = IntegerNet(frozen).codes(x).astype(int), IntegerNet(frozen, "fixed").codes(x).astype(int)
    assert 0 < np.abs(near - fixed).max() <= 3 or (near == fixed).all()
    assert (near.argmax(1) == fixed.argmax(1)).mean() > 0.97


def test_in_integers_alone_a_sum_is_the_exact_one_rounded() -> None:
    """Brute force over all pairs of codes: within one half and the roundings of the two summands."""
    a = Codes(np.arange(256, dtype=np.uint8)[:, None].repeat(256, 1), Levels(np.float32(0.0371), 120, 0, 255))
    b = Codes(np.arange(256, dtype=np.uint8)[None].repeat(256, 0), Levels(np.float32(0.0113), 7, 0, 255))
    to = Levels(np.float32(0.0409), 99, 0, 255)
    for sign in (1, -1):
        exact = (a.centred * float(a.levels.step) + sign * b.centred * float(b.levels.step)) / float(to.step) + 99
        assert np.abs(_added_fixed(a, b, sign, to) - exact).max() <= 0.5 + 1e-4


def test_in_integers_alone_a_small_total_is_rounded_as_if_once() -> None:
    """Without the shift to the left gemmlowp's first rounding would move one code in four here."""
    total, factor = np.arange(-255, 256), np.asarray(0.37, np.float32)
    exact = total * float(factor)
    assert np.abs(scaled(total, factor, "fixed", 1) - exact).max() <= 0.5 + 1e-5


def test_scores_are_the_codes_reals_and_batches_do_not_matter() -> None:
    torch.manual_seed(0)
    frozen, x = quantized(NETS["residual"]()), pictures(23)
    net = IntegerNet(frozen)
    last = frozen.spec.node(final(frozen)).args
    wanted = (net.codes(x).astype(np.float32) - last["zero_point"]) * np.float32(last["scale"])
    np.testing.assert_array_equal(net.scores(x, 7), wanted)
    np.testing.assert_array_equal(net.scores(x), predictor(build(frozen))(x))


@pytest.mark.parametrize("activation", [8, 4])
@pytest.mark.parametrize("name", ["plain", "residual"])
def test_read_back_from_its_file_it_is_the_same_in_every_code(name: str, activation: int, tmp_path: Path) -> None:
    """int32 biases are floats again, codes clipped between the quantizer's halves fewer levels; written again: the same file."""
    torch.manual_seed(0)
    frozen, x = quantized(NETS[name](), activation=activation, learned=True), pictures(100)
    model = build(frozen)
    again = freeze(from_onnx(model).eval())
    spans = [n.args["quant_max"] - n.args["quant_min"] for n in again.spec.nodes if n.op == CONSTANT]
    assert set(spans) == {2**activation - 1}
    np.testing.assert_array_equal(IntegerNet(again).codes(x), IntegerNet(frozen).codes(x))
    assert_same(again, tmp_path, 50)

    def biases(of: onnx.ModelProto) -> list[bytes]:
        return sorted(t.raw_data for t in of.graph.initializer if t.data_type == onnx.TensorProto.INT32)

    assert biases(build(again)) == biases(model) != []


def changed(frozen: Frozen, name: str, **args: object) -> Frozen:
    """Return a network with some arguments of one node replaced."""
    spec = frozen.spec
    nodes = tuple(node.with_args(**args) if node.name == name else node for node in spec.nodes)
    return Frozen(Spec(spec.inputs, nodes, spec.output), frozen.tensors)


def test_what_it_cannot_compute_is_refused_in_one_line() -> None:
    torch.manual_seed(0)
    frozen, x = quantized(NETS["plain"]()), pictures(2)
    node = next(n for n in frozen.spec.nodes if n.op == CONSTANT)
    with pytest.raises(BadInput, match=rf"levels 0 to 300 .* at {node.name}"):
        IntegerNet(changed(frozen, node.name, quant_max=300)).values(x)
    with pytest.raises(BadInput, match="rounding 'up' is unknown"):
        IntegerNet(frozen, "up")
    first = next(n for n in frozen.spec.nodes if n.op == "conv2d")
    with pytest.raises(BadInput, match=f"conv2d at {first.name} .* 'x' is not on levels|not on levels"):
        IntegerNet(changed(frozen, first.name, input=Value("x"))).values(x)
    floats = freeze(capture(NETS["mlp"]().eval(), torch.from_numpy(x)))
    with pytest.raises(BadInput, match="not on levels"):
        IntegerNet(floats).values(x)
    two = Frozen(Spec((*frozen.spec.inputs, ("z", (1,))), frozen.spec.nodes, frozen.spec.output), frozen.tensors)
    with pytest.raises(BadInput, match="2 inputs"):
        IntegerNet(two)
    odd = Frozen(
        Spec(frozen.spec.inputs, (*frozen.spec.nodes, Node("s", "gelu", {"self": Value("x")})), Value("s")),
        frozen.tensors,
    )
    with pytest.raises(BadInput, match="gelu at s cannot be computed in integers"):
        IntegerNet(odd)


def test_float_weights_are_refused() -> None:
    x = pictures(16)
    model = nn.Sequential(nn.Flatten(), nn.Linear(396, 3)).eval()
    work = Work({"calib": (torch.from_numpy(x), None)})
    net = Activations(8, "min-max", everywhere=True).apply(capture(model, torch.from_numpy(x)), work)
    with pytest.raises(BadInput, match=r"linear at linear .* its weight is not held as integers"):
        IntegerNet(freeze(net)).values(x)
