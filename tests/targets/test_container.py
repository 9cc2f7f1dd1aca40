"""What is packed comes back bit for bit; what is damaged is refused."""

import math
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from frozen_nets import mlp, network

from paredown.core.errors import BadInput, Damaged
from paredown.graph.freeze import freeze
from paredown.graph.frozen import Frozen, Hashed, Plain, Rounded, Shared, Stored, Vectors, renamed
from paredown.graph.spec import Node, Slot, Spec, Value, mapped
from paredown.methods.code.adaptive import NEXT
from paredown.targets import container, streams
from paredown.targets.container import APART, MAGIC, VERSION, read, tensor_bytes, write

KINDS: dict[str, Stored] = {
    "rounded": Rounded(np.array([[3, -4], [0, 1]], np.int8), np.float32(0.75).reshape(()), 3),
    "rounded per channel": Rounded(np.array([[3, -128], [0, 127]], np.int8), np.array([[0.5], [1 / 3]], np.float32), 8),
    "rounded wide": Rounded(np.array([-32768, 32767], np.int16), np.float32(np.pi).reshape(()), 16),
    "rounded one bit": Rounded(np.array([[1, -1], [-1, -1]], np.int8), np.float32(0.75).reshape(()), 1),
    "rounded tiny step": Rounded(np.ones((2, 2), np.int8), np.float32(1e-45).reshape(()), 2),
    "rounded empty": Rounded(np.zeros((0, 3), np.int8), np.float32(1).reshape(()), 2),
    "rounded by channel": Rounded(
        np.array([[100, -127], [0, 0], [1, -1], [-1, 1]], np.int8),
        np.array([[0.5], [1], [1 / 3], [2]], np.float32),
        8,
        np.array([8, 0, 1, 2], np.uint8),
    ),
    "rounded to nothing": Rounded(np.zeros((3, 2), np.int8), np.float32(1).reshape(()), 2, np.zeros(3, np.uint8)),
    "shared": Shared(np.array([[0, 2], [1, 2]], np.uint8), np.array([-0.3, 0, 1.7], np.float32)),
    "shared one": Shared(np.zeros((2, 2), np.uint8), np.array([0.1], np.float32)),
    "shared all": Shared(np.arange(256, dtype=np.uint8), np.linspace(-1, 1, 256, dtype=np.float32)),
    "float32": Plain(np.array([1 / 3, np.inf, -np.inf, np.nan, -0.0, 1e-45], np.float32)),
    "half": Plain(np.array([0.5, -65504, 6e-8, -0.0], np.float16).astype(np.float32)),
    "sparse": Plain(np.array([0, 0, 1 / 3, 0, -0.0, 0, 0, 0, 0, 5], np.float32)),
    "zeros": Plain(np.zeros((50, 3), np.float32)),
    "scalar": Plain(np.array(7.25, np.float32)),
    "nothing": Plain(np.zeros((0,), np.float32)),
    "int64": Plain(np.array([2**63 - 1, -(2**63), 0], np.int64)),
    "int32": Plain(np.array([2**31 - 1, -(2**31)], np.int32)),
    "uint8": Plain(np.array([0, 255], np.uint8)),
    "int8": Plain(np.array([-128, 127], np.int8)),
    "bool": Plain(np.array([True, False, False])),
    "float16": Plain(np.array([0.1, np.inf], np.float16)),
}


def _large() -> dict[str, Stored]:
    """Return tensors of so many values that they have streams of their own."""
    draw = np.random.default_rng(0)
    codes = np.round(draw.normal(0, 2, (130, 9, 5, 3))).clip(-8, 7).astype(np.int8)
    widths = draw.integers(0, 9, 130).astype(np.uint8)
    own = np.where(draw.random(codes.shape) < 0.3, 1, -1).astype(np.int8) * (widths > 0)[:, None, None, None]
    real = draw.normal(size=(40, 700)).astype(np.float32)
    steps = np.where(widths > 0, draw.random(130), 1).astype(np.float32).reshape(-1, 1, 1, 1)
    return {
        "large rounded": Rounded(codes, np.full((130, 1, 1, 1), 0.3, np.float32), 4),
        "large wide": Rounded((codes.astype(np.int16) * 4000), np.float32(0.1).reshape(()), 16),
        "large by channel": Rounded(own.astype(np.int8), steps, 8, widths),
        "large zeros": Rounded(np.zeros((200, 200), np.int8), np.float32(1).reshape(()), 8),
        "large shared": Shared((codes + 8).astype(np.uint8), np.linspace(-1, 1, 16, dtype=np.float32)),
        "large plain": Plain(real),
        "large half": Plain(real.astype(np.float16).astype(np.float32)),
        "large sparse": Plain(real * (draw.random(real.shape) < 0.1)),
        "middling": Rounded(codes[:20], np.float32(0.3).reshape(()), 4),
        "middling plain": Plain(real[:1, :400]),
        "vectors": Vectors(draw.integers(0, 50, 600).astype(np.uint16), draw.normal(size=(3, 50, 4)).astype(np.float32), (40, 60)),
        "large vectors": Vectors(draw.integers(0, 999, 20000).astype(np.uint16), draw.normal(size=(1, 999, 2)).astype(np.float32), (80, 500)),
        "hashed": Hashed(draw.normal(size=37).astype(np.float32), (20, 30), 2**32 - 5),
        "dependent": Rounded(dependent_levels(draw, (30, 40)), np.float32(0.25).reshape(()), 8),
        "large dependent": Rounded(dependent_levels(draw, (150, 140)), np.float32(0.25).reshape(()), 8),
        "groups": Rounded(codes[:20] * grouped(draw, (20, 9, 15)).reshape(20, 9, 5, 3), np.float32(0.3).reshape(()), 4),
        "large groups": Rounded(codes * grouped(draw, (130, 9, 15)).reshape(codes.shape), np.float32(0.3).reshape(()), 4),
        "large sparse groups": Plain(real * grouped(draw, (40, 700, 1))[..., 0]),
        "large tiles": Rounded(codes * draw.choice([0, 1], (26, 27)).repeat(5, 0).repeat(5, 1).reshape(codes.shape).astype(np.int8), np.float32(0.3).reshape(()), 4),
        "large shared tiles": Shared(np.abs(codes.reshape(130, -1)[:128, :128] * draw.choice([0, 1], (32, 16)).repeat(4, 0).repeat(8, 1)).astype(np.uint8), np.linspace(0, 1, 9, dtype=np.float32)),
        "dependent groups": Rounded(dependent_levels(draw, (30, 40), grouped(draw, (30, 40, 1)).ravel()), np.float32(0.25).reshape(()), 8),
    }  # fmt: skip


def grouped(draw: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Return ones at two of every four inputs of [outputs, inputs, kernel], and zeros."""
    found = np.ones(shape, np.int8)
    for at in range(0, shape[1] - 3, 4):
        found[:, at : at + 4] = draw.random((shape[0], 4, shape[2])).argsort(1) < 2
    return found


def dependent_levels(draw: np.random.Generator, shape: tuple[int, ...], there: np.ndarray | int = 1) -> np.ndarray:
    """Return levels of which each depends on those before it, as a trellis makes them."""
    state, found = 0, []
    for number in (np.round(draw.normal(0, 1.5, math.prod(shape))) * there).astype(int).tolist():
        found.append(2 * number - (state > 3) * int(np.sign(number)))
        state = NEXT[state][number & 1]
    return np.array(found, np.int8).reshape(shape)


KINDS |= _large()


def holding(stored: Stored) -> Frozen:
    """Return a network that holds one tensor."""
    add = Node("sum", "add.Tensor", {"self": Value("x"), "other": Slot("s")})
    return Frozen(Spec((("x", (1,)),), (add,), Value("sum")), {"s": stored})


def bits(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.name, array.shape, array.tobytes()


def plain(tree: object) -> object:
    return [plain(item) for item in tree] if isinstance(tree, list | tuple) else tree


def assert_same(a: Frozen, b: Frozen) -> None:
    """Assert that `b` is `a` with its values and slots renamed."""
    spec, names = renamed(a.spec)
    assert spec.inputs == b.spec.inputs and spec.nodes == b.spec.nodes and plain(spec.output) == plain(b.spec.output)
    assert list(b.tensors) == list(names)
    for slot, stored in b.tensors.items():
        wanted = a.tensors[names[slot]]
        assert type(stored) is type(wanted)
        assert bits(stored.value) == bits(wanted.value)
        if isinstance(wanted, Rounded):
            assert stored.bits == wanted.bits and bits(stored.codes) == bits(wanted.codes)
            assert stored.step.tobytes() == wanted.step.tobytes()
            assert (stored.widths is None) == (wanted.widths is None)
            assert wanted.widths is None or bits(stored.widths) == bits(wanted.widths)
        if isinstance(wanted, Shared):
            assert bits(stored.codes) == bits(wanted.codes) and bits(stored.centroids) == bits(wanted.centroids)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_tensor_comes_back_bit_for_bit(name: str) -> None:
    frozen = holding(KINDS[name])
    data, items = write(frozen)
    assert_same(frozen, read(data))
    assert sum(items.values()) == len(data) and all(size > 0 for size in items.values())
    assert write(frozen)[0] == data


@pytest.mark.parametrize("name", [name for name in KINDS if name.startswith("large")])
def test_streams_are_the_same_with_and_without_the_kernels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(holding(KINDS[name]))[0]
    monkeypatch.setattr(streams.native, "built", lambda: False)
    assert write(holding(KINDS[name]))[0] == data
    assert_same(holding(KINDS[name]), read(data))


def test_levels_that_depend_on_each_other_are_coded_as_such() -> None:
    """A trellis's levels are told by numbers half their size; the same levels in another order cannot be."""
    for name in ("dependent", "large dependent"):
        stored = KINDS[name]
        mixed = np.random.default_rng(1).permutation(stored.codes.ravel()).reshape(stored.shape)
        assert len(write(holding(stored))[0]) < 0.87 * len(write(holding(Rounded(mixed, stored.step, 8)))[0])


@pytest.mark.parametrize(("code", "width"), [(0, 1), (2, 1), (-2, 1), (2, 2), (-3, 2)])
def test_a_code_that_its_width_does_not_have_is_neither_written_nor_read(
    code: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = holding(Rounded(np.array([1, code, -1], np.int8), np.float32(1).reshape(()), width))
    with pytest.raises(Damaged, match=f"does not fit its {width} bits"):
        write(stored)
    with monkeypatch.context() as patch:
        patch.setattr(container, "fits", lambda codes, bits: True)
        data = write(stored)[0]
    with pytest.raises(Damaged, match=f"does not fit its {width} bits"):
        read(data)


@pytest.mark.parametrize("seed", range(60))
def test_random_networks_come_back_bit_for_bit(seed: int) -> None:
    frozen = network(seed)
    data, items = write(frozen)
    again = read(data)
    assert_same(frozen, again)
    assert write(again)[0] == data
    assert sum(items.values()) == len(data) and min(items.values()) > 0
    assert set(tensor_bytes(frozen)) == set(frozen.spec.slot_users())


@pytest.mark.parametrize(
    "value",
    [0, -1, 2**63 - 1, -(2**63), 0.0, -0.0, 0.1, -0.5, 1e300, 5e-324, float("inf"), "none", "é", "", True, False, None],
)
def test_every_kind_of_argument_comes_back(value: object) -> None:
    for given in (value, [value, value], [[value], []]):
        node = Node("y", "clamp", {"self": Value("x"), "min": given})
        frozen = Frozen(Spec((("x", (1,)),), (node,), {"a": Value("y")}), {})
        again = read(write(frozen)[0]).spec
        assert repr(again.nodes[0].args) == repr({"self": Value("v0"), "min": given})
        assert again.output == {"a": Value("v1")}


def test_zero_codes_at_the_end_cost_next_to_nothing_and_the_items_still_add_up() -> None:
    big = holding(Rounded(np.zeros((300, 300), np.int8), np.float32(1).reshape(()), 8))
    data, items = write(big)
    assert len(data) < 80 and sum(items.values()) == len(data) and min(items.values()) > 0
    assert_same(big, read(data))


def test_items_name_what_is_in_the_file() -> None:
    draw = np.random.default_rng(0)
    codes = Rounded(draw.integers(-128, 128, (20, 20)).astype(np.int8), np.float32(1 / 3).reshape(()), 8)
    assert write(holding(codes))[1]["weights"] == pytest.approx(400, abs=30)
    assert write(holding(codes))[1]["scales"] == 4
    table = Shared(draw.integers(0, 16, 400).astype(np.uint8), draw.normal(size=16).astype(np.float32))
    items = write(holding(table))[1]
    assert items["codebooks"] == 64 and items["weights"] == pytest.approx(200, abs=20)
    assert write(holding(Plain(draw.normal(size=100).astype(np.float32))))[1]["floats"] in (400, 401)
    assert write(holding(Plain(draw.normal(size=100).astype(np.float16).astype(np.float32))))[1]["floats"] in (200, 201)


def test_it_refuses_to_write_what_it_could_not_read() -> None:
    with pytest.raises(BadInput, match="float64"):
        write(holding(Plain(np.zeros(3))))
    with pytest.raises(BadInput, match="steps"):
        write(holding(Rounded(np.ones((2, 3), np.int8), np.ones((1, 3), np.float32), 4)))


def test_a_change_of_any_header_byte_is_damage() -> None:
    data = write(freeze(mlp()))[0]
    for at in range(12):
        for value in range(256):
            if value != data[at]:
                with pytest.raises(Damaged):
                    read(data[:at] + bytes([value]) + data[at + 1 :])


def test_a_change_of_any_other_byte_is_damage() -> None:
    draw = np.random.default_rng(0)
    for frozen in (network(1), network(2), freeze(mlp())):
        data = write(frozen)[0]
        for _ in range(200):
            at, change = int(draw.integers(len(data))), int(draw.integers(1, 256))
            with pytest.raises(Damaged):
                read(data[:at] + bytes([data[at] ^ change]) + data[at + 1 :])


def test_a_file_cut_at_any_length_or_continued_is_damage() -> None:
    data = write(network(4))[0]
    for size in range(len(data)):
        with pytest.raises(Damaged):
            read(data[:size])
    for more in (b"\0", b"PDN", data):
        with pytest.raises(Damaged):
            read(data + more)


def signed(body: bytes, version: int = VERSION, streams: bytes = b"") -> bytes:
    """Return a file around a common section, with the checksum that fits."""
    head = MAGIC + bytes([version])
    return head + struct.pack("<I", zlib.crc32(head + body)) + body + streams


def refused(data: bytes) -> bool:
    """Return whether a file is refused, as one of ours, in bounded time."""
    start = time.process_time()
    try:
        read(data)
    except BadInput as error:
        assert isinstance(error, Damaged) and "\n" not in str(error)
        return True
    finally:
        assert time.process_time() - start < 3
    return False


def test_rubbish_with_a_fitting_checksum_never_crashes() -> None:
    draw = np.random.default_rng(0)
    bodies = [draw.bytes(int(draw.integers(1, 300))) for _ in range(600)]
    count = sum(refused(signed(body)) for body in bodies)
    assert count > 0.9 * len(bodies)
    for body in bodies[:200]:
        refused(apart(body, draw.bytes(300)))
    for body in (b"\0" * 400, b"\xff" * 400, b"\x7f" * 400, b"\xaa" * 400):
        refused(signed(body))
        refused(apart(body, body))


def test_changed_bytes_with_a_fitting_checksum_never_crash() -> None:
    draw = np.random.default_rng(1)
    for frozen in (network(5), network(7), freeze(mlp()), *map(holding, _large().values())):
        data = write(frozen)[0]
        end = 12 + struct.unpack("<I", data[8:12])[0] if data[3] & APART else len(data)
        for _ in range(40):
            body = bytearray(data[12 if data[3] & APART else 8 : end])
            body[int(draw.integers(min(len(body), 60)))] ^= 1 << int(draw.integers(8))
            refused(apart(bytes(body), data[end:]) if data[3] & APART else signed(bytes(body)))


def apart(body: bytes, streams: bytes) -> bytes:
    """Return a file of a common section and streams, with the checksum that fits."""
    return signed(struct.pack("<I", len(body)) + body, VERSION | APART, streams)


def test_a_claim_of_a_huge_tensor_takes_no_memory() -> None:
    """Files that honestly encode shapes which their bytes cannot fill."""
    for stored in (KINDS["float32"], KINDS["rounded"], KINDS["sparse"]):
        for shape in ((2**28,), (2**14, 2**14), (2**28, 2**28, 2**28), (2**27, 2**27, 2**10)):
            lie = holding(stored)
            data = _with_shape(lie, shape)
            tracemalloc.start()
            assert refused(data)
            assert tracemalloc.get_traced_memory()[1] < 100e6
            tracemalloc.stop()


def _with_shape(frozen: Frozen, shape: tuple[int, ...]) -> bytes:
    """Return the network's file with another shape written for its tensor than it has."""

    class Liar(container.NetworkScribe):
        def slot_shape(self, before, given=None):
            super().slot_shape(before, shape)
            return given

    coder, raw = container.Encoder(), bytearray()
    Liar(coder, raw).network(frozen)
    coded = coder.finish()
    return signed((struct.pack("<I", len(coded)) if raw else b"") + coded, VERSION | (APART if raw else 0), bytes(raw))


def test_names_are_forgotten_and_references_kept() -> None:
    spec, names = renamed(network(4).spec)
    assert set(names) == {f"s{i}" for i in range(len(names))}
    assert [n.name for n in spec.nodes] == [f"v{i + 1}" for i in range(len(spec.nodes))]
    assert mapped([Value("v0")], str) == ["v0"]
