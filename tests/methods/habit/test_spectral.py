"""Vectors are drawn together by what k-means cannot reach."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contracts.digits_task import accuracy, digits, mlp
from contracts.habit import HabitContract
from contracts.nets import small_conv
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.graph.clusters import clustered
from paredown.graph.net import Net
from paredown.methods.habit.spectral import Spectral, regulariser, top
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.train.fit import fit


class TestSpectral(HabitContract):
    def part(self) -> Spectral:
        return Spectral(4, 0.1, refresh=3)


class TestOnKernels(HabitContract):
    def part(self) -> Spectral:
        return Spectral(2, 0.1, refresh=1)

    def net(self) -> Net:
        return small_conv().train()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 40), st.integers(1, 12), st.integers(1, 15), st.integers(0, 99))
def test_it_is_what_the_singular_values_beyond_k_leave(count: int, length: int, k: int, seed: int) -> None:
    """A-S0-22 (Eckart & Young); with any other orthonormal F it is more, and never below 0."""
    vectors = draw(count, length, seed=seed)
    found = regulariser(vectors, top(vectors, k))
    beyond = torch.linalg.svdvals(vectors)[k:].square().sum()
    assert torch.allclose(found, beyond, atol=1e-9) and found >= -1e-9
    other = torch.linalg.qr(draw(count, min(k, count, length), seed=seed + 1)).Q
    assert regulariser(vectors, other) >= found - 1e-9


def test_k_means_never_gets_below_it() -> None:
    vectors = draw(60, 8)
    for k in (1, 2, 4, 7):
        codes, centroids = clustered(vectors, k)
        assert regulariser(vectors, top(vectors, k)) <= (vectors - centroids[codes]).square().sum()


def test_vectors_in_k_directions_cost_nothing() -> None:
    vectors = draw(30, 3) @ draw(3, 8, seed=1)
    assert float(regulariser(vectors, top(vectors, 3))) == pytest.approx(0, abs=1e-9)


def test_its_gradient_is_the_part_outside() -> None:
    vectors = draw(12, 6).requires_grad_()
    basis = top(vectors, 2)
    regulariser(vectors, basis).backward()
    inside = basis @ (basis.T @ vectors.detach())
    assert torch.allclose(vectors.grad, 2 * (vectors.detach() - inside))


def test_bases_are_taken_anew_and_layers_that_are_not_cut_are_left_out() -> None:
    net, habit = small_conv(), Spectral(2, 1.0, refresh=2)
    state = habit.start(net)
    shapes = {name: tuple(basis.shape) for name, basis in state["bases"].items()}
    assert shapes == {"stem.weight": (24, 2), "deep.weight": (24, 2), "point.weight": (8, 2), "wide.weight": (288, 2)}
    with torch.no_grad():
        net.slot("wide.weight").value.normal_()
    one = habit.step(net, state, 0.1)
    two = habit.step(net, one, 0.2)
    assert torch.equal(one["bases"]["wide.weight"], state["bases"]["wide.weight"])
    assert not torch.equal(two["bases"]["wide.weight"], state["bases"]["wide.weight"])
    assert float(Spectral(4, length=7).penalty(net, Spectral(4, length=7).start(net))) == 0


def distortion(net: Net, length: int, k: int) -> float:
    """Return the share of the weights' square that k-means of their vectors leaves."""
    shares = []
    for name, _ in net.weighted():
        weight = net.slot(name)().detach()
        if weight.shape[1] % length == 0:
            vectors = weight.reshape(-1, length)
            codes, centroids = clustered(vectors, k)
            shares.append(float((vectors - centroids[codes]).square().sum() / vectors.square().sum()))
    return sum(shares) / len(shares)


def test_retrained_with_it_vectors_are_shared_with_less_error() -> None:
    """A-S0-22, three seeds: the same training with and without it; asserted: a tenth less of the weights' square, accuracy within 2 points."""
    for seed in range(3):
        train, test = digits(seed)
        found = []
        for habits in ((), (Spectral(4, 3e-2, length=8),)):
            net = mlp(seed)
            fit(net, train, CrossEntropy(), habits, Plan(epochs=20), seed)
            found.append((distortion(net, 8, 4), accuracy(net, test)))
        assert found[1][0] < 0.9 * found[0][0] and found[1][1] > found[0][1] - 2, (seed, found)


@pytest.mark.parametrize("wrong", [{"clusters": 0}, {"strength": -1.0}, {"refresh": 0}])
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Spectral(**wrong)
