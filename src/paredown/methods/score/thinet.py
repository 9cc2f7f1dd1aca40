"""Channels that the next layer misses least, found greedily."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.contributions import contributions
from paredown.graph.groups import Group
from paredown.graph.importance import refused
from paredown.graph.net import Net


def missed(rows: Tensor, gone: Sequence[int]) -> float:
    """Return Σ_i (Σ_{j in gone} x_ij)², what the outputs miss without these channels (Luo et al. 2017, equation 6)."""
    return float(rows[:, list(gone)].sum(1).square().sum())


def greedy(rows: Tensor) -> list[int]:
    """Return the channels in the order in which they go: always the one that makes `missed` least (algorithm 1).

    rows: x_ij, what channel j adds to output i. The first of equal ones goes.
    """
    second = rows.double().T @ rows.double()
    cost, crossed = second.diagonal().clone(), torch.zeros(len(second), dtype=torch.float64)
    left = torch.ones(len(second), dtype=torch.bool)
    order: list[int] = []
    for _ in range(len(second)):
        at = int(torch.where(left, cost + 2 * crossed, torch.inf).argmin())
        order.append(at)
        left[at] = False
        crossed += second[at]
    return order


@part("score.thinet", Card(title="ThiNet", paper="arxiv:1707.06342", year=2017, authors="Luo, Wu, Lin",
                           source="ThiNet: A Filter Level Pruning Method, section 3.2, algorithm 1",
                           needs=frozenset({"calib"})))  # fmt: skip
@dataclass(frozen=True)
class ThiNet:
    """The place in the greedy order in which channels go so that the next layers' outputs change least: 0 goes first.

    images: samples of each class, places: places of each one's output (the paper: 10 and 10), one random output channel
    at each. The whole method is `prune.channels` with this score and repair, then `train.finetune`. Units that
    no convolution or linear layer mixes stay, and are noted.

    Differs from the paper: all layers are ranked before any is pruned (with greedy=True each on the network without the
    channels already chosen); groups of tied layers are ranked by all that reads them; repair refits whole
    kernels, where the paper has one factor for each channel; no fine-tuning between layers.
    """

    images: int = knob(10, low=1, high=1000, search=False)
    places: int = knob(10, low=1, high=1000, search=False)

    def importance(self, net: Net, group: Group, work: Work) -> Tensor:
        """Return the place in the order of each unit of `group`, from 0; needs the calibration split."""
        return self.importances(net, [group], work)[0]

    def importances(self, net: Net, groups: Sequence[Group], work: Work) -> list[Tensor]:
        """Return the place in the order of each unit of each group, from one pass."""
        sampled = contributions(net, groups, work.use("calib"), (self.images, self.places, 1), work.seed)
        found = []
        for group, rows in zip(groups, sampled, strict=True):
            if rows is None:
                found.append(refused(group, work, "no layer mixes its channels, so score.thinet cannot rank them"))
            else:
                found.append(torch.tensor(greedy(rows)).argsort().double())
        return found
