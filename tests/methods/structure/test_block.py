"""Rectangles of the matrix."""

import pytest
import torch

from contracts.structure import SHAPES, StructureContract
from paredown.core.errors import BadInput
from paredown.methods.structure.block import Block, tiles


class TestBlock(StructureContract):
    def part(self) -> Block:
        return Block(2, 4)

    def slack(self, name: str) -> int:
        return 7


class TestUnevenBlock(StructureContract):
    def part(self) -> Block:
        return Block(3, 5)

    def slack(self, name: str) -> int:
        return 14


def test_tiles_are_the_rectangles_and_nothing_is_lost() -> None:
    matrix = torch.arange(1.0, 36.0).view(5, 7)
    found = tiles(matrix, 2, 3)
    assert found.shape == (3, 3, 2, 3) and float(found.sum()) == float(matrix.sum())
    assert found[1, 1].tolist() == matrix[2:4, 3:6].tolist() and found[2, 2].tolist() == [[35, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(("rows", "columns"), [(2, 4), (3, 5), (1, 1), (99, 99)])
def test_a_block_stays_or_goes_whole(rows: int, columns: int) -> None:
    weight = torch.rand(SHAPES["conv"], generator=torch.Generator().manual_seed(0))
    stays = Block(rows, columns).stays({"w": weight}, 0.5, "layer")["w"].flatten(1)
    inside = tiles(torch.ones_like(stays, dtype=torch.float), rows, columns).sum((2, 3))
    left = tiles(stays.float(), rows, columns).sum((2, 3))
    assert ((left == 0) | (left == inside)).all()
    assert (left == 0).any() == (rows < 99)


def test_the_weakest_blocks_go() -> None:
    weight = torch.rand(8, 8, generator=torch.Generator().manual_seed(1))
    stays = Block(4, 4).stays({"w": weight}, 0.5, "layer")["w"]
    sums = tiles(weight, 4, 4).sum((2, 3)).flatten()
    kept = tiles(stays.float(), 4, 4)[..., 0, 0].flatten() == 1
    assert kept.sum() == 2 and sums[kept].min() > sums[~kept].max()


def test_blocks_of_nothing_are_refused() -> None:
    with pytest.raises(BadInput):
        Block(0, 4)
