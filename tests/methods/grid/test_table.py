"""A fixed table of values as a grid."""

import pytest
import torch

from contracts.grid import GridContract
from paredown.core.errors import BadInput
from paredown.methods.grid.integer import Integer
from paredown.methods.grid.table import Table, nearest, normal_float


class TestNormalFloat(GridContract):
    def part(self) -> Table:
        return Table()


class TestTable(GridContract):
    def part(self) -> Table:
        return Table((-1.0, 0.0, 0.5))


NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
"""Dettmers et al. 2023, appendix E."""


def test_the_table_is_the_papers() -> None:
    assert normal_float(4) == pytest.approx(NF4, abs=1e-6)
    for bits in (2, 3, 8):
        found = normal_float(bits)
        assert len(found) == 2**bits and found[0] == -1 and found[-1] == 1 and 0.0 in found


def test_every_value_comes_back_and_ties_go_to_the_even_index() -> None:
    table = torch.tensor(NF4, dtype=torch.float64)
    assert nearest(table, table).tolist() == list(range(16))
    whole = torch.arange(5.0)
    assert nearest(torch.tensor([-3.0, 0.5, 1.5, 2.5, 3.5, 9.0]), whole).tolist() == [0, 0, 2, 2, 4, 4]


def test_it_beats_integers_on_normal_weights() -> None:
    for seed in range(3):
        weight = torch.randn((64, 64), generator=torch.Generator().manual_seed(seed))
        errors = [float((grid.fit(weight)() - weight).square().mean()) for grid in (Table(), Integer(4, "tensor"))]
        assert errors[0] < 0.9 * errors[1]


@pytest.mark.parametrize("wrong", [(1.0,), (0.0, 0.0), (1.0, 0.0), tuple(range(257))])
def test_tables_out_of_order_are_refused(wrong: tuple) -> None:
    with pytest.raises(BadInput, match="increasing"):
        Table(wrong)
