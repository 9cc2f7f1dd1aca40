"""k-means on vectors."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paredown.graph.clusters import clustered, cut, first_vectors, lloyd, means, nearest, obstacle, shared_vectors
from paredown.graph.vectors import VectorCodebook


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def error(vectors: Tensor, codes: Tensor, centroids: Tensor) -> float:
    return float((vectors - centroids[codes]).double().square().sum())


def test_the_nearest_by_brute_force() -> None:
    vectors, centroids = draw(50, 3), draw(7, 3, seed=1)
    codes, apart = nearest(vectors, centroids)
    distances = torch.cdist(vectors, centroids)
    assert torch.equal(codes, distances.argmin(1)) and torch.allclose(apart, distances.min(1).values ** 2, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 80), st.integers(1, 5), st.integers(2, 12), st.integers(0, 999))
def test_it_ends_in_a_fixed_point(count: int, length: int, clusters: int, seed: int) -> None:
    vectors = draw(count, length, seed=seed).double()
    codes, centroids = clustered(vectors, clusters, seed)
    assert len(centroids) <= min(clusters, count) and set(codes.tolist()) == set(range(len(centroids)))
    assert torch.allclose(means(vectors, codes, centroids), centroids, atol=1e-9)
    apart = torch.cdist(vectors, centroids)
    assert torch.allclose(apart.gather(1, codes[:, None])[:, 0], apart.min(1).values, atol=1e-6)
    start = first_vectors(vectors, clusters, torch.Generator().manual_seed(seed))
    assert error(vectors, codes, centroids) <= error(vectors, nearest(vectors, start)[0], start) + 1e-9


def test_errors_never_rise_and_centroids_that_lose_everything_come_back() -> None:
    vectors = draw(300, 3).double()
    start = torch.cat([vectors[:4], vectors.new_full((3, 3), 50.0)])
    rows = [error(vectors, *lloyd(vectors, start.clone(), rounds)) for rounds in range(1, 15)]
    assert all(b <= a + 1e-9 for a, b in itertools.pairwise(rows)) and rows[-1] < rows[0]
    assert len(lloyd(vectors, start)[0].unique()) == 7


def test_few_distinct_vectors_are_met_exactly() -> None:
    vectors = draw(3, 4)[torch.arange(30) % 3]
    codes, centroids = clustered(vectors, 8)
    assert len(centroids) == 3 and torch.equal(centroids[codes], vectors)


def test_it_is_seeded() -> None:
    vectors = draw(200, 2)
    a, b, c = (clustered(vectors, 16, seed)[1] for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_books_have_the_vectors_of_their_places() -> None:
    weight = draw(4, 3, 2, 2)
    parts = cut(weight, 2, 3)
    assert parts.shape == (3, 8, 2)
    rows = weight.reshape(4, 6, 2)
    assert torch.equal(parts[1], torch.stack([rows[i, j] for i in range(4) for j in (1, 4)]))
    exact = shared_vectors(weight, 2, 8, 3)
    assert isinstance(exact, VectorCodebook) and torch.allclose(exact(), weight, atol=1e-6)
    few = shared_vectors(torch.zeros(4, 6), 2, 8, 3)
    assert few.centroids.shape == (3, 1, 2) and not few().any()


@pytest.mark.parametrize(
    ("shape", "length", "clusters", "books", "said"),
    [
        ((8, 16), 4, 4, 1, ""),
        ((8, 15), 4, 4, 1, "rows of 15 weights"),
        ((8, 16), 4, 4, 3, "rows of 16 weights"),
        ((8, 16), 4, 256, 1, "would take 33,024 bits, its 128 weights take 4,096"),
        ((8,), 1, 2, 1, ""),
    ],
)
def test_what_is_in_the_way(shape: tuple, length: int, clusters: int, books: int, said: str) -> None:
    found = obstacle(shape, length, clusters, books)
    assert said in found and bool(said) == bool(found)
