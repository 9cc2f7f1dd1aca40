"""Product quantization: pieces of rows that share a few vectors."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.clusters import obstacle, shared_vectors
from paredown.graph.latent import learnable
from paredown.graph.net import Net
from paredown.graph.vectors import VectorCodebook


def looked_up(slot: VectorCodebook, x: Tensor) -> Tensor:
    """Return the products of the slot's rows with [n, entries of a row] inputs, by tables (Jégou et al. 2011, eq. 13-14).

    Each piece of an input is multiplied once with each of its book's centroids; what a row gives is then a sum of
    looked-up numbers, one for each of its pieces: "asymmetric", as the input itself is not rounded.
    """
    books, count, length = slot.centroids.shape
    pieces = x.reshape(len(x), -1, books, length)
    tables = torch.einsum("npbd,bkd->npbk", pieces, slot.centroids).reshape(len(x), -1, count)
    codes = slot.codes.long().view(slot.shape[0], -1)
    found = tables[:, None].expand(-1, len(codes), -1, -1).gather(3, codes[None, :, :, None].expand(len(x), -1, -1, 1))
    return found.sum((2, 3))


@part("share.product", Card(title="Product quantization", paper="arxiv:1412.6115", year=2014,
                            authors="Gong, Liu, Yang, Bourdev",
                            source="Compressing Deep Convolutional Networks using Vector Quantization, section 3.2.2; "
                                   "Jégou, Douze & Schmid 2011, Product Quantization for Nearest Neighbor Search",
                            changes={"bits", "bytes"}, forbids={"quantized", "shared", "masked"},
                            gives={"shared"}))  # fmt: skip
@dataclass(frozen=True)
class Product:
    """Cut the rows of each convolution and linear weight into vectors, and let these share `clusters` centroids (k-means).

    A row is what makes one output: of a weight [out, in, …kernel] the in · kernel numbers, in that order. length: numbers
    in a vector, or 0 for a whole row, which is vector quantization; of length 1 it is k-means of single values. clusters:
    2 to 4096; a code takes ⌈log2 clusters⌉ bits for `length` weights. books: "position", one table for each place in the
    row, as in the paper (eq. 6-7), or "one" for all places. Layers whose rows are not cut evenly, or whose table would
    outweigh them, are left alone. Biases and norms stay as they are.

    Differs from the paper: it has the linear layers of a network only, here convolutions are cut as well; "one" is the
    default, because the tables of small layers are most of what is stored. k-means is seeded with k-means++.
    """

    length: int = knob(4, low=0, high=65_536, search=False)
    clusters: int = knob(256, low=2, high=4096, log=True)
    books: str = knob("one", among=("one", "position"))

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` whose weights are tables of vectors; weights that are left alone are noted."""
        out = net.copy()
        for name in list(learnable(net, work.skip)):
            weight = out.slot(name)().detach()
            row = math.prod(weight.shape[1:])
            length = self.length or row
            books = max(1, row // length) if self.books == "position" else 1
            if why := obstacle(weight.shape, length, self.clusters, books):
                work.skip(str(name), why)
            else:
                out.set_slot(name, shared_vectors(weight, length, self.clusters, books, work.seed))
        return out
