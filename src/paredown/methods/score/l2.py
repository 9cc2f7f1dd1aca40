"""Channels by the root of the sum of squared weights."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.work import Work
from paredown.graph.groups import Group, filters
from paredown.graph.net import Net


def l2(weights: list[Tensor]) -> Tensor:
    """Return √Σw² of each tensor, as a 1-D tensor."""
    return torch.stack([w.detach().square().sum().sqrt() for w in weights])


@part("score.l2", Card(title="Soft filter pruning's criterion", paper="arxiv:1808.06866", year=2018,
                       authors="He, Kang, Dong, Fu, Yang",
                       source="Soft Filter Pruning, section 3.2, equation 2 with p = 2"))  # fmt: skip
@dataclass(frozen=True)
class L2:
    """The Euclidean norm of a filter.

    Differs from the paper: where layers share channels, the filters of all of them count as one long filter.
    """

    def importance(self, net: Net, group: Group, work: Work) -> Tensor:
        """Return √Σw² over the filters that make each unit of `group`, one value per unit."""
        return l2(filters(net, group))
