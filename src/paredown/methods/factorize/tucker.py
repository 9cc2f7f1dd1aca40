"""A convolution as three: to fewer channels, on them, and back."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tensorly.decomposition import partial_tucker
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.chains import bias_of, exchange_, kernel_refusal, named, node_without_bias, pointwise, refusal
from paredown.graph.low_rank import energy_rank
from paredown.graph.net import Net
from paredown.graph.slots import Free
from paredown.graph.spec import Node, Slot, Value
from paredown.graph.variational import variational_rank

PARTS = ("first", "core", "last")


def tucker2(weight: Tensor, ranks: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return (first r₁×in, core r₂×r₁×kernel, last out×r₂): W ≈ core ×₀ last ×₁ firstᵀ, by alternating least squares.

    weight: [out, in, kernel…]. ranks: (r₂, r₁). Higher-order orthogonal iteration from the truncated singular vectors, in
    float64, by tensorly; first and last are orthonormal.
    """
    array = weight.detach().double().cpu().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (core, (last, first)), _ = partial_tucker(array, rank=list(ranks), modes=[0, 1], n_iter_max=100, tol=1e-10)
    made = (np.ascontiguousarray(a) for a in (first.T, core, last))
    one, two, three = (torch.from_numpy(a).to(weight) for a in made)
    return one, two, three


def composed(first: Tensor, core: Tensor, last: Tensor) -> Tensor:
    """Return the weight that the three factors of `tucker2` make together."""
    return torch.einsum("or,rs...,si->oi...", last, core, first)


def unfoldings(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weight as a matrix by output and by input channel."""
    return weight.flatten(1), weight.transpose(0, 1).flatten(1)


def size(shape: Sequence[int], ranks: tuple[int, int]) -> int:
    """Return the weights of the three layers: r₁ · in + r₁ · r₂ · kernel + r₂ · out."""
    return ranks[1] * shape[1] + math.prod(ranks) * math.prod(shape[2:]) + ranks[0] * shape[0]


def ranks_by_share(shape: Sequence[int], share: float) -> tuple[int, int]:
    """Return the largest ranks, both the same fraction of their channels, of at most that share of the weights; at least 1."""
    fractions = sorted({k / n for n in shape[:2] for k in range(1, n + 1)})
    each = [tuple(max(1, math.floor(f * n + 1e-9)) for n in shape[:2]) for f in fractions]
    within = [(a, b) for a, b in each if size(shape, (a, b)) <= share * math.prod(shape)]
    return within[-1] if within else (1, 1)


def feasible(ranks: tuple[int, int], places: int) -> tuple[int, int]:
    """Return the ranks no larger than a core of so many kernel places can have: r₂ ≤ r₁ · places and r₁ ≤ r₂ · places."""
    last, first = ranks
    return min(last, first * places), min(first, last * places)


@part("factorize.tucker", Card(title="Tucker-2 decomposition of convolutions", paper="arxiv:1511.06530", year=2016,
                               authors="Kim, Park, Yoo, Choi, Yang, Shin",
                               source="Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile Applications, section 3; "
                                      "ranks: Nakajima, Sugiyama, Babacan, Tomioka, JMLR 14, 2013",
                               changes={"params", "macs"}, gives={"factored"},
                               forbids={"masked", "quantized", "shared"}))  # fmt: skip
@dataclass(frozen=True)
class Tucker:
    """Make a k×k convolution a 1×1 one to r₁ channels, a k×k one from r₁ to r₂, and a 1×1 one to its outputs.

    by: "energy" keeps that share of the squared singular values of the weight by output and by input channel; "params" keeps
    at most that share of the weights, both ranks the same fraction of their channels; "vbmf" finds both ranks by variational
    Bayesian matrix factorisation, and `keep` says nothing. keep: the share, 0.01 to 0.999.

    Stride, padding and dilation are the middle one's, the bias the last one's. Linear layers and 1×1 convolutions have no
    kernel to keep and are left alone, as are layers where no weights are saved. Differs from the paper: the first layer
    too, and fully connected ones not (`factorize.svd`); factors are refined by higher-order orthogonal iteration.
    """

    by: str = knob("energy", among=("energy", "params", "vbmf"))
    keep: float = knob(0.8, low=0.01, high=0.999)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with some convolutions split; those left alone are noted by their weight's name."""
        out = net.copy()
        for name, node in net.weighted():
            weight = net.slot(name)().detach()
            if why := refusal(net, name, node) or kernel_refusal(weight):
                work.skip(name, why)
                continue
            ranks = feasible(self._ranks(weight), math.prod(weight.shape[2:]))
            if min(ranks) < 1 or size(weight.shape, ranks) >= weight.numel():
                work.skip(name, f"at ranks {ranks} three layers would not have fewer weights than its {weight.numel()}")
                continue
            first, core, last = tucker2(weight, ranks)
            ones = [1] * (weight.dim() - 2)
            weights = (first.view(*first.shape, *ones), core, last.view(*last.shape, *ones))
            slots: dict[Slot, nn.Module] = {
                named(name, part): Free(value) for part, value in zip(PARTS, weights, strict=True)
            }
            exchange_(out, name, slots, _three)
        return out

    def _ranks(self, weight: Tensor) -> tuple[int, int]:
        if self.by == "params":
            return ranks_by_share(weight.shape, self.keep)
        by_output, by_input = unfoldings(weight)
        if self.by == "vbmf":
            return variational_rank(by_output), variational_rank(by_input)
        return energy_rank(by_output, self.keep), energy_rank(by_input, self.keep)


def _three(node: Node, fresh: Callable[[str], str]) -> list[Node]:
    first, core, last = (named(str(node.args["weight"]), part) for part in PARTS)
    before = pointwise(node, fresh("first"), Value(node.args["input"]), first)
    middle = node_without_bias(node, fresh("core")).with_args(input=Value(before.name), weight=core)
    return [before, middle, pointwise(node, node.name, Value(middle.name), last).with_args(**bias_of(node))]
