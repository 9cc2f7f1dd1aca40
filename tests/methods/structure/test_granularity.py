"""Elements, vectors, kernels and filters."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contracts.structure import StructureContract
from paredown.core.errors import BadInput
from paredown.methods.structure.granularity import UNITS, Granularity, spanned


class TestElement(StructureContract):
    def part(self) -> Granularity:
        return Granularity()

    def slack(self, name: str) -> int:
        return 0


class TestVector(TestElement):
    def part(self) -> Granularity:
        return Granularity("vector", 2.0)

    def slack(self, name: str) -> int:
        return 2 if name == "conv" else 0


class TestFilter(TestElement):
    def part(self) -> Granularity:
        return Granularity("filter")

    def slack(self, name: str) -> int:
        return {"conv": 72, "point": 8, "linear": 16}[name] - 1


def kept(weight: Tensor, sparsity: float, unit: str, power: float = 1.0) -> Tensor:
    """Return the weight with what goes at zero."""
    return weight * Granularity(unit, power).stays({"w": weight.abs()}, sparsity, "layer")["w"]


def test_the_lecture_example() -> None:
    """A-S4-03: [[3, −2], [1, −5]] at one half."""
    weight = torch.tensor([[3.0, -2.0], [1.0, -5.0]])
    assert kept(weight, 0.5, "element").tolist() == [[3, 0], [0, -5]]
    for power in (1.0, 2.0, 4.0):
        assert kept(weight, 0.5, "filter", power).tolist() == [[0, 0], [1, -5]]


def test_the_norm_decides() -> None:
    """Of [3, 3] and [0, 5] the first has the larger sum, the second the larger root of squares."""
    weight = torch.tensor([[3.0, 3.0], [0.0, 5.0]])
    assert kept(weight, 0.5, "filter", 1.0).tolist() == [[3, 3], [0, 0]]
    assert kept(weight, 0.5, "filter", 2.0).tolist() == [[0, 0], [0, 5]]


def test_coarser_keeps_less_energy() -> None:
    """A-S4-02: normal weights of 64×32×3×3 at one half keep .9296, .7984, .6870, .5351 of their energy."""
    weight = torch.from_numpy(np.random.RandomState(0).randn(64, 32, 3, 3))
    energy = [float(kept(weight, 0.5, unit, 2.0).square().sum() / weight.square().sum()) for unit in UNITS]
    assert energy == pytest.approx([0.9296, 0.7984, 0.6870, 0.5351], abs=0.01)
    assert energy == sorted(energy, reverse=True)


@pytest.mark.parametrize(("unit", "dims"), [("vector", (3,)), ("kernel", (2, 3)), ("filter", (1, 2, 3))])
def test_what_goes_goes_whole(unit: str, dims: tuple[int, ...]) -> None:
    weight = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    zero = kept(weight, 0.5, unit) == 0
    assert spanned(4, unit) == dims
    assert torch.equal(zero.all(dims), zero.any(dims)) and zero.float().mean() == 0.5


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 0.999), st.integers(0, 99))
def test_element_count_is_exact_and_what_goes_is_smallest(rows: int, columns: int, sparsity: float, seed: int) -> None:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    left = kept(weight, sparsity, "element")
    assert int((left == 0).sum()) == int(sparsity * rows * columns + 1e-9)
    if 0 < int((left == 0).sum()) < weight.numel():
        assert weight[left == 0].abs().max() <= weight[left != 0].abs().min()


def test_bad_settings_are_refused() -> None:
    for bad in (lambda: Granularity("row"), lambda: Granularity(power=0.0)):
        with pytest.raises(BadInput):
            bad()
