"""Compressed rows of blocks: round trips, forward and both gradients equal to the masked dense product, bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.codec import CodecContract
from paredown.core.errors import BadInput, Damaged
from paredown.methods.code.bsr import Bsr, bsr_bytes, compressed, dense, outer, product, squares, transposed


class TestBsr(CodecContract):
    def part(self) -> Bsr:
        return Bsr(4)

    def arrays(self) -> dict[str, np.ndarray]:
        """A block-sparse matrix stands for the peaked source; "matrix" has edges that no whole block fills."""
        peaked = super().arrays()["peaked"][:2400].reshape(40, 60)
        blocks = np.random.default_rng(2).random((10, 15)) < 0.1
        sparse = peaked * blocks.repeat(4, 0).repeat(4, 1)
        return super().arrays() | {"peaked": sparse, "edges": peaked[:37, :58] * (peaked[:37, :58] > 2)}


class TestLargeBlocks(TestBsr):
    def part(self) -> Bsr:
        return Bsr(8)

    def arrays(self) -> dict[str, np.ndarray]:
        draw = np.random.default_rng(3)
        sparse = draw.integers(-3, 4, (64, 64)) * (draw.random((8, 8)) < 0.1).repeat(8, 0).repeat(8, 1)
        return super().arrays() | {"peaked": sparse}


def matrix(seed: int, rows: int, columns: int, block: int, share: float) -> np.ndarray:
    """Return a matrix of whole blocks of which that share is not all 0."""
    draw = np.random.default_rng(seed)
    there = (draw.random((rows, columns)) < share).repeat(block, 0).repeat(block, 1)
    return draw.integers(-9, 10, there.shape) * there


cases = st.tuples(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.floats(0, 1))


@given(cases, st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_forward_and_both_gradients_are_the_masked_dense_ones(
    case: tuple[int, int, int, int, float], width: int
) -> None:
    """A-S2-09: y = W x, dx = Wᵀ dy, and dW = dy xᵀ on the stored blocks alone."""
    left, block = matrix(*case), case[3]
    draw = np.random.default_rng(1)
    x, dy = draw.integers(-9, 10, (left.shape[1], width)), draw.integers(-9, 10, (len(left), width))
    held = compressed(left, block)
    mask = (squares(left, block) != 0).any((2, 3)).repeat(block, 0).repeat(block, 1)
    np.testing.assert_array_equal(product(held, x), left @ x)
    back = transposed(held, left.shape[1] // block)
    np.testing.assert_array_equal(dense(back, left.T.shape), left.T)
    np.testing.assert_array_equal(product(back, dy), left.T @ dy)
    np.testing.assert_array_equal(dense(outer(held, dy, x), left.shape), (dy @ x.T) * mask)


def test_by_hand() -> None:
    held = compressed(np.array([[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 3, 4], [0, 0, 0, 0]]), 2)
    assert held.pointers.tolist() == [0, 1, 2] and held.columns.tolist() == [0, 1]
    assert held.blocks.tolist() == [[[1, 0], [0, 2]], [[3, 4], [0, 0]]]


def test_the_storage_is_that_of_the_blocks() -> None:
    """n_blocks · b · b values, a column number each, a pointer for each row of blocks."""
    left = matrix(0, 12, 9, 8, 0.3)
    held = compressed(left, 8)
    assert held.blocks.size == len(held.columns) * 8 * 8
    real = 4 * held.blocks.size + 4 * len(held.columns) + 4 * len(held.pointers)
    assert real == bsr_bytes(96, len(held.columns), 8) and bsr_bytes(97, 0, 8) == 4 * 14
    codes = bsr_bytes(96, len(held.columns), 8, 5 / 8, 0.5, len(held.columns).bit_length() / 8)
    assert abs(len(Bsr(8).encode(left)) - codes) <= 10


def test_edges_are_part_of_smaller_blocks_and_nothing_lies_beyond_them() -> None:
    left = matrix(0, 3, 3, 4, 0.7)[:10, :11]
    held = compressed(left, 4)
    np.testing.assert_array_equal(dense(held, left.shape), left)
    with pytest.raises(BadInput, match="beyond"):
        dense(held._replace(blocks=np.ones_like(held.blocks)), left.shape)


def test_damage_in_the_pointers_columns_and_blocks_is_found() -> None:
    good = Bsr(2).encode(np.array([[1, 0, 0], [0, 2, 0], [0, 0, 3]]))
    assert Bsr(2).decode(good, 9).tolist() == [1, 0, 0, 0, 2, 0, 0, 0, 3]
    wrong = {"rows": b"\2" + good[1:], "no rows": b"\0" + good[1:], "pointers": good[:2] + b"\xff" + good[3:],
             "beyond the edge": good[:-1] + b"\xff", "more": good + b"\0"}  # fmt: skip
    for name, data in wrong.items():
        with pytest.raises(Damaged):
            pytest.fail(f"{name}: {Bsr(2).decode(data, 9)}")
    with pytest.raises(BadInput, match="block"):
        Bsr(0)
