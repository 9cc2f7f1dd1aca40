"""Channels by lot."""

import zlib
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.work import Work
from paredown.graph.groups import Group
from paredown.graph.net import Net


@part("score.random_channels", Card(title="Random channels", paper="arxiv:1801.10447", year=2018,
                           authors="Mittal, Bhardwaj, Khapra, Ravindran",
                           source="Recovering from Random Pruning: the control that a criterion must beat"))  # fmt: skip
@dataclass(frozen=True)
class RandomChannels:
    """A uniform draw for each channel: the control for every other criterion.

    The draw depends on the work's seed and on the group's name, so it is the same whatever was scored before.
    """

    comparable = True

    def importance(self, net: Net, group: Group, work: Work) -> Tensor:
        """Return one number of [0, 1) per unit of `group`."""
        draw = torch.Generator().manual_seed(zlib.crc32(f"{work.seed} {group.name}".encode()))
        return torch.rand(len(group), generator=draw)
