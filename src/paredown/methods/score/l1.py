"""Channels by the sum of absolute weights."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.work import Work
from paredown.graph.groups import Group, filters
from paredown.graph.net import Net


def l1(weights: list[Tensor]) -> Tensor:
    """Return Σ|w| of each tensor, as a 1-D tensor (Li et al. 2017, section 3.1, s_j)."""
    return torch.stack([w.detach().abs().sum() for w in weights])


@part("score.l1", Card(title="Pruning filters for efficient ConvNets", paper="arxiv:1608.08710", year=2017,
                       authors="Li, Kadav, Durdanovic, Samet, Graf",
                       source="Pruning Filters for Efficient ConvNets, section 3.1"))  # fmt: skip
@dataclass(frozen=True)
class L1:
    """The sum of a filter's absolute weights.

    Differs from the paper: where layers share channels (residual connections, depthwise convolutions), the paper ranks
    by the shortcut's filters alone; here the filters of all the layers that make a channel are summed.
    """

    def importance(self, net: Net, group: Group, work: Work) -> Tensor:
        """Return Σ|w| over the filters that make each unit of `group`, one value per unit."""
        return l1(filters(net, group))
