"""Single weights, rows of kernels, kernels or filters."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.graph.masks import alike, budget, lowest, norm, parted

UNITS = ("element", "vector", "kernel", "filter")


def spanned(dims: int, unit: str) -> tuple[int, ...]:
    """Return the dimensions that one unit of a weight (output, input, *kernel) spans.

    A filter is one output's weights, a kernel one (output, input) pair's, a vector one row of a kernel along its last
    dimension. A linear weight has kernels of one weight.
    """
    first = {"element": dims, "vector": max(2, dims - 1), "kernel": 2, "filter": 1}[unit]
    return tuple(range(min(first, dims), dims))


@part("structure.granularity", Card(title="Granularities of sparsity", paper="arxiv:1705.08922", year=2017,
                                    authors="Mao, Han, Pool, Li, Liu, Wang, Dally",
                                    source="Exploring the Regularity of Sparse Structure in Convolutional Neural Networks, section 3"))  # fmt: skip
@dataclass(frozen=True)
class Granularity:
    """Units of one size: single weights, rows of kernels, kernels or filters; those of the least norm go.

    unit: what goes at once. power: p of the norm (Σ s^p)^(1/p) of a unit's saliencies; 1 is their sum.
    """

    unit: str = knob("element", among=UNITS)
    power: float = knob(1.0, low=0.5, high=16.0, search=False)

    def stays(self, saliencies: Mapping[str, Tensor], sparsity: float, scope: str) -> dict[str, Tensor]:
        """Return {slot name: True where a weight stays}; ⌊sparsity · weights⌋ go, or just fewer in whole units."""
        found: dict[str, Tensor] = {}
        for some in parted(saliencies, scope):
            costs = {name: norm(s, spanned(s.dim(), self.unit), self.power) for name, s in some.items()}
            sizes = {name: alike(cost, some[name].numel() // max(1, cost.numel())) for name, cost in costs.items()}
            goes = lowest(costs, sizes, budget(some, sparsity))
            found |= {name: ~unit.expand_as(some[name]) for name, unit in goes.items()}
        return found
