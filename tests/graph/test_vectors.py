"""Weights that are looked up: short vectors in tables, and values that a hash places."""

import copy
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from contracts.nets import inputs_for, small_conv, small_mlp
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.cost import nessi
from paredown.cost.count import count, layers, stored_bits
from paredown.graph.freeze import freeze
from paredown.graph.from_onnx import from_onnx
from paredown.graph.hashing import hashed
from paredown.graph.net import Net
from paredown.graph.slots import stored
from paredown.graph.vectors import Hashed, VectorCodebook
from paredown.methods.prune.channels import Channels
from paredown.targets.onnx import Onnx
from paredown.targets.onnx_codes import UNPACKING_BYTES


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def codes(count: int, most: int, seed: int = 0) -> Tensor:
    return torch.randint(0, most, (count,), generator=torch.Generator().manual_seed(seed))


SLOTS: dict[str, nn.Module] = {
    "vectors": VectorCodebook(codes(12, 5), draw(1, 5, 4), (4, 3, 2, 2)),
    "two books": VectorCodebook(codes(24, 3), draw(2, 3, 2), (4, 3, 2, 2)),
    "whole rows": VectorCodebook(codes(4, 2), draw(1, 2, 12), (4, 12)),
    "one vector": VectorCodebook(torch.zeros(6), draw(1, 1, 2), (2, 6)),
    "most": VectorCodebook(torch.arange(4096), draw(1, 4096, 1), (64, 64)),
    "hashed": Hashed(draw(5), (4, 3, 2, 2), 7),
    "hashed once": Hashed(draw(1), (3,), 2**32 - 1),
}


@pytest.mark.parametrize("name", SLOTS)
def test_they_come_back(name: str) -> None:
    slot = SLOTS[name]
    again = stored(json.loads(json.dumps(slot.meta())), most=20_000)
    again.load_state_dict(slot.state_dict())
    for other in (again, copy.deepcopy(slot)):
        assert torch.equal(other(), slot()) and other.meta() == slot.meta() and other.bits == slot.bits
    net = small_mlp()
    net.set_slot("0.weight", slot)
    held = freeze(net).tensors["0.weight"]
    assert np.array_equal(held.value, slot().detach().numpy()) and held.shape == slot.shape == slot().shape
    assert held.value.dtype == np.float32


def test_vectors_by_hand() -> None:
    """Vector j of a row is looked up in book j % 2, whatever the row."""
    table = torch.arange(12.0).view(2, 3, 2)
    slot = VectorCodebook(torch.tensor([0, 0, 2, 1, 1, 2, 0, 1]), table, (2, 8))
    assert slot().tolist() == [[0, 1, 6, 7, 4, 5, 8, 9], [2, 3, 10, 11, 0, 1, 8, 9]]
    assert slot.bits == 2 and stored_bits(slot) == 8 * 2 + 12 * 32


def test_the_gradient_of_a_vector_is_the_sum_over_those_that_share_it() -> None:
    slot, upstream = VectorCodebook(codes(24, 3), draw(2, 3, 2), (4, 12)), draw(4, 12, seed=1)
    slot().backward(upstream)
    wanted = torch.zeros(2, 3, 2)
    for at, code in enumerate(slot.codes.tolist()):
        wanted[at % 2, code] += upstream.view(-1, 2)[at]
    assert torch.allclose(slot.centroids.grad, wanted, atol=1e-6)


def test_the_hash_is_the_one_that_is_written_down() -> None:
    """The C of `graph.hashing`, in Python's own integers; its finaliser is MurmurHash3's (known: 1 → 0x514e28b7)."""

    def mix(h: int) -> int:
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            h = ((h ^ h >> shift) * factor) % 2**32
        return h ^ h >> 16

    assert mix(1) == 0x514E28B7
    for seed in (0, 1, 12345, 2**32 - 1):
        numbers = [mix(i ^ mix(seed ^ 0x9E3779B9)) for i in range(300)]
        buckets, sign = hashed(300, 17, seed)
        assert buckets.tolist() == [(h & 0x7FFFFFFF) % 17 for h in numbers]
        assert sign.tolist() == [-1 if h >> 31 else 1 for h in numbers]


def test_the_hash_spreads() -> None:
    buckets, sign = hashed(100_000, 50, 3)
    counts = np.bincount(buckets, minlength=50)
    assert abs(sign.mean()) < 0.02 and counts.min() > 1800 and counts.max() < 2200
    together = np.array([sign[buckets == k].mean() for k in range(50)])
    assert np.abs(together).max() < 0.1  # the sign says nothing of the bucket
    assert (hashed(1000, 50, 3)[0] == hashed(1000, 50, 4)[0]).mean() < 0.06


def test_what_is_counted() -> None:
    net = small_mlp()
    net.set_slot("0.weight", Hashed(draw(100), (32, 64), 0))
    net.set_slot("2.weight", VectorCodebook(codes(256, 8), draw(1, 8, 2), (16, 32)))
    plain, found = count(small_mlp()), count(net)
    assert found.params == plain.params - 32 * 64 + 100 and found.macs == plain.macs
    assert found.bits == plain.bits - 32 * (32 * 64 - 100) - 32 * 512 + 256 * 3 + 16 * 32
    assert found.nonzero <= found.params
    assert [(row.weights, row.weights_nonzero) for row in layers(net) if row.macs][:2] == [(2048, 2048), (512, 512)]


def agrees(net: Net, folder: Path) -> onnx.ModelProto:
    (x,) = inputs_for(net, 16)
    path = Onnx().write(freeze(net), folder).path
    with torch.no_grad():
        wanted = net.eval()(x).numpy()
    np.testing.assert_allclose(Onnx().load(Path(path))(x.numpy()), wanted, rtol=1e-4, atol=1e-5)
    return onnx.load(path)


@pytest.mark.parametrize("clusters", [2, 4, 16, 50, 200, 300, 1024, 1500, 4096])
@pytest.mark.parametrize("books", [1, 2])
def test_onnx_files_look_vectors_up(clusters: int, books: int, tmp_path: Path) -> None:
    net = small_mlp()
    table = draw(books, clusters, 2) * 0.1
    net.set_slot("0.weight", VectorCodebook(codes(1024, clusters), table, (32, 64)))
    model = agrees(net, tmp_path)
    bits = max(1, (clusters - 1).bit_length())
    held = {t.name: len(t.raw_data) for t in model.graph.initializer}
    assert [size for name, size in held.items() if name[0] == "k"] == [books * clusters * 2 * 4]
    assert max(size for name, size in held.items() if name[0] == "w") <= 1024 * bits * 1.34 / 8 + UNPACKING_BYTES


def test_onnx_files_compute_the_hash(tmp_path: Path) -> None:
    """They hold the values alone, and are smaller; the numbers of all tensors are mixed once."""
    net = small_mlp()
    plain = Onnx().write(freeze(net), tmp_path).bytes
    for name, _ in list(net.weighted()):
        shape = net.slot(name)().shape
        net.set_slot(name, Hashed(draw(max(1, shape.numel() // 16)) * 0.1, shape, 5))
    model = agrees(net, tmp_path)
    assert (tmp_path / "model.onnx").stat().st_size < plain - 4 * 2048
    assert sum(node.op_type == "Range" for node in model.graph.node) == 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [64]


def test_convolutions_in_onnx(tmp_path: Path) -> None:
    net = small_conv()
    for name, length in (("wide.weight", 9), ("point.weight", 4)):
        shape = net.slot(name)().shape
        net.set_slot(name, VectorCodebook(codes(shape.numel() // length, 6), draw(1, 6, length) * 0.1, shape))
    net.set_slot("deep.weight", Hashed(draw(9), (8, 1, 3, 3), 1))
    agrees(net, tmp_path)


@pytest.mark.parametrize(
    "meta",
    [
        {"slot": "vectors", "shape": [4], "table": [1, 2, 3], "whole": [4, 4]},
        {"slot": "vectors", "shape": [4], "table": [1, 5000, 1], "whole": [2, 2]},
        {"slot": "vectors", "shape": [4], "table": [0, 2, 1], "whole": [2, 2]},
        {"slot": "vectors", "shape": [4], "table": [1, 2], "whole": [2, 2]},
        {"slot": "vectors", "shape": [4], "table": [3, 2, 1], "whole": [2, 2]},
        {"slot": "vectors", "shape": [4], "table": "ab", "whole": [2, 2]},
        {"slot": "vectors", "shape": [4], "whole": [2, 2]},
        {"slot": "vectors", "shape": [4], "table": [1, 2**50, 1], "whole": [2, 2]},
        {"slot": "hashed", "shape": [1], "whole": [2**14], "seed": 0},
        {"slot": "hashed", "shape": [1], "whole": [2], "seed": -1},
        {"slot": "hashed", "shape": [1], "whole": [2], "seed": "a"},
        {"slot": "hashed", "shape": [0], "whole": [2], "seed": 0},
        {"slot": "hashed", "shape": [2, 2], "whole": [2, 2], "seed": 0},
    ],
)
def test_descriptions_that_are_none_are_bad_input(meta: object) -> None:
    with pytest.raises(BadInput) as error:
        stored(meta, most=10_000)
    assert "\n" not in str(error.value)


def test_codes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadInput, match="codes up to 3 do not fit a table of 3"):
        VectorCodebook(torch.tensor([0, 3]), draw(1, 3, 2), (2, 2))


def test_onnx_files_are_read_back_as_plain_values(tmp_path: Path) -> None:
    net = small_conv().eval()
    net.set_slot("point.weight", VectorCodebook(codes(16, 6), draw(1, 6, 4) * 0.1, (8, 8, 1, 1)))
    net.set_slot("deep.weight", Hashed(draw(9), (8, 1, 3, 3), 1))
    again = from_onnx(Onnx().write(freeze(net), tmp_path).path).eval()
    (x,) = inputs_for(net, 4)
    with torch.no_grad():
        assert torch.allclose(again(x), net(x), atol=1e-6)


def test_channels_of_what_cannot_be_cut_stay() -> None:
    for slot in (VectorCodebook(codes(256, 8), draw(1, 8, 2), (16, 32)), Hashed(draw(64), (16, 32), 0)):
        net = small_mlp()
        net.set_slot("2.weight", slot)
        work = Work().scoped("prune.channels", ())
        out = Channels(0.5).apply(net, work)
        assert torch.equal(out.slot("2.weight")(), slot()) and out.slot("0.weight")().shape == (32, 64)
        assert any(f"2.weight is held as {type(slot).__name__}" in note.text for note in work.notes)


def test_what_rules_count() -> None:
    """Codes and tables of vectors; of hashed values the values alone."""
    plain = nessi.param_bytes(small_mlp())
    net = small_mlp()
    net.set_slot("2.weight", VectorCodebook(codes(256, 8), draw(1, 8, 2), (16, 32)))
    assert plain - nessi.param_bytes(net) == 4 * 512 - 256 - 4 * 16 and nessi.nonzero_bytes(net) <= nessi.param_bytes(
        net
    )
    net.set_slot("2.weight", Hashed(draw(64), (16, 32), 0))
    assert (
        plain - nessi.param_bytes(net) == 4 * (512 - 64) and nessi.params(small_mlp()) - nessi.params(net) == 512 - 64
    )
