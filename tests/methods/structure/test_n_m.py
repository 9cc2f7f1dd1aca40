"""N of every M inputs in a row."""

import doctest
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.structure import StructureContract
from paredown.core.errors import BadInput
from paredown.methods.structure import n_m
from paredown.methods.structure.n_m import NM, better_order, groups, packed, retained, storage_ratio, unpacked


class TestTwoOfFour(StructureContract):
    most = 0.5

    def part(self) -> NM:
        return NM()

    def slack(self, name: str) -> int:
        return 1


class TestOneOfEightWithSwaps(StructureContract):
    most = 0.875

    def part(self) -> NM:
        return NM(1, 8, swaps=5)

    def slack(self, name: str) -> int:
        return 6


def test_two_of_four_keeps_the_two_largest_inputs_of_each_group() -> None:
    row = torch.tensor([[0.1, 0.9, 0.3, 0.2, 0.5, 0.5, 0.5, 0.5, 9.0, 8.0]])
    stays = NM().stays({"w": row}, 0.4, "layer")["w"]
    assert stays.int().tolist() == [[0, 1, 1, 0, 1, 1, 0, 0, 1, 1]]


def test_groups_are_inputs_at_one_place_of_a_kernel() -> None:
    weight = torch.rand(6, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    stays = NM().stays({"w": weight}, 0.5, "layer")["w"]
    assert torch.equal(stays.reshape(6, 2, 4, 3, 3).sum(2), torch.full((6, 2, 3, 3), 2))
    assert not torch.equal(stays.reshape(6, 18, 4).sum(2), torch.full((6, 18), 2))


def test_weights_with_few_inputs_stay() -> None:
    assert NM().stays({"deep": torch.rand(8, 1, 3, 3)}, 0.5, "layer")["deep"].all()


def test_storage() -> None:
    """A-S4-19: values and their positions over dense values; part E 14."""
    assert (storage_ratio(2, 4, 16), storage_ratio(2, 4, 8), storage_ratio(1, 16, 8)) == (0.5625, 0.625, 0.09375)
    assert doctest.testmod(n_m).failed == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(4, 18), st.sampled_from([(2, 4), (1, 4), (1, 3)]), st.integers(0, 999))
def test_permutation_search_never_keeps_less(rows: int, columns: int, nm: tuple[int, int], seed: int) -> None:
    weight = torch.rand(rows, columns, 2, generator=torch.Generator().manual_seed(seed))
    kept = [retained(weight[:, better_order(weight, *nm, swaps)], *nm) for swaps in (0, 1, 3, 50)]
    assert all(after >= before - 1e-6 for before, after in itertools.pairwise(kept))
    assert sorted(better_order(weight, *nm, 50).tolist()) == list(range(columns))
    assert kept[0] == pytest.approx(retained(weight, *nm))


def test_permutation_search_finds_a_planted_order() -> None:
    """Two groups with four large inputs in one and none in the other: two of them have to change places."""
    weight = torch.tensor([[9.0, 8.0, 7.0, 6.0, 0.4, 0.3, 0.2, 0.1]])
    assert (
        retained(weight, 2, 4) == pytest.approx(17.7) and retained(weight[:, better_order(weight, 2, 4, 9)], 2, 4) == 30
    )
    assert NM(swaps=9).stays({"w": weight}, 0.5, "layer")["w"].int().tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]


def test_with_swaps_the_mask_is_of_the_ordered_weight() -> None:
    weight = torch.rand(4, 16, generator=torch.Generator().manual_seed(3))
    stays, order = NM(swaps=20).stays({"w": weight}, 0.5, "layer")["w"], better_order(weight, 2, 4, 20)
    assert (groups(stays[:, order].int(), 4).sum(-1) == 2).all()
    assert float((weight * stays).sum()) > float((weight * NM().stays({"w": weight}, 0.5, "layer")["w"]).sum())


def test_more_than_it_can_take_is_refused() -> None:
    with pytest.raises(BadInput, match="2:4 takes"):
        NM().stays({"w": torch.rand(4, 8)}, 0.6, "layer")
    with pytest.raises(BadInput, match="n from 1"):
        NM(4, 4)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.sampled_from([(2, 4), (1, 4), (2, 3), (4, 8)]), st.integers(0, 999))
def test_packing_loses_nothing_and_positions_ascend(rows: int, count: int, nm: tuple[int, int], seed: int) -> None:
    """A-S4-19: values and the positions of ⌈log2 M⌉ bits each; also where fewer than N are left, and for kernels."""
    n, m = nm
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, count * m, 3, generator=draw)
    weight *= NM(n, m).stays({"w": weight.abs()}, 1 - n / m, "layer")["w"]
    weight *= torch.rand(weight.shape, generator=draw) < 0.8
    values, positions = packed(weight, n, m)
    assert torch.equal(unpacked(values, positions, m, (3,)), weight)
    assert values.shape == positions.shape == (rows * 3, count, n)
    assert ((positions >= 0) & (positions < m)).all() and (positions.diff(dim=-1) > 0).all()


def test_the_product_of_packed_weights_is_that_of_the_masked_ones() -> None:
    """Two values of four, and the two inputs that their positions name: half of the multiplications."""
    draw = torch.Generator().manual_seed(0)
    weight, x = torch.randn(6, 16, generator=draw).double(), torch.randn(5, 16, generator=draw).double()
    masked = weight * NM().stays({"w": weight.abs()}, 0.5, "layer")["w"]
    values, positions = packed(masked, 2, 4)
    at = positions + 4 * torch.arange(4)[None, :, None]
    assert values.numel() == weight.numel() // 2
    torch.testing.assert_close((x[:, at] * values).sum((2, 3)), x @ masked.T)
    row = torch.tensor([[0.0, 5.0, 0.0, 7.0, 3.0, 0.0, 0.0, 0.0]])
    assert packed(row, 2, 4)[1].tolist() == [[[1, 3], [0, 1]]]


def test_what_is_no_n_m_weight_is_not_packed() -> None:
    with pytest.raises(BadInput, match="3 other than zero"):
        packed(torch.tensor([[1.0, 2.0, 3.0, 0.0]]), 2, 4)
    with pytest.raises(BadInput, match="no multiple"):
        packed(torch.ones(1, 6), 2, 4)
