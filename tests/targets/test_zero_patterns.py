"""Files of N:M and block-sparse weights take the values and the index cost; those of others take no more than before."""

import math

import numpy as np
import pytest
import torch
from test_container import assert_same, holding

from paredown.core.errors import Damaged
from paredown.graph.frozen import Blocks, Plain, Rounded, Shared, Stored
from paredown.graph.zero_pattern import Groups, Pattern, Tiles
from paredown.kernels import decoder
from paredown.kernels.library import built
from paredown.methods.structure.block import Block
from paredown.methods.structure.granularity import Granularity
from paredown.methods.structure.n_m import NM
from paredown.targets import scribe, streams
from paredown.targets.container import read, write

SHAPES = [(160, 128), (64, 40, 3, 3)]


def kept(structure: object, shape: tuple[int, ...], sparsity: float) -> np.ndarray:
    saliency = torch.from_numpy(np.random.default_rng(0).random(shape)).float()
    return structure.stays({"w": saliency}, sparsity, "layer")["w"].numpy()  # type: ignore[attr-defined]


def stored(kind: str, mask: np.ndarray) -> tuple[Stored, float]:
    """Return a weight that is zero where `mask` is, and the bits of one of the other values, all equally likely."""
    draw = np.random.default_rng(1)
    if kind == "float":
        return Plain(np.where(mask, draw.normal(size=mask.shape), 0).astype(np.float32)), 32
    if kind == "shared":
        table = np.linspace(0, 1, 16, dtype=np.float32)
        return Shared(np.where(mask, draw.integers(1, 16, mask.shape), 0).astype(np.uint8), table), math.log2(15)
    codes = np.where(mask, draw.integers(1, 8, mask.shape) * draw.choice([-1, 1], mask.shape), 0)
    if kind == "blocks":
        made = Blocks((codes & 15).astype(np.uint8), np.full((len(codes), 1), 0.25, np.float32), "int4", codes[0].size)
        return made, math.log2(14)
    return Rounded(codes.astype(np.int8), np.float32(0.3).reshape(()), 4), math.log2(14)


def assert_alike(weight: Stored, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Assert that the file comes back, by every reader, and that Python writes the same one as C."""
    frozen = holding(weight)
    data = write(frozen)[0]
    assert_same(frozen, read(data))
    if built():
        found = decoder.tensors(data)[0]
        assert found is not None and found.value.tobytes() == weight.value.tobytes()
        assert decoder.tensors(data, set()) == [None]
    with monkeypatch.context() as patch:
        patch.setattr(streams.native, "built", lambda: False)
        assert write(frozen)[0] == data
        assert_same(frozen, read(data))
    return data


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 7), (2, 8), (8, 32)])
@pytest.mark.parametrize("kind", ["codes", "float", "shared", "blocks"])
def test_n_of_m_takes_its_values_and_the_cost_of_the_index(
    kind: str, n: int, m: int, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = kept(NM(n, m), shape, (1 - n / m) * (shape[1] // m * m / shape[1]) + 5e-10)
    weight, bits = stored(kind, mask)
    data = assert_alike(weight, monkeypatch)
    groups = mask.size * (shape[1] // m * m / shape[1]) / m
    wanted = (bits * np.count_nonzero(mask) + groups * math.log2(math.comb(m, n))) / 8
    overhead = 60 + 2 * (kind == "shared") * 64
    assert wanted * 0.995 < len(data) < wanted * 1.015 + overhead


@pytest.mark.parametrize("kind", ["codes", "float", "shared"])
def test_blocks_of_zeros_take_a_bit_or_less_each(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = kept(Block(4, 8), SHAPES[1], 0.75)
    weight, bits = stored(kind, mask)
    data = assert_alike(weight, monkeypatch)
    wanted = (bits * np.count_nonzero(mask) + mask.size / 32 * 0.8113) / 8
    assert wanted * 0.99 < len(data) < wanted * 1.025 + 200


@pytest.mark.parametrize(("rows", "columns"), [(1, 9), (8, 8), (5, 12)])
def test_any_tile_comes_back(rows: int, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for shape in ((64, 30, 3, 3), (50, 33), (18, 17, 2)):
        assert_alike(stored("codes", kept(Block(rows, columns), shape, 0.6))[0], monkeypatch)


@pytest.mark.parametrize("shape", [*SHAPES, (24, 16), (40, 64)])
@pytest.mark.parametrize("density", [0.05, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("kind", ["codes", "float", "shared"])
def test_other_files_do_not_grow(
    kind: str, density: float, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for structure in (Granularity("element"), Granularity("filter")):
        weight, _ = stored(kind, kept(structure, shape, 1 - density))
        size = len(write(holding(weight))[0])
        with monkeypatch.context() as patch:
            patch.setattr(scribe, "level_pattern", lambda codes: None)
            patch.setattr(scribe, "index_pattern", lambda indices, count: None)
            assert size <= len(write(holding(weight))[0])


@pytest.mark.parametrize(
    "pattern", [Groups(2, 4), Groups(0, 4), Groups(5, 4), Groups(1, 33), Tiles(65, 1), Tiles(2, 0)]
)
def test_a_pattern_that_cannot_be_followed_is_damage(pattern: Pattern, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file says one; the reader refuses it, in Python and in C. The first is sound, and read."""
    weight, _ = stored("codes", kept(NM(2, 4), (32, 64), 0.5))
    with monkeypatch.context() as patch:
        patch.setattr(scribe, "level_pattern", lambda codes: pattern)
        patch.setattr(scribe, "allowed", lambda *told: True)
        patch.setattr(scribe, "zeros", lambda *told: None)
        data = write(holding(weight))[0]
    if pattern == Groups(2, 4):
        data = write(holding(weight))[0]
        assert_same(holding(weight), read(data))
        return
    with pytest.raises(Damaged):
        read(data)
    if built():
        with pytest.raises(Damaged):
            decoder.tensors(data)
