"""Kernel rows that share a few vectors."""

import math
from dataclasses import dataclass

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.clusters import obstacle, row_length, shared_vectors
from paredown.graph.latent import learnable
from paredown.graph.net import Net


def storage_bits(count: int, clusters: int, length: int) -> float:
    """Return what `count` vectors of `length` take in `clusters` centroids of 32 bits a number: 32·k·s + N·log2 k."""
    return 32 * clusters * length + count * math.log2(clusters)


@part("share.deep_kmeans", Card(title="Deep k-Means", paper="arxiv:1806.09228", year=2018,
                                authors="Wu, Wang, Wu, Wang, Veeraraghavan, Lin",
                                source="Deep k-Means: Re-Training and Parameter Sharing with Harder Cluster Assignments, section 3",
                                changes={"bits", "bytes"}, forbids={"quantized", "shared", "masked"},
                                gives={"shared"}))  # fmt: skip
@dataclass(frozen=True)
class DeepKmeans:
    """Let the kernel rows of each layer share `clusters` centroids, found by k-means; `habit.spectral` in a training before.

    A vector is one row of a kernel (3 numbers of 3×3), what a row-stationary accelerator keeps in place, or `length` numbers
    of a row of the weight (0: kernel rows, and 8 numbers of what has no kernels). clusters: 2 to 4096. Layers that are
    not cut evenly, or whose table would outweigh them, are left alone. Biases and norms stay as they are.

    Differs from the paper: the number of centroids is given, instead of a compression ratio that sets it; linear layers
    and 1×1 convolutions share as well; k-means starts from k-means++.
    """

    clusters: int = knob(16, low=2, high=4096, log=True)
    length: int = knob(0, low=0, high=65_536, search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` whose weights are tables of vectors; weights that are left alone are noted."""
        out = net.copy()
        for name in list(learnable(net, work.skip)):
            weight = out.slot(name)().detach()
            length = row_length(weight, self.length)
            if why := obstacle(weight.shape, length, self.clusters):
                work.skip(str(name), why)
            else:
                out.set_slot(name, shared_vectors(weight, length, self.clusters, seed=work.seed))
        return out
