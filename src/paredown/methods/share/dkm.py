"""Shared values that are found while the network trains, by a k-means that gradients flow through."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.kinds import Loss
from paredown.core.knob import knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.clusters import clustered, nearest, obstacle
from paredown.graph.latent import Latent, hold_, learnable
from paredown.graph.net import Net
from paredown.graph.slots import Codebook
from paredown.graph.vectors import VectorCodebook
from paredown.methods.loss.cross_entropy import CrossEntropy

CLOSE = 1e-4
"""Centroids that move less than this share of the weights' standard deviation have converged."""


def attention(vectors: Tensor, centroids: Tensor, temperature: float | Tensor) -> Tensor:
    """Return softmax(−d / τ) over the centroids, [vectors, centroids], with d the squared distances (Cho et al., eq. 1-2)."""
    apart = (
        centroids.square().sum(1) - 2 * vectors @ centroids.T
    )  # a vector's own square is in every term of its softmax
    return (-apart / temperature).softmax(1)


def moved(vectors: Tensor, share: Tensor, centroids: Tensor) -> Tensor:
    """Return each centroid's mean of the vectors, weighed by attention (eq. 3); one that no vector sees stays."""
    total = share.sum(0)[:, None]
    return torch.where(total > 1e-8, share.T @ vectors / total.clamp_min(1e-8), centroids)


def soft_kmeans(vectors: Tensor, centroids: Tensor, temperature: float | Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """Return (attention, centroids) after k-means by attention until it converges, `rounds` at most; differentiable."""
    close = CLOSE * float(vectors.detach().std(correction=0))
    for _ in range(rounds):
        before, centroids = centroids, moved(vectors, attention(vectors, centroids, temperature), centroids)
        if float((centroids - before).detach().abs().max()) <= close:
            break
    return attention(vectors, centroids, temperature), centroids


class Dkm(Latent):
    """A tensor that is, while training, what differentiable k-means makes of it, and in eval mode the nearest centroids.

    length: numbers in a vector. temperature: τ as a share of the weights' variance times `length`. centroids: where the next
    call's k-means begins, the last training call's end.
    """

    form: ClassVar[str] = "shared"
    centroids: Tensor

    def __init__(self, value: Tensor, clusters: int, length: int, temperature: float, rounds: int, seed: int) -> None:
        super().__init__(value)
        self.length, self.temperature, self.rounds = length, temperature, rounds
        centroids = clustered(value.detach().reshape(-1, length), clusters, seed)[1]
        self.bits = max(1, (len(centroids) - 1).bit_length())
        self.register_buffer("centroids", centroids)

    def tau(self) -> Tensor:
        """Return τ in units of a squared distance between vectors."""
        return self.temperature * self.length * self.value.detach().var(correction=0).clamp_min(1e-20)

    def forward(self) -> Tensor:
        if not self.training:
            held: Tensor = self.held()()
            return held
        share, centroids = soft_kmeans(
            self.value.reshape(-1, self.length), self.centroids.clone(), self.tau(), self.rounds
        )
        self.centroids.copy_(centroids.detach())
        return (share @ centroids).view_as(self.value)

    @torch.no_grad()
    def held(self) -> Codebook | VectorCodebook:
        """Return the tables that k-means ends with, and for each vector its nearest centroid."""
        vectors = self.value.reshape(-1, self.length)
        centroids = soft_kmeans(vectors, self.centroids, self.tau(), self.rounds)[1]
        codes = nearest(vectors.double(), centroids.double())[0]
        if self.length == 1:
            return Codebook(codes.view(self.value.shape), centroids.flatten())
        return VectorCodebook(codes, centroids[None], self.value.shape)


@part("share.dkm", Card(title="DKM", paper="arxiv:2108.12659", year=2022, authors="Cho, Alizadeh Vahid, Adya, Rastegari",
                        source="DKM: Differentiable K-Means Clustering Layer for Neural Network Compression, section 3",
                        changes={"bits", "bytes"}, needs={"fit"}, forbids={"quantized", "shared", "masked"},
                        gives={"shared"}))  # fmt: skip
@dataclass(frozen=True)
class DkmSharing:
    """Train with each weight replaced by what differentiable k-means makes of it; then hold codes and centroids.

    bits: width of a code, 1 to 8: 2^bits centroids a layer. dims: weights in a vector, so that a weight takes bits / dims.
    temperature: τ of the attention softmax(−d / τ), as a share of the weights' variance; small is near to hard k-means.
    rounds: of k-means in each step, at most; it begins where the last step's ended and stops when it has converged.
    Layers whose rows are not cut evenly into `dims`, or whose table would outweigh them, stay as they are.

    Differs from the paper: d is the squared distance and τ is relative to the variance, so that one τ serves all layers;
    the first centroids are those of k-means on the weights; the first and the last layer are shared like the others.
    """

    bits: int = knob(2, among=range(1, 9))
    dims: int = knob(1, among=(1, 2, 4, 8, 16))
    temperature: float = knob(0.02, low=1e-6, high=10.0, log=True)
    rounds: int = knob(5, low=1, high=1000, log=True, search=False)
    loss: Loss = CrossEntropy()
    habits: tuple = ()
    plan: Plan = Plan()

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` whose weights are codes and tables; weights that are left alone are noted."""
        learning = net.copy()
        for name in list(learnable(learning, work.skip)):
            value, clusters = learning.slot(name)().detach(), 2**self.bits
            if why := obstacle(value.shape, self.dims, clusters):
                work.skip(str(name), why)
            else:
                made = Dkm(value, clusters, self.dims, self.temperature, self.rounds, work.seed)
                learning.set_slot(name, made.to(value.device))
        work.use("fit")(learning, loss=self.loss, habits=self.habits, plan=self.plan)
        return hold_(learning)


def bits_per_weight(bits: int, dims: int, size: int) -> float:
    """Return what a weight of `size` entries takes for each, the table of 32-bit numbers included."""
    return (math.ceil(size / dims) * bits + 32 * dims * 2**bits) / size
