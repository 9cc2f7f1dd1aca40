"""Kernels of four weights in one of a few patterns."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.graph.masks import alike, budget, lowest, parted

CENTRE = 4
AROUND = (0, 1, 2, 3, 5, 6, 7, 8)
ALL = torch.zeros(56, 9, dtype=torch.bool)
"""Every pattern of the centre and three of its neighbours, [56, 9]."""
for _at, _three in enumerate(itertools.combinations(AROUND, 3)):
    ALL[_at, [CENTRE, *_three]] = True


def is_small(weight: Tensor) -> bool:
    """Return whether a weight has kernels of 3 × 3."""
    return weight.dim() == 4 and tuple(weight.shape[2:]) == (3, 3)


def natural(kernels: Tensor) -> Tensor:
    """Return for each kernel, [kernels, 9], the index in `ALL` of its centre and its three largest neighbours."""
    return (kernels.double() @ ALL.T.to(kernels.device).double()).argmax(1)


def chosen(kernels: Tensor, count: int) -> Tensor:
    """Return the `count` patterns that are natural to most kernels, [count, 9]; of equally many the first."""
    often = torch.bincount(natural(kernels).cpu(), minlength=len(ALL))
    return ALL[often.argsort(descending=True, stable=True)[:count]]


def fitted(kernels: Tensor, patterns: Tensor) -> Tensor:
    """Return for each kernel, [kernels, 9], True on the pattern that keeps most of it."""
    patterns = patterns.to(kernels.device)
    return patterns[(kernels.double() @ patterns.T.double()).argmax(1)]


@part("structure.pattern", Card(title="PatDNN: pattern-based pruning", paper="arxiv:2001.00138", year=2020,
                                authors="Niu, Ma, Lin, Wang, Qian, Lin, Wang, Ren",
                                source="PatDNN, section 3.1 (kernel pattern and connectivity pruning) and 4.1 (pattern set)"))  # fmt: skip
@dataclass(frozen=True)
class Pattern:
    """3 × 3 kernels of four weights in one of `count` patterns with the centre, then whole kernels gone (connectivity).

    The patterns are those natural to most kernels of all weights together. Up to the sparsity 5/9 kernels take on their
    pattern, those first that lose least; beyond it, whole kernels go. Weights with other kernels lose whole kernels
    only. Differs from the paper: masks by rank, not by ADMM; connectivity ranks kernels by what their pattern keeps.
    """

    count: int = knob(8, low=1, high=56)

    def stays(self, saliencies: Mapping[str, Tensor], sparsity: float, scope: str) -> dict[str, Tensor]:
        """Return {slot name: True where a weight stays}; ⌊sparsity · weights⌋ go, or just fewer."""
        small = [s.reshape(-1, 9) for s in saliencies.values() if is_small(s)]
        patterns = chosen(torch.cat(small), self.count) if small else ALL[:1]
        found: dict[str, Tensor] = {}
        for some in parted(saliencies, scope):
            found |= self._stays(some, budget(some, sparsity), patterns)
        return found

    def _stays(self, some: Mapping[str, Tensor], most: int, patterns: Tensor) -> dict[str, Tensor]:
        kernels = {name: s.reshape(-1, s[:1, :1].numel()) for name, s in some.items()}
        fits = {name: fitted(k, patterns) for name, k in kernels.items() if is_small(some[name])}
        costs = {name: (kernels[name] * ~fit).sum(1) for name, fit in fits.items()}
        goes = lowest(costs, {name: alike(cost, 5) for name, cost in costs.items()}, most)
        kept = {name: torch.ones_like(k, dtype=torch.bool) for name, k in kernels.items()}
        kept |= {name: fits[name] | ~gone[:, None] for name, gone in goes.items()}
        most -= 5 * sum(len(gone) for gone in goes.values())
        if most > 0:
            left = {name: (k * kept[name]).sum(1) for name, k in kernels.items()}
            sizes = {name: mask.sum(1) for name, mask in kept.items()}
            empty = lowest(left, sizes, most)
            kept = {name: mask & ~empty[name][:, None] for name, mask in kept.items()}
        return {name: mask.reshape(some[name].shape) for name, mask in kept.items()}
