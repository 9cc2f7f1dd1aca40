"""Kernel rows are drawn together during training, so that few of them can stand for all afterwards."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.graph.clusters import row_vectors
from paredown.graph.net import Net
from paredown.graph.slots import Free


def regulariser(vectors: Tensor, basis: Tensor) -> Tensor:
    """Return Tr(WᵀW) − Tr(FᵀWᵀWF), which is 0 or more (Wu et al. 2018, eq. 4).

    vectors: Wᵀ, [N, s]. basis: F, [N, k] with FᵀF = 1. With the top k right singular vectors of W as F it is the sum of
    W's squared singular values beyond the k-th (Eckart & Young), the least that k-means of the vectors can reach.
    """
    return vectors.square().sum() - (basis.T @ vectors).square().sum()


def top(vectors: Tensor, clusters: int) -> Tensor:
    """Return F: the first k right singular vectors of W = vectorsᵀ, [N, min(k, s, N)]."""
    return torch.linalg.svd(vectors.detach(), full_matrices=False).U[:, :clusters].contiguous()


@part("habit.spectral", Card(title="Deep k-Means' regularization", paper="arxiv:1806.09228", year=2018,
                             authors="Wu, Wang, Wu, Wang, Veeraraghavan, Lin",
                             source="Deep k-Means: Re-Training and Parameter Sharing with Harder Cluster Assignments, eq. 4"))  # fmt: skip
@dataclass(frozen=True)
class Spectral:
    """Add (λ/2) [Tr(WᵀW) − Tr(FᵀWᵀWF)] over the convolutions and linear layers to the loss: k-means, spectrally relaxed.

    W has the vectors of a weight as columns: its kernel rows, or `length` numbers at a time (0: kernel rows, and 8 numbers of
    what has no kernels); layers that are not cut evenly are left out. clusters: k; strength: λ. refresh: optimiser
    steps between two computations of F, the top k right singular vectors of W. Follow it with `share.deep_kmeans` of the
    same length and clusters.

    W has only as many singular values as its vectors have entries, so where k is no less than `length` the fresh term is
    0, and between refreshes it only holds W near the row space that it had. The paper's kernel rows have 3 entries; use
    a length above `clusters` to draw vectors together.

    Differs from the paper: F is computed anew every `refresh` steps instead of every few epochs.
    """

    clusters: int = knob(4, low=1, high=4096, log=True)
    strength: float = knob(1e-3, low=1e-7, high=10.0, log=True)
    length: int = knob(0, low=0, high=65_536, search=False)
    refresh: int = knob(20, low=1, high=100_000, log=True, search=False)

    def start(self, net: Net) -> dict:
        """Return F of each layer, and the number of steps."""
        return {"steps": 0, "bases": self._bases(net)}

    def penalty(self, net: Net, state: dict) -> Tensor:
        """Return λ/2 times the regularisers' sum; zero for a network without such layers."""
        found = self._vectors(net)
        terms = [regulariser(found[name], basis) for name, basis in state["bases"].items()]
        return self.strength / 2 * torch.stack(terms).sum() if terms else torch.zeros(())

    def step(self, net: Net, state: dict, t: float) -> dict:
        """Return the state, every `refresh` steps with F of the weights as they are."""
        steps = state["steps"] + 1
        return {"steps": steps, "bases": self._bases(net) if steps % self.refresh == 0 else state["bases"]}

    def _vectors(self, net: Net) -> dict[str, Tensor]:
        weights = {name: net.slot(name).value for name, _ in net.weighted() if isinstance(net.slot(name), Free)}
        cut = {name: row_vectors(weight, self.length) for name, weight in weights.items()}
        return {name: vectors for name, vectors in cut.items() if vectors is not None}

    def _bases(self, net: Net) -> dict[str, Tensor]:
        return {name: top(vectors, self.clusters) for name, vectors in self._vectors(net).items()}
