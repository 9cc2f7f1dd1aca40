"""Coordinates: round trips, products equal to dense ones, bytes and the density from which dense is smaller."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.codec import CodecContract
from paredown.core.errors import Damaged
from paredown.methods.code.coo import Coo, break_even, compressed, coo_bytes, dense, product


class TestCoo(CodecContract):
    def part(self) -> Coo:
        return Coo()

    def arrays(self) -> dict[str, np.ndarray]:
        """A sparse matrix stands for the peaked source."""
        peaked = super().arrays()["peaked"]
        return super().arrays() | {"peaked": peaked * (np.random.default_rng(2).random(peaked.size) < 0.1)}


def matrix(seed: int, rows: int, columns: int, share: float) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.integers(-9, 10, (rows, columns)) * (draw.random((rows, columns)) < share)


def test_by_hand() -> None:
    held = compressed(np.array([[0, 5, 0], [0, 0, 0], [7, 0, 8]]))
    assert [part.tolist() for part in held] == [[0, 2, 2], [1, 0, 2], [5, 7, 8]]


shapes = st.tuples(st.integers(0, 2**32), st.integers(1, 20), st.integers(1, 20), st.floats(0, 1))


@given(shapes, st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_it_comes_back_and_multiplies_as_the_dense_matrix(shape: tuple[int, int, int, float], width: int) -> None:
    left = matrix(*shape)
    right = matrix(1, left.shape[1], width, 1.0)
    held = compressed(left)
    np.testing.assert_array_equal(dense(held, left.shape), left)
    np.testing.assert_array_equal(product(held, len(left), right), left @ right)


def test_the_bytes_are_the_formula_and_dense_is_smaller_from_one_third() -> None:
    held = compressed(matrix(0, 200, 256, 0.2))
    real = held.rows.astype(np.int32).nbytes + held.columns.astype(np.int32).nbytes + 4 * len(held.values)
    assert real == coo_bytes(len(held.values)) and break_even() == pytest.approx(1 / 3)
    assert coo_bytes(round(break_even() * 300 * 200)) == pytest.approx(4 * 300 * 200)
    codes = coo_bytes(len(held.values), 5 / 8, 1)
    assert abs(len(Coo().encode(matrix(0, 200, 256, 0.2))) - codes) <= 10


def test_places_beyond_the_matrix_or_out_of_order_are_damage() -> None:
    good = Coo().encode(np.array([[0, 5, 0], [0, 0, 0], [7, 0, 8]]))
    assert Coo().decode(good, 9).tolist() == [0, 5, 0, 0, 0, 0, 7, 0, 8]
    wrong = {"rows": b"\2" + good[1:], "no rows": b"\0" + good[1:], "beyond": good[:2] + b"\xff" + good[3:],
             "twice": good[:2] + b"\0" + good[3:4] + good[4:], "more": good + b"\0"}  # fmt: skip
    for name, data in wrong.items():
        with pytest.raises(Damaged):
            pytest.fail(f"{name}: {Coo().decode(data, 9)}")
