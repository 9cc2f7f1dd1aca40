"""Weights that share a few values, found by k-means."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.net import Net
from paredown.graph.slots import Codebook, Free, Masked

ROUNDS = 300


def rate(count: int, clusters: int, bits: int = 32) -> float:
    """Return the compression rate n·b / (n·log2 k + k·b) of `count` weights of `bits` bits (Han et al. 2016, eq. 1)."""
    return count * bits / (count * math.log2(clusters) + clusters * bits)


def first_centroids(values: Tensor, clusters: int, init: str, seed: int) -> Tensor:
    """Return `clusters` starting values, sorted (Han et al. 2016, section 3.2).

    "linear": evenly spaced from the smallest to the largest. "density": evenly spaced in rank. "random": values drawn
    without replacement (Forgy).
    """
    if init == "linear":
        return torch.linspace(float(values.min()), float(values.max()), clusters, dtype=values.dtype)
    if init == "density":
        return values.quantile((torch.arange(clusters, dtype=values.dtype) + 0.5) / clusters)
    draw = torch.Generator().manual_seed(seed)
    return values[torch.randperm(len(values), generator=draw)[:clusters]].sort().values


def cluster(weight: Tensor, clusters: int, init: str = "linear", seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return (codes, centroids) such that centroids[codes] is near `weight` in squared error: Lloyd's k-means.

    codes: integers of the weight's shape. centroids: at most `clusters` distinct sorted values, in the weight's type;
    where the weight has no more distinct values than that, it is met exactly. Values that no weight takes are dropped.
    """
    flat = weight.detach().double().cpu().flatten()
    distinct = flat.unique()
    if len(distinct) <= clusters:
        return torch.searchsorted(distinct, flat).view(weight.shape), distinct.to(weight.dtype)
    centroids = first_centroids(distinct if init == "random" else flat, clusters, init, seed)
    codes = torch.bucketize(flat, _borders(centroids))
    for _ in range(ROUNDS):
        counts = torch.bincount(codes, minlength=clusters)
        sums = torch.bincount(codes, weights=flat, minlength=clusters)
        centroids = torch.where(counts > 0, sums / counts.clamp_min(1), centroids).sort().values
        before, codes = codes, torch.bucketize(flat, _borders(centroids))
        if torch.equal(before, codes):
            break
    used, codes = codes.unique(return_inverse=True)
    return codes.view(weight.shape), centroids[used].to(weight.dtype)


def _borders(centroids: Tensor) -> Tensor:
    return (centroids[1:] + centroids[:-1]) / 2


def cluster_nonzero(weight: Tensor, clusters: int, init: str = "linear", seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return (codes, centroids) as `cluster` does, with zeros exactly zero: one of the `clusters` values is 0."""
    zero = weight == 0
    codes = torch.zeros(weight.shape, dtype=torch.long)
    centroids = torch.zeros(1, dtype=weight.dtype)
    if not zero.all():
        found, values = cluster(weight[~zero], max(1, clusters - 1), init, seed)
        codes[~zero.cpu()] = found + 1
        centroids = torch.cat([centroids, values])
    return codes, centroids


@part("share.kmeans", Card(title="Deep Compression's trained quantization", paper="arxiv:1510.00149", year=2016,
                           authors="Han, Mao, Dally", source="Deep Compression, section 3",
                           changes=frozenset({"bits", "bytes"}), forbids=frozenset({"quantized", "shared"}),
                           gives=frozenset({"shared"})))  # fmt: skip
@dataclass(frozen=True)
class Kmeans:
    """Make the weights of each convolution and linear layer share `clusters` values; biases and norms stay as they are.

    clusters: 2 to 256; a code takes ⌈log2 clusters⌉ bits. init: where the values start. Zeros of a pruned weight stay
    exactly zero and take one of the values; add `habit.centroids` to a later fine-tuning to keep it at zero.

    Fine-tuning sums each value's gradient over the weights that share it (section 3.3), because the values are the
    trained parameter. Deterministic: "random" uses the run's seed.
    """

    clusters: int = knob(16, low=2, high=256, log=True)
    init: str = knob("linear", among=("linear", "density", "random"))

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` whose weights are codebooks; weights that cannot be shared are noted."""
        out = net.copy()
        for name, _ in net.weighted():
            slot = out.slot(name)
            if not isinstance(slot, Free | Masked):
                work.skip(name, f"it is held as {type(slot).__name__}, not as plain or masked values")
                continue
            divide = cluster_nonzero if isinstance(slot, Masked) else cluster
            codes, centroids = divide(slot().detach(), self.clusters, self.init, work.seed)
            out.set_slot(name, Codebook(codes.to(slot.value.device), centroids.to(slot.value.device)))
        return out
