"""Widths are real: a 4-bit file is half the int8 file, a ternary one a quarter, and what is called integer is integers.

Files are opened by readers that share nothing with the writers: `onnx` alone, and the portable decoder in C.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from frozen_nets import network
from onnx import TensorProto, numpy_helper
from test_container import bits as content
from test_container import refused, signed

from paredown.core.errors import BadInput, Damaged
from paredown.core.work import Work
from paredown.graph.blocks import Blocked
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.from_onnx import from_onnx
from paredown.graph.frozen import Blocks, Frozen, Rounded
from paredown.graph.net import Net
from paredown.graph.slots import Grid
from paredown.graph.spec import Node, Slot, Spec, Value
from paredown.kernels.decoder import tensors
from paredown.kernels.execute import Left, signed_codes
from paredown.kernels.library import built
from paredown.methods.code.range_coder import Encoder
from paredown.methods.grid.fixed_point import FixedPoint
from paredown.methods.grid.group import Group
from paredown.methods.grid.integer import Integer
from paredown.methods.grid.minifloat import NAMES, Minifloat
from paredown.methods.grid.ocp_mx import ELEMENTS, OcpMx
from paredown.methods.grid.power_of_two import PowerOfTwo
from paredown.methods.grid.shared_microexponents import SharedMicroexponents
from paredown.methods.grid.table import Table
from paredown.methods.grid.vector_scaled import VectorScaled
from paredown.methods.quantize.to_grid import ToGrid
from paredown.targets import container
from paredown.targets.container import read, write
from paredown.targets.lower import build
from paredown.targets.onnx import Onnx
from paredown.targets.runtime import predictor

compiled = pytest.mark.skipif(not built(), reason="the kernels were not built: there was no C compiler")

SHARE = {"int8": 1.0, "int4": 1 / 2, "ternary": 1 / 4, "binary": 1 / 8}
LEVELS = {"int8": (-128, 127), "int4": (-8, 7), "ternary": (-1, 1), "binary": (-1, 1)}
BITS = {"int8": 8, "int4": 4, "ternary": 2, "binary": 1}
SHAPES = ((64, 64), (32, 64))
CODES = sum(a * b for a, b in SHAPES)


def linear_net() -> Net:
    layers = [torch.nn.Linear(a, b, bias=False) for b, a in SHAPES]
    return capture(torch.nn.Sequential(*layers), torch.rand(2, SHAPES[0][1])).eval()


def held(kind: str, trained: bool) -> Net:
    """Return a network with random codes: as likely one as the other, or trained-like: normal, so that few are large."""
    net, draw = linear_net(), np.random.default_rng(0)
    low, high = LEVELS[kind]
    for name, _ in net.weighted():
        shape = tuple(net.slot(name)().shape)
        if kind == "binary":
            codes = draw.choice([-1, 1], shape)
        elif trained:
            codes = np.round(draw.normal(0, high / 3 if kind != "ternary" else 0.7, shape)).clip(low, high)
        else:
            codes = draw.integers(low, high + 1, shape)
        net.set_slot(name, Grid(torch.from_numpy(codes).to(torch.int16), torch.rand(shape[0], 1) + 0.1, BITS[kind]))
    return net


@pytest.mark.parametrize("trained", [False, True])
def test_packed_weights_take_their_bits(trained: bool) -> None:
    sizes = {kind: write(freeze(held(kind, trained)))[1]["weights"] for kind in SHARE}
    for kind, size in sizes.items():
        wanted = np.log2(3) / 8 if kind == "ternary" else SHARE[kind]  # the coder needs no whole bits
        assert size <= 1.03 * wanted * CODES
        assert trained or size == pytest.approx(wanted * CODES, rel=0.03)
        assert size <= 1.03 * SHARE[kind] * CODES


@pytest.mark.parametrize("trained", [False, True])
def test_onnx_weights_take_their_bits(trained: bool, tmp_path: Path) -> None:
    for kind, share in SHARE.items():
        artifact = Onnx().write(freeze(held(kind, trained)), tmp_path)
        assert sum(artifact.itemised.values()) == artifact.bytes
        assert artifact.itemised["weights"] == pytest.approx(share * CODES, abs=50)  # names, types, shapes
        assert artifact.itemised["scales"] == pytest.approx(4 * (64 + 32), abs=30) and "floats" not in artifact.itemised


@compiled
@pytest.mark.parametrize("kind", SHARE)
@pytest.mark.parametrize("trained", [False, True])
def test_the_decoder_in_c_finds_the_codes_in_a_packed_file(kind: str, trained: bool) -> None:
    net = held(kind, trained)
    for found, (name, _) in zip(tensors(write(freeze(net))[0]), net.weighted(), strict=True):
        slot = net.slot(name)
        assert isinstance(found, Rounded) and found.bits == slot.bits
        np.testing.assert_array_equal(found.codes, slot.codes.numpy())
        np.testing.assert_array_equal(found.step.ravel(), slot.step.numpy().ravel())


@pytest.mark.parametrize("kind", SHARE)
def test_onnx_alone_finds_the_codes_in_an_onnx_file(kind: str, tmp_path: Path) -> None:
    net = held(kind, False)
    model = onnx.load(Onnx().write(freeze(net), tmp_path).path)
    weights = [t for t in model.graph.initializer if t.name.startswith("w")]
    for tensor, (name, _) in zip(weights, net.weighted(), strict=True):
        codes, wide = net.slot(name).codes.numpy(), BITS[kind]
        assert len(tensor.raw_data) == codes.size * wide / 8 and not tensor.float_data
        if wide >= 4:
            assert tensor.data_type == (TensorProto.INT8 if wide == 8 else TensorProto.INT4)
            found = numpy_helper.to_array(tensor).astype(int)
        else:
            assert tensor.data_type == TensorProto.UINT8
            packed = np.frombuffer(tensor.raw_data, np.uint8)[:, None]
            raw = (packed >> (wide * np.arange(8 // wide)) & (2**wide - 1)).astype(int).reshape(codes.shape)
            found = 2 * raw - 1 if wide == 1 else raw - 4 * (raw > 1)
        np.testing.assert_array_equal(found, codes)
    floats = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT]
    assert sum(np.prod(t.dims) for t in floats) == 64 + 32
    x = torch.rand(5, 64)
    np.testing.assert_allclose(predictor(model)(x.numpy()), net(x).detach().numpy(), rtol=1e-4, atol=1e-2)


PARTS = [
    *(Integer(b, "channel", s) for b in (2, 8) for s in (True, False)),
    *(Integer(b, "tensor", s) for b in (3, 12) for s in (True, False)),
    *(Group(b, k, s) for b, k in ((2, 32), (4, 5), (8, 32)) for s in (True, False)),
    VectorScaled(), VectorScaled(6, 10, 7), *map(OcpMx, ELEMENTS), *map(SharedMicroexponents, (9, 6, 4)),
    *map(Minifloat, NAMES), Minifloat("fp8_e4m3", "none"), Minifloat("fp4_e2m1", "none"),
    FixedPoint(6), PowerOfTwo(4), Table(),
]  # fmt: skip


def weights() -> list[torch.Tensor]:
    """Return a convolution's weight whose rows end within a block, a matrix, and a vector, of very different sizes."""
    draw = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=draw) for shape in ((8, 6, 3, 3), (7, 90), (20,))]
    made[0][2] *= 1e-3
    made[1][:, 5:40] *= 40
    return made


def holding(stored: object) -> Frozen:
    """Return a network that adds one tensor to its input, of one number."""
    add = Node("sum", "add.Tensor", {"self": Value("x"), "other": Slot("s")})
    return Frozen(Spec((("x", (1,)),), (add,), Value("sum")), {"s": stored})


def stored_of(slot: torch.nn.Module) -> object:
    """Return what `freeze` makes of a slot."""
    spec = holding(None).spec
    return freeze(Net(spec, {"s": slot})).tensors["s"]


@pytest.mark.parametrize("part", PARTS, ids=repr)
def test_every_grid_goes_through_both_files_bit_for_bit(part: object) -> None:
    for weight in weights():
        slot = part.fit(weight)
        wanted = slot().detach().numpy()
        stored = stored_of(slot)
        assert stored.value.tobytes() == wanted.tobytes()
        data, items = write(holding(stored))
        again = read(data)
        assert content(again.tensors["s0"].value) == content(wanted) and sum(items.values()) == len(data)
        assert content(again.tensors["s0"].codes) == content(stored.codes) and write(again)[0] == data
        got = predictor(build(again))(np.zeros((1, 1), np.float32))
        np.testing.assert_array_equal(got.reshape(wanted.shape), wanted)


@compiled
@pytest.mark.parametrize("part", PARTS, ids=repr)
def test_the_decoder_in_c_finds_what_is_in_blocks(part: object) -> None:
    for weight in weights():
        stored = stored_of(part.fit(weight))
        (found,) = tensors(write(holding(stored))[0])
        assert type(found) is type(stored) and content(found.codes) == content(stored.codes)
        assert content(found.value) == content(stored.value)
        if isinstance(stored, Blocks):
            assert found.number == stored.number and found.block == stored.block
            assert found.step.tobytes() == stored.step.tobytes()
            assert (found.zero is None) == (stored.zero is None) or (found.zero == stored.zero).all()


def test_files_take_what_the_formats_take() -> None:
    """Codes at their width and scales at theirs, itemised; coded they are no longer, but for a few bytes."""
    weight = torch.randn((24, 64), generator=torch.Generator().manual_seed(0))
    for part in (p for p in PARTS if isinstance(p.fit(weight), Blocked)):
        slot = part.fit(weight)
        items = write(holding(stored_of(slot)))[1]
        whole = slot.codes.numel() * slot.bits / 8
        assert items["weights"] <= 1.03 * whole + 60, part
        assert items["scales"] <= 1.05 * (slot.stored_bits() / 8 - whole) + 8, part


@pytest.mark.parametrize(("number", "kind"), [
    ("fp16", "FLOAT16"), ("bf16", "BFLOAT16"), ("fp8_e4m3", "FLOAT8E4M3FN"), ("fp8_e5m2", "FLOAT8E5M2"), ("fp4_e2m1", "UINT4"),
    ("fp6_e3m2", "UINT64"),
])  # fmt: skip
def test_small_floats_are_codes_in_an_onnx_file(number: str, kind: str) -> None:
    net = ToGrid(Minifloat(number)).apply(linear_net(), Work())
    tensor = next(t for t in build(freeze(net)).graph.initializer if t.name.startswith("w"))
    assert TensorProto.DataType.Name(tensor.data_type) == kind
    width = 6.4 if kind == "UINT64" else net.slot(next(net.weighted())[0]).bits  # ten codes to a word of 64 bits
    assert len(tensor.raw_data) == pytest.approx(64 * 64 * width / 8, abs=8)


@pytest.mark.parametrize("part", [Integer(4, "channel", False), Group(4, 32), Group(4, 32, False), OcpMx("mxfp8_e5m2"),
                                  SharedMicroexponents(6), Minifloat("fp6_e2m3")], ids=repr)  # fmt: skip
def test_such_onnx_files_are_read_back(part: object) -> None:
    net = ToGrid(part).apply(linear_net(), Work()).eval()
    x = torch.rand(3, 64)
    torch.testing.assert_close(from_onnx(build(freeze(net))).eval()(x), net(x))


def test_groups_are_blocked_dequantization() -> None:
    graph = build(freeze(ToGrid(Group(4, 32)).apply(linear_net(), Work()))).graph
    sizes = [a.i for n in graph.node if n.op_type == "DequantizeLinear" for a in n.attribute if a.name == "block_size"]
    kinds = [t.data_type for t in graph.initializer if t.name.startswith("w")]
    assert sizes == [32, 32] and kinds == [TensorProto.INT4] * 2


def test_networks_without_blocks_spend_nothing_on_them() -> None:
    """What blocks are coded by is asked for in no other tensor, so that other files are what they always were."""
    shared = {"bits", "short step", "exponent", "exponent sign"}

    def purposes(stored: Frozen) -> set[str]:
        scribe = container.NetworkScribe(Encoder(), bytearray())
        scribe.network(stored)
        return {*scribe.flags, *scribe.counts}

    plain = set().union(*(purposes(network(seed)) for seed in range(20)))
    blocked = set().union(*(purposes(holding(stored_of(part.fit(w)))) for part in PARTS for w in weights()[2:]))
    own = {"number", "number bits", "fraction", "block", "one row", "two levels", "zero point", "scale form", "power", "lower",
           "half exponent", "largest scale"}  # fmt: skip
    assert own <= blocked and not own & plain and shared <= plain


def test_damaged_blocks_are_refused() -> None:
    draw = np.random.default_rng(0)
    for part in (Group(4, 5, False), VectorScaled(), OcpMx("mxfp6_e3m2"), SharedMicroexponents(6), Minifloat("bf16")):
        data = write(holding(stored_of(part.fit(weights()[1]))))[0]
        for at in draw.integers(len(data), size=30):
            with pytest.raises(Damaged):
                read(data[:at] + bytes([data[at] ^ int(draw.integers(1, 256))]) + data[at + 1 :])
        for _ in range(20):
            body = bytearray(data[8:])
            body[int(draw.integers(min(len(body), 60)))] ^= 1 << int(draw.integers(8))
            refused(signed(bytes(body), data[3]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"codes": np.array([[16, 0]], np.uint8)}, "does not fit its 4 bits"),
        ({"zero": np.array([[16]], np.uint8)}, "zero point does not fit"),
        ({"step": np.ones((2, 2), np.float32)}, "steps of shape"),
        ({"number": "tf32", "zero": None}, "tf32"),
        ({"block": 0}, "block of no weights"),
    ],
)
def test_what_could_not_be_read_is_not_written(change: dict, says: str) -> None:
    fields = {"codes": np.array([[3, 0]], np.uint8), "step": np.ones((1, 1), np.float32), "number": "uint4", "block": 2}
    stored = Blocks(**{**fields, "zero": np.array([[1]], np.uint8), **change})
    with pytest.raises(BadInput, match=says):
        write(holding(stored))


def test_asymmetric_weights_are_left_by_the_packed_kernels() -> None:
    with pytest.raises(Left, match="no codes of few bits"):
        signed_codes(Integer(4, "channel", False).fit(torch.randn(4, 32)))


def test_eight_bits_that_use_sixteen_levels_cost_four() -> None:
    draw = np.random.default_rng(0)
    few = Rounded(draw.integers(-8, 8, (60, 100)).astype(np.int8), np.float32(1).reshape(()), 8)
    assert write(holding(few))[1]["weights"] == pytest.approx(3000, rel=0.03)
