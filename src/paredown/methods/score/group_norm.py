"""Channels by all weights that go with them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.work import Work
from paredown.graph.features import scales
from paredown.graph.groups import Group, filters
from paredown.graph.net import Net


def relative(sums: Tensor) -> Tensor:
    """Return N · I_k / Σ I of a group's importances: their mean is 1; zeros stay zeros (Fang et al. 2023, section 3.3)."""
    return sums * len(sums) / sums.sum() if sums.sum() > 0 else sums


@part("score.group_norm", Card(title="DepGraph's group norm", paper="arxiv:2301.12900", year=2023,
                               authors="Fang, Ma, Song, Mi, Wang",
                               source="DepGraph: Towards Any Structural Pruning, section 3.3"))  # fmt: skip
@dataclass(frozen=True)
class GroupNorm:
    """Σ w² over all weights that leave with a channel: those that make it, scale it and read it, as shares of the group's mean.

    Values compare across groups.

    Differs from the paper: the relative score is over all units of the group, not over its top N; the training that makes
    groups sparse is not part of it; biases and running statistics do not count.
    """

    comparable = True

    def importance(self, net: Net, group: Group, work: Work) -> Tensor:
        """Return the relative Σ w² of each unit of `group`; their mean is 1."""
        axes = {*group.makers, *group.readers, *((slot, 0) for slot in scales(net))}
        sums = [own.detach().double().square().sum() for own in filters(net, group, axes)]
        return relative(torch.stack(sums))
