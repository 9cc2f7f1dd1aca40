"""The smallest weights are held at zero, by element, vector, kernel or filter."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contracts.nets import small_conv, small_mlp
from contracts.step import StepContract, nonzero
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.graph.net import Net
from paredown.graph.slots import Grid, Masked
from paredown.methods.prune.magnitude import GRANULARITIES, Magnitude, norms, smallest


class TestMagnitude(StepContract):
    def part(self) -> Magnitude:
        return Magnitude(0.6)

    def settings(self) -> list[Magnitude]:
        return [Magnitude(0.9, "global"), Magnitude(0.5, granularity="filter", norm="l2")]


class TestMagnitudeByKernelGlobally(StepContract):
    def part(self) -> Magnitude:
        return Magnitude(0.5, scope="global", granularity="kernel")


def kept(weight: Tensor, sparsity: float, granularity: str, norm: str = "l1") -> Tensor:
    """Return the weight with what goes at zero."""
    sizes = norms(weight, granularity, norm)
    return weight * smallest({"w": sizes}, {"w": weight.numel() // sizes.numel()}, sparsity)["w"]


def test_the_lecture_example() -> None:
    """A-S4-03: [[3, −2], [1, −5]] at one half."""
    weight = torch.tensor([[3.0, -2.0], [1.0, -5.0]])
    assert kept(weight, 0.5, "element").tolist() == [[3, 0], [0, -5]]
    assert norms(weight, "filter", "l1").flatten().tolist() == [5, 6]
    assert norms(weight, "filter", "l2").flatten().tolist() == pytest.approx([3.606, 5.099], abs=1e-3)
    for norm in ("l1", "l2"):
        assert kept(weight, 0.5, "filter", norm).tolist() == [[0, 0], [1, -5]]


def test_coarser_keeps_less_energy() -> None:
    """A-S4-02: normal weights of 64×32×3×3 at one half keep .9296, .7984, .6870, .5351 of their energy."""
    weight = torch.from_numpy(np.random.RandomState(0).randn(64, 32, 3, 3))
    energy = [float(kept(weight, 0.5, g, "l2").square().sum() / weight.square().sum()) for g in GRANULARITIES]
    assert energy == pytest.approx([0.9296, 0.7984, 0.6870, 0.5351], abs=0.01)
    assert energy == sorted(energy, reverse=True)


@pytest.mark.parametrize(("granularity", "dims"), [("vector", (3,)), ("kernel", (2, 3)), ("filter", (1, 2, 3))])
def test_what_goes_goes_whole(granularity: str, dims: tuple[int, ...]) -> None:
    weight = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    zero = kept(weight, 0.5, granularity) == 0
    assert torch.equal(zero.all(dims), zero.any(dims)) and zero.float().mean() == 0.5


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 0.999), st.integers(0, 99))
def test_element_count_is_exact_and_what_goes_is_smallest(rows: int, columns: int, sparsity: float, seed: int) -> None:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    left = kept(weight, sparsity, "element")
    assert int((left == 0).sum()) == int(sparsity * rows * columns + 1e-9)
    if 0 < int((left == 0).sum()) < weight.numel():
        assert weight[left == 0].abs().max() <= weight[left != 0].abs().min()


def zeros(net: Net) -> list[float]:
    return [float((net.slot(name)() == 0).float().mean()) for name, _ in net.weighted()]


def test_layer_and_global_scope() -> None:
    net = small_mlp()
    with torch.no_grad():
        net.slot("0.weight").value.mul_(0.01)
    each = Magnitude(0.5).apply(net, Work())
    assert zeros(each) == pytest.approx([0.5] * 3)
    everywhere = Magnitude(0.5, "global").apply(net, Work())
    share = zeros(everywhere)
    assert share[0] > 0.6 and max(share[1:]) < 0.05
    total = sum(net.slot(n)().numel() for n, _ in net.weighted())
    assert sum(int((everywhere.slot(n)() == 0).sum()) for n, _ in net.weighted()) == total // 2


def test_biases_and_norms_stay_and_masks_grow() -> None:
    net = small_conv()
    once = Magnitude(0.5).apply(net, Work())
    twice = Magnitude(0.8, granularity="kernel").apply(once, Work())
    for name in net.slot_names():
        assert (type(twice.slot(name)) is Masked) == (name in dict(net.weighted()))
    for name, _ in net.weighted():
        assert not (twice.slot(name).mask & ~once.slot(name).mask).any()
    assert nonzero(twice) < nonzero(once)


def test_training_keeps_zeros() -> None:
    net = Magnitude(0.5).apply(small_mlp(), Work()).train()
    zero = net.slot("0.weight")() == 0
    net(torch.rand(8, 64)).square().mean().backward()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter -= 0.1 * parameter.grad
    assert (net.slot("0.weight")()[zero] == 0).all()


def test_codes_are_left_alone_and_noted() -> None:
    net = small_mlp()
    net.set_slot("2.weight", Grid(torch.ones(16, 32), torch.tensor(0.1), 4))
    work = Work().scoped("prune.magnitude", ())
    assert isinstance(Magnitude(0.5).apply(net, work).slot("2.weight"), Grid)
    assert [note.layer for note in work.notes] == ["2.weight"]


def test_bad_settings_are_refused() -> None:
    for bad in (lambda: Magnitude(1.0), lambda: Magnitude(granularity="row"), lambda: Magnitude(norm="l3")):
        with pytest.raises(BadInput):
            bad()
