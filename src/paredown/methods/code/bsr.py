"""Compressed rows of blocks: the squares of a matrix that are not all 0, whole; and products that work on these alone."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput, Damaged
from paredown.core.knob import check_fields, knob
from paredown.methods.code.csr import as_matrix
from paredown.methods.code.fields import Reader, Writer, believable, whole, width_of


class BlockRows(NamedTuple):
    """Row of blocks i has those from pointers[i] to pointers[i + 1] of `columns` and of `blocks`, [blocks, b, b]."""

    pointers: np.ndarray
    columns: np.ndarray
    blocks: np.ndarray


def squares(matrix: np.ndarray, block: int) -> np.ndarray:
    """Return a matrix as squares, [down, across, block, block]; what lies beyond the edges is 0."""
    high, wide = (-(-side // block) for side in matrix.shape)
    padded = np.zeros((high * block, wide * block), dtype=matrix.dtype)
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    return padded.reshape(high, block, wide, block).swapaxes(1, 2)


def compressed(matrix: np.ndarray, block: int) -> BlockRows:
    """Return the squares of a matrix that are not all 0, row by row."""
    parts = squares(matrix, block)
    rows, columns = np.nonzero((parts != 0).any((2, 3)))
    pointers = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=len(parts)), out=pointers[1:])
    return BlockRows(pointers, columns, parts[rows, columns])


def _row_numbers(held: BlockRows) -> np.ndarray:
    return np.repeat(np.arange(len(held.pointers) - 1), np.diff(held.pointers))


def dense(held: BlockRows, shape: tuple[int, int]) -> np.ndarray:
    """Return the matrix; the inverse of `compressed`. Raises BadInput where a block has entries beyond the edges."""
    block = held.blocks.shape[1]
    high, wide = (-(-side // block) for side in shape)
    found = np.zeros((high, wide, block, block), dtype=held.blocks.dtype)
    found[_row_numbers(held), held.columns] = held.blocks
    whole = found.swapaxes(1, 2).reshape(high * block, wide * block)
    if whole[shape[0] :].any() or whole[:, shape[1] :].any():
        raise BadInput(f"blocks of {block} have entries beyond a matrix of {shape[0]} × {shape[1]}")
    return whole[: shape[0], : shape[1]]


def product(held: BlockRows, right: np.ndarray) -> np.ndarray:
    """Return the matrix (whole blocks high) times a dense one whose rows fill whole blocks, from the stored blocks alone."""
    block = held.blocks.shape[1]
    parts = right.reshape(-1, block, right.shape[1])
    found = np.zeros((len(held.pointers) - 1, block, right.shape[1]), np.result_type(held.blocks, right))
    for row in range(len(found)):
        own = slice(held.pointers[row], held.pointers[row + 1])
        if own.start < own.stop:  # one product of the row's blocks side by side
            across = held.blocks[own].swapaxes(0, 1).reshape(block, -1)
            found[row] = across @ parts[held.columns[own]].reshape(-1, right.shape[1])
    return found.reshape(-1, right.shape[1])


def transposed(held: BlockRows, wide: int) -> BlockRows:
    """Return the transpose, of `wide` rows of blocks: for the gradient of what the matrix is multiplied with."""
    order = np.argsort(held.columns, kind="stable")
    pointers = np.zeros(wide + 1, dtype=np.int64)
    np.cumsum(np.bincount(held.columns, minlength=wide), out=pointers[1:])
    return BlockRows(pointers, _row_numbers(held)[order], held.blocks[order].swapaxes(1, 2))


def outer(held: BlockRows, left: np.ndarray, right: np.ndarray) -> BlockRows:
    """Return left @ right.T at the stored blocks alone: the gradient of the matrix, where left is that of its product with right."""
    block = held.blocks.shape[1]
    rows, columns = (side.reshape(-1, block, side.shape[1]) for side in (left, right))
    return held._replace(blocks=rows[_row_numbers(held)] @ columns[held.columns].swapaxes(1, 2))


def bsr_bytes(rows: int, blocks: int, block: int, value: float = 4, index: float = 4, pointer: float = 4) -> float:
    """Return the bytes of a matrix of so many rows with so many blocks stored; value, index, pointer: bytes of each."""
    return blocks * (block * block * value + index) + (-(-rows // block) + 1) * pointer


@part("code.bsr", Card(title="Compressed rows of blocks (BSR)", year=2017, authors="block-sparse products: Gray, Radford, Kingma",
                       source="GPU Kernels for Block-Sparse Weights (OpenAI, 2017), section 2; the format is older", changes={"bytes"}))  # fmt: skip
@dataclass(frozen=True)
class Bsr:
    """Store the squares that are not all 0, whole, with row pointers and column numbers, each at the smallest fixed width.

    block: a square's side. The first dimension of an array is its rows; a vector is one row. What lies beyond the edges is 0.
    Differs from the source: for any processor; a row's blocks are one product, in place of a kernel for each width.
    """

    block: int = knob(4, low=1, high=256)

    def __post_init__(self) -> None:
        check_fields(self)

    def encode(self, array: np.ndarray) -> bytes:
        """Return: rows, blocks, pointers without the first, column numbers, then the blocks' values."""
        matrix = as_matrix(whole(array))
        held = compressed(matrix, self.block)
        writer = Writer()
        writer.number(len(matrix))
        writer.number(len(held.columns))
        writer.fields(held.pointers[1:], width_of(len(held.columns)))
        writer.fields(held.columns, width_of(max(-(-matrix.shape[1] // self.block) - 1, 0)))
        writer.values(held.blocks.ravel())
        return bytes(writer.out) if matrix.size else b""

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the `size` integers (int64) that `encode` was given. Raises Damaged for what cannot be such a code."""
        if not believable(size):
            return np.zeros(0, dtype=np.int64)
        reader = Reader(data)
        rows, across, count = reader.matrix(size)
        high, wide = -(-rows // self.block), -(-across // self.block)
        pointers = np.pad(reader.fields(width_of(count), high).astype(np.int64), (1, 0))
        if pointers[-1] != count or (np.diff(pointers) < 0).any():
            raise Damaged("the row pointers do not rise to the number of blocks")
        columns = reader.fields(width_of(wide - 1), count).astype(np.int64)
        if count and columns.max() >= wide:
            raise Damaged(f"there is no column of blocks {columns.max()} among {wide}")
        blocks = reader.values(count * self.block**2).reshape(count, self.block, self.block)
        reader.end()
        try:
            return dense(BlockRows(pointers, columns, blocks), (rows, across)).ravel()
        except BadInput as error:
            raise Damaged(str(error)) from error
