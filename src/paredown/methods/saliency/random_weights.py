"""Weights in an order of chance: what every other saliency has to beat."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.work import Work
from paredown.graph.net import Net


@part("saliency.random_weights", Card(title="Random pruning", paper="arxiv:1810.05270", year=2019,
                              authors="Liu, Sun, Zhou, Huang, Darrell",
                              source="Rethinking the Value of Network Pruning, section 3: the control"))  # fmt: skip
@dataclass(frozen=True)
class RandomWeights:
    """A number between 0 and 1 for each weight, drawn with the work's seed; zero for a weight of zero."""

    def saliencies(self, net: Net, names: Sequence[str], work: Work) -> dict[str, Tensor]:
        """Return a drawn number for each weight; the same for the same names, shapes and seed."""
        draw = torch.Generator().manual_seed(work.seed)
        drawn = {name: torch.rand(net.slot(name)().shape, generator=draw) for name in names}
        return {name: number.to(net.slot(name)()) * (net.slot(name)().detach() != 0) for name, number in drawn.items()}
