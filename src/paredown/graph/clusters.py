"""k-means on vectors, and weights cut into vectors that share a table."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from paredown.graph.vectors import VectorCodebook

ROUNDS = 100
CELLS = 2**22
"""Distances that are held at a time."""


def nearest(vectors: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Return (index of the nearest centroid, squared distance to it) of each of [n, d] vectors; the first of equals."""
    codes, apart = [], []
    for some in vectors.split(max(1, CELLS // len(centroids))):
        distance, code = torch.addmm(centroids.square().sum(1), some, centroids.T, alpha=-2).min(1)
        codes.append(code)
        apart.append((distance + some.square().sum(1)).clamp_min(0))
    return torch.cat(codes), torch.cat(apart)


def first_vectors(vectors: Tensor, clusters: int, draw: torch.Generator) -> Tensor:
    """Return up to `clusters` different vectors to start from: k-means++ (Arthur & Vassilvitskii 2007, section 2.2).

    Each next one is drawn with a chance in proportion to its squared distance to those that are chosen.
    """
    at = int(torch.randint(len(vectors), (1,), generator=draw))
    chosen = [vectors[at]]
    apart = (vectors - chosen[0]).square().sum(1)
    while len(chosen) < clusters and float(apart.max()) > 0:
        ends = apart.cumsum(0)
        place = torch.rand(1, generator=draw, dtype=torch.float64).to(ends) * ends[-1]
        at = min(int(torch.searchsorted(ends, place, right=True)), len(vectors) - 1)
        at = at if float(apart[at]) > 0 else int(apart.argmax())
        chosen.append(vectors[at])
        apart = torch.minimum(apart, (vectors - chosen[-1]).square().sum(1))
    return torch.stack(chosen)


def means(vectors: Tensor, codes: Tensor, centroids: Tensor) -> Tensor:
    """Return the mean of each centroid's vectors; a centroid without any stays where it is."""
    counts = torch.bincount(codes, minlength=len(centroids))
    sums = torch.zeros_like(centroids).index_add_(0, codes, vectors)
    return torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centroids)


def lloyd(vectors: Tensor, centroids: Tensor, rounds: int = ROUNDS) -> tuple[Tensor, Tensor]:
    """Return (codes, centroids) where Lloyd's k-means ends that starts from `centroids`; squared errors never rise.

    A centroid that has lost all its vectors is put where the vector lies that is furthest from its own.
    """
    codes, apart = nearest(vectors, centroids)
    for _ in range(rounds):
        centroids = means(vectors, codes, centroids)
        empty = (torch.bincount(codes, minlength=len(centroids)) == 0).nonzero().flatten()
        if len(empty):
            far = apart.topk(min(len(empty), len(apart)))
            centroids[empty[: len(far.indices)]] = vectors[far.indices]
        before = codes
        codes, apart = nearest(vectors, centroids)
        if torch.equal(before, codes):
            break
    return codes, centroids


def clustered(vectors: Tensor, clusters: int, seed: int = 0, rounds: int = ROUNDS) -> tuple[Tensor, Tensor]:
    """Return (codes, at most `clusters` centroids) of [n, d] vectors: k-means from a k-means++ start, in float64.

    Vectors that take no more than `clusters` different values are met exactly.
    """
    flat = vectors.detach().double()
    start = first_vectors(flat, clusters, torch.Generator().manual_seed(seed))
    codes, centroids = lloyd(flat, start, rounds)
    return codes, centroids.to(vectors.dtype)


def obstacle(shape: Sequence[int], length: int, clusters: int, books: int = 1) -> str:
    """Return why a weight of this shape is not to be cut into vectors of `length` that share `clusters`; "" if it is.

    books: how many tables there are; vector j of a row has the table j % books.
    """
    size, row = math.prod(shape), math.prod(shape[1:])
    if row % length or row // length % books:
        return f"its rows of {row} weights are not cut evenly into vectors of {length}"
    held = size // length * max(1, (clusters - 1).bit_length()) + 32 * books * clusters * length
    if held >= 32 * size:
        return f"codes and tables would take {held:,} bits, its {size:,} weights take {32 * size:,}"
    return ""


def cut(weight: Tensor, length: int, books: int = 1) -> Tensor:
    """Return the vectors of a weight that share each book, [books, vectors, length]."""
    return weight.reshape(-1, books, length).transpose(0, 1)


def row_length(weight: Tensor, length: int) -> int:
    """Return how many numbers make a vector of a weight: `length`, or if 0 a kernel's row, and 8 where there are no kernels."""
    kernel = weight.shape[-1] if weight.dim() > 2 else 1
    return length or (kernel if kernel > 1 else 8)


def row_vectors(weight: Tensor, length: int) -> Tensor | None:
    """Return the vectors of a weight, [vectors, row_length], or None if its rows are not cut evenly into them."""
    size = row_length(weight, length)
    return None if math.prod(weight.shape[1:]) % size else weight.reshape(-1, size)


def shared_vectors(weight: Tensor, length: int, clusters: int, books: int = 1, seed: int = 0) -> VectorCodebook:
    """Return the weight with vectors of `length` replaced by the centroids of k-means, one run for each book."""
    found = [clustered(part, clusters, seed + at) for at, part in enumerate(cut(weight.detach(), length, books))]
    table = torch.stack([torch.nn.functional.pad(c, (0, 0, 0, clusters - len(c))) for _, c in found])
    most = max(len(c) for _, c in found)
    codes = torch.stack([codes for codes, _ in found], 1)
    return VectorCodebook(codes, table[:, :most], weight.shape).to(weight.device)
