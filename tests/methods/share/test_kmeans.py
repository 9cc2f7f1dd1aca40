"""Weights share a few values."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contracts.nets import small_mlp
from contracts.step import StepContract
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.graph.slots import Codebook, Grid, Masked
from paredown.methods.share.kmeans import Kmeans, cluster, cluster_nonzero, first_centroids, rate

LECTURE = torch.tensor(
    [[2.09, -0.98, 1.48, 0.09], [0.05, -0.14, -1.08, 2.12], [-0.91, 1.92, 0.0, -1.03], [1.87, 0.0, 1.53, 1.49]]
)
"""Han et al. 2016, figure 3."""


class TestKmeans(StepContract):
    def part(self) -> Kmeans:
        return Kmeans(8)

    def settings(self) -> list[Kmeans]:
        return [Kmeans(256, "density"), Kmeans(2, "random")]


class TestKmeansFromRandomValues(StepContract):
    def part(self) -> Kmeans:
        return Kmeans(4, "random")


def error(weight: Tensor, codes: Tensor, centroids: Tensor) -> float:
    return float((centroids[codes] - weight).double().square().sum())


def test_the_papers_figure() -> None:
    codes, centroids = cluster(LECTURE, 4)
    assert centroids.tolist() == pytest.approx([-1.0, 0.0, 1.5, 2.0], abs=0.005)
    assert codes.tolist() == [[3, 0, 2, 1], [1, 1, 0, 3], [0, 3, 1, 0], [3, 1, 2, 2]]


def test_the_rate() -> None:
    """A-S4-25: 16 weights of 32 bits in 4 values take 20 bytes instead of 64."""
    assert rate(16, 4, 32) == pytest.approx(3.2)
    book = Codebook(*cluster(LECTURE, 4))
    assert 16 * 32 / (book.codes.numel() * book.bits + 32 * book.centroids.numel()) == pytest.approx(3.2)


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 120), st.integers(2, 16), st.sampled_from(["linear", "density", "random"]), st.integers(0, 999))
def test_it_ends_in_a_fixed_point(count: int, clusters: int, init: str, seed: int) -> None:
    weight = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    codes, centroids = cluster(weight, clusters, init, seed)
    assert len(centroids) <= clusters and (centroids.diff() > 0).all()
    assert set(codes.tolist()) == set(range(len(centroids)))
    nearest = (weight[:, None] - centroids).abs()
    assert torch.allclose(nearest.min(1).values, nearest.gather(1, codes[:, None])[:, 0], atol=1e-6)
    for at, value in enumerate(centroids.tolist()):
        assert value == pytest.approx(float(weight[codes == at].double().mean()), abs=1e-6)
    start = first_centroids(weight.double(), min(clusters, count), init, seed)
    if init != "random":
        assert error(weight, codes, centroids) <= error(weight, (weight[:, None] - start).abs().argmin(1), start) + 1e-9


def test_few_distinct_values_are_met_exactly() -> None:
    weight = torch.tensor([[0.5, -1.0], [0.5, 3.0]])
    codes, centroids = cluster(weight, 8)
    assert torch.equal(centroids[codes], weight) and len(centroids) == 3


def test_two_clusters_are_the_best_there_are() -> None:
    """Brute force over the cut of the sorted values, from the best of three starts."""
    for seed in range(10):
        weight = torch.randn(30, generator=torch.Generator().manual_seed(seed)).double()
        ordered = weight.sort().values
        best = min(
            sum(float((p - p.mean()).square().sum()) for p in (ordered[:cut], ordered[cut:])) for cut in range(1, 30)
        )
        found = min(error(weight, *cluster(weight, 2, init)) for init in ("linear", "density", "random"))
        assert found == pytest.approx(best, rel=0.25) and found >= best - 1e-9


def test_linear_starts_keep_large_values() -> None:
    """Han et al., section 3.2: large weights matter, are few, and the linear start serves them."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.cat([torch.randn(5000, generator=draw) * 0.05, torch.tensor([1.0, -0.9])])
    start = {init: float(first_centroids(weight.double(), 16, init, 0).abs().max()) for init in ("linear", "density")}
    assert start["linear"] == 1.0 and start["density"] < 0.15
    largest = {init: float(cluster(weight, 16, init)[1].abs().max()) for init in ("linear", "density")}
    assert largest["linear"] >= largest["density"]
    one = {init: cluster(weight[:-2].clamp(-0.4, 0.15), 4, init)[1].abs().max() for init in ("linear", "density")}
    assert one["linear"] >= one["density"]


def test_zeros_stay_zero() -> None:
    weight = torch.randn(20, 20, generator=torch.Generator().manual_seed(1))
    weight[weight.abs() < 0.7] = 0
    codes, centroids = cluster_nonzero(weight, 8)
    assert torch.equal(centroids[codes] == 0, weight == 0) and len(centroids) == 8
    empty, zero = cluster_nonzero(torch.zeros(3), 4)
    assert empty.tolist() == [0, 0, 0] and zero.tolist() == [0]


def test_masked_weights_become_codebooks_with_a_zero_and_others_stay() -> None:
    net = small_mlp()
    weight = net.slot("0.weight")()
    net.set_slot("0.weight", Masked(weight, weight.abs() > 0.05))
    net.set_slot("2.weight", Grid(torch.ones(16, 32), torch.tensor(0.1), 4))
    work = Work().scoped("share.kmeans", ())
    out = Kmeans(16).apply(net, work)
    assert torch.equal(out.slot("0.weight")() == 0, net.slot("0.weight")() == 0)
    assert out.slot("0.weight").bits == 4 and [note.layer for note in work.notes] == ["2.weight"]


def test_the_gradient_of_a_value_is_the_sum_over_its_weights() -> None:
    """Han et al., equation 3."""
    codes, centroids = cluster(LECTURE, 4)
    book, draw = Codebook(codes, centroids), torch.Generator().manual_seed(0)
    upstream = torch.randn(4, 4, generator=draw)
    (book() * upstream).sum().backward()
    wanted = [float(upstream[codes == k].sum()) for k in range(4)]
    assert book.centroids.grad.tolist() == pytest.approx(wanted, abs=1e-6)


def test_starts_are_what_they_are_called_and_random_is_seeded() -> None:
    values = torch.arange(100).double() ** 2
    assert first_centroids(values, 3, "linear", 0).tolist() == pytest.approx([0, 9801 / 2, 9801])
    assert first_centroids(values, 4, "density", 0).diff().diff().min() > 0
    a, b, c = (first_centroids(values, 5, "random", seed).tolist() for seed in (0, 0, 1))
    assert a == b != c and set(a) <= set(values.tolist())
    for one, other in itertools.product([Kmeans(4)], [Kmeans(4), Kmeans(4, "density")]):
        assert (one == other) == (one.init == other.init)
    with pytest.raises(BadInput):
        Kmeans(257)
