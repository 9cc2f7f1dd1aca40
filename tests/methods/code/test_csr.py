"""Compressed sparse rows: round trips, products equal to dense ones, bytes and the density from which dense is smaller."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.codec import CodecContract
from paredown.core.errors import Damaged
from paredown.methods.code.csr import Csr, break_even, compressed, csr_bytes, dense, product


class TestCsr(CodecContract):
    def part(self) -> Csr:
        return Csr()

    def arrays(self) -> dict[str, np.ndarray]:
        """A sparse matrix stands for the peaked source: where few entries are 0 an index costs more than it saves."""
        peaked = super().arrays()["peaked"]
        return super().arrays() | {"peaked": peaked * (np.random.default_rng(2).random(peaked.size) < 0.1)}


def matrix(seed: int, rows: int, columns: int, share: float) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.integers(-9, 10, (rows, columns)) * (draw.random((rows, columns)) < share)


def test_by_hand() -> None:
    held = compressed(np.array([[0, 5, 0], [0, 0, 0], [7, 0, 8]]))
    assert [part.tolist() for part in held] == [[0, 1, 1, 3], [1, 0, 2], [5, 7, 8]]


shapes = st.tuples(st.integers(0, 2**32), st.integers(1, 20), st.integers(1, 20), st.floats(0, 1))


@given(shapes, st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_it_comes_back_and_multiplies_as_the_dense_matrix(shape: tuple[int, int, int, float], width: int) -> None:
    left = matrix(*shape)
    right = matrix(1, left.shape[1], width, 1.0)
    held = compressed(left)
    np.testing.assert_array_equal(dense(held, left.shape[1]), left)
    np.testing.assert_array_equal(product(held, right), left @ right)


def test_the_bytes_are_the_formula() -> None:
    """200 × 300 with float32 and int32; and the codec with the widths that it takes: 8 bits an index, 4 a value."""
    values = matrix(0, 200, 256, 0.2)
    values[0, :2] = -8, 9
    values[values == -9] = 0
    held = compressed(values)
    real = held._replace(values=held.values.astype(np.float32), columns=held.columns.astype(np.int32),
                         pointers=held.pointers.astype(np.int32))  # fmt: skip
    assert sum(part.nbytes for part in real) == csr_bytes(200, len(held.values))
    entries = len(held.values)
    codes = csr_bytes(200, entries, 5 / 8, 1, entries.bit_length() / 8)
    assert abs(len(Csr().encode(values)) - codes) <= 10


@given(st.integers(1, 400), st.integers(1, 400))
@settings(max_examples=100, deadline=None)
def test_dense_is_smaller_from_one_half_less_the_pointers(rows: int, columns: int) -> None:
    share = break_even(rows, columns)
    assert share == pytest.approx(0.5 - (rows + 1) / (2 * rows * columns))
    assert csr_bytes(rows, share * rows * columns) == pytest.approx(4 * rows * columns)  # type: ignore[arg-type]
    assert break_even(rows, columns, 4, 2) == pytest.approx(2 / 3 - (rows + 1) * 4 / (6 * rows * columns))


def test_damage_in_the_pointers_and_indices_is_found() -> None:
    good = Csr().encode(np.array([[0, 5, 0], [0, 0, 0], [7, 0, 8]]))
    assert Csr().decode(good, 9).tolist() == [0, 5, 0, 0, 0, 0, 7, 0, 8]
    wrong = {"rows": b"\2" + good[1:], "pointers": good[:2] + b"\x4c" + good[3:], "no rows": b"\0" + good[1:],
             "column": good[:3] + b"\xff" + good[4:], "more": good + b"\0"}  # fmt: skip
    for name, data in wrong.items():
        with pytest.raises(Damaged):
            pytest.fail(f"{name}: {Csr().decode(data, 9)}")
