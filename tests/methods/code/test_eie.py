"""EIE's format and product: the paper's example, sums equal to dense ones, work only where an activation is not 0."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.codec import CodecContract
from paredown.core.errors import BadInput, Damaged
from paredown.methods.code.eie import Eie, interleaved, load_balance, padding_fraction, spmv, stored_bits, together

COLUMN = np.array([0, 0, 1, 2] + [0] * 18 + [3])


class TestEie(CodecContract):
    def part(self) -> Eie:
        return Eie()

    def arrays(self) -> dict[str, np.ndarray]:
        """A sparse source stands for the peaked one: where few entries are 0 an index costs more than it saves."""
        peaked = super().arrays()["peaked"]
        return super().arrays() | {"peaked": peaked * (np.random.default_rng(2).random(peaked.size) < 0.1)}


def matrix(seed: int, rows: int, columns: int, share: float) -> np.ndarray:
    """Return indices into a codebook of 16 whose first entry is 0."""
    draw = np.random.default_rng(seed)
    return draw.integers(1, 16, (rows, columns)) * (draw.random((rows, columns)) < share)


def test_the_papers_example() -> None:
    """Section III-B: the column is v = [1,2,0,3], z = [2,0,15,2]; and on two elements each counts its own rows."""
    (lane,) = interleaved(COLUMN[:, None], 1)
    assert lane.v.tolist() == [1, 2, 0, 3] and lane.z.tolist() == [2, 0, 15, 2] and lane.pointers.tolist() == [0, 4]
    even, odd = interleaved(COLUMN[:, None], 2)
    assert (even.v.tolist(), even.z.tolist()) == ([1, 3], [1, 9]) and (odd.v.tolist(), odd.z.tolist()) == ([2], [1])


shapes = st.tuples(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 12), st.floats(0, 1))


@given(shapes, st.integers(1, 9), st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_each_element_holds_its_rows_and_all_of_them_the_matrix(
    shape: tuple[int, int, int, float], elements: int, bits: int
) -> None:
    held = matrix(*shape)
    lanes = interleaved(held, elements, bits)
    np.testing.assert_array_equal(together(lanes, len(held)), held)
    for at, lane in enumerate(lanes):
        (alone,) = interleaved(held[at::elements], 1, bits)
        assert all((mine == own).all() for mine, own in zip(lane, alone, strict=True))
        assert lane.z.size == 0 or lane.z.max() < 1 << bits


@given(shapes, st.integers(1, 9), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_the_product_is_the_dense_one_and_zeros_trigger_no_work(
    shape: tuple[int, int, int, float], elements: int, share: float
) -> None:
    held = matrix(*shape)
    draw = np.random.default_rng(3)
    codebook = np.concatenate([[0], draw.integers(-99, 100, 15)])
    x = draw.integers(1, 50, held.shape[1]) * (draw.random(held.shape[1]) < share)
    lanes = interleaved(held, elements)
    given, work = spmv(lanes, len(held), x, codebook)
    np.testing.assert_array_equal(given, codebook[held] @ x)
    assert work.shape == (np.count_nonzero(x), elements)
    stored = together([lane._replace(v=np.ones_like(lane.v)) for lane in lanes], len(held))  # padding zeros too
    assert work.sum() == stored[:, x != 0].sum() and (work.sum(axis=1) == stored.sum(axis=0)[x != 0]).all()
    np.testing.assert_array_equal(spmv(lanes, len(held), x)[0], held @ x)


def test_real_sums_are_exact_where_the_arithmetic_is() -> None:
    held, x = matrix(0, 64, 40, 0.3), np.arange(40) / 8.0
    codebook = np.arange(16) / 4.0
    np.testing.assert_array_equal(spmv(interleaved(held, 4), 64, x, codebook)[0], codebook[held] @ x)


def test_more_elements_pad_less() -> None:
    """Each has fewer rows, so that its runs of zeros are shorter (figure 12)."""
    held = matrix(0, 1024, 30, 0.03)
    shares = [padding_fraction(interleaved(held, elements)) for elements in (1, 4, 16, 64)]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0.3 and shares[-1] == 0
    assert padding_fraction(interleaved(held * 0, 4)) == 0


def test_the_bits_stored() -> None:
    lanes = interleaved(matrix(0, 64, 10, 0.3), 4)
    assert stored_bits(lanes) == 8 * sum(len(lane.v) for lane in lanes) + 4 * 11 * 16


def test_deeper_queues_balance_the_load_and_none_helps_what_is_always_uneven() -> None:
    work = np.random.default_rng(0).poisson(4, (300, 16))
    shares = [load_balance(work, depth) for depth in (1, 2, 4, 8, 16, 300)]
    assert shares == sorted(shares) and shares[0] < 0.8 and shares[3] > 0.85
    assert shares[-1] <= work.sum() / (work.sum(axis=0).max() * 16)
    assert load_balance(np.tile([4, 0], (50, 1)), 300) == 0.5
    assert load_balance(np.full((50, 8), 3), 1) == 1 and load_balance(np.zeros((5, 2), int), 1) == 1
    with pytest.raises(BadInput):
        load_balance(work, 0)


def machine(work: np.ndarray, depth: int) -> int:
    """Return the cycles that a machine takes which moves cycle by cycle."""
    many, elements = work.shape
    queues: list[list[int]] = [[] for _ in range(elements)]
    left, sent, cycles = [0] * elements, 0, 0
    while sent < many or any(queues) or any(left):
        pop(queues, left)
        if sent < many and all(len(queue) < depth for queue in queues):
            for at, queue in enumerate(queues):
                queue.append(int(work[sent, at]))
            sent += 1
            pop(queues, left)
        left = [max(0, n - 1) for n in left]
        cycles += 1
    return cycles


def pop(queues: list[list[int]], left: list[int]) -> None:
    for at, queue in enumerate(queues):
        while queue and not left[at]:
            left[at] = queue.pop(0)


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_the_simulation_is_the_machine_that_moves_by_cycles(seed: int, many: int, elements: int, depth: int) -> None:
    work = np.random.default_rng(seed).integers(1, 6, (many, elements))
    cycles = work.sum() / (elements * load_balance(work, depth))
    assert machine(work, depth) == pytest.approx(cycles)


@given(shapes, st.integers(1, 100), st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_any_number_of_elements_comes_back(shape: tuple[int, int, int, float], elements: int, bits: int) -> None:
    held, codec = matrix(*shape), Eie(elements, bits)
    assert codec.decode(codec.encode(held), held.size).tolist() == held.ravel().tolist()


def test_runs_beyond_the_last_row_are_damage() -> None:
    (lane,) = interleaved(COLUMN[:, None], 1)
    with pytest.raises(Damaged, match="row 22 of 20"):
        together([lane], 20)
    with pytest.raises(Damaged):
        Eie().decode(Eie().encode(COLUMN), 20)


def test_a_claim_of_very_many_columns_and_elements_ends_before_any_room_is_made() -> None:
    numbers = (
        b"\x80\x80\x80\x80\1" + b"\x80\x08" + b"\x04\x20"
    )  # 2^28 columns, 1024 elements, runs of 4 bits, pointers of 32
    with pytest.raises(Damaged, match="cannot hold"):
        Eie().decode(numbers + bytes(50), 2**28)
