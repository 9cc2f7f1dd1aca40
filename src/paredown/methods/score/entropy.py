"""Channels by how much their mean activation varies over samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.features import Place, by_unit, read, shown, watch
from paredown.graph.groups import Group
from paredown.graph.importance import refused
from paredown.graph.net import Net


def entropy(values: Tensor, bins: int = 100) -> Tensor:
    """Return −Σ p log p of each row's histogram of equal bins from its least to its largest value, in nats.

    values: [channels, samples]. A constant row has 0, one that fills all bins alike log(bins) (Luo & Wu 2017, equation 1).
    """
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    size = torch.where(high > low, high - low, torch.ones_like(high))
    at = ((values - low) / size * bins).floor().clamp(0, bins - 1).long()
    counts = torch.zeros(len(values), bins, dtype=torch.float64, device=values.device)
    counts.scatter_add_(1, at, torch.ones_like(at, dtype=torch.float64))
    share = counts / values.shape[1]
    return -torch.special.xlogy(share, share).sum(1) + 0.0


@part("score.entropy", Card(title="Entropy-based pruning", paper="arxiv:1706.05791", year=2017, authors="Luo, Wu",
                            source="An Entropy-based Pruning Method for CNN Compression, section 3.2",
                            needs=frozenset({"calib"})))  # fmt: skip
@dataclass(frozen=True)
class Entropy:
    """The entropy of a channel's global average over the calibration samples, from a histogram of `bins` bins.

    Looked at behind the channel's nonlinearities, or where it passes none, in what the next layers read; over several
    values, and several channels of a unit, the mean counts.
    """

    bins: int = knob(100, low=2, high=10_000, search=False)

    def importance(self, net: Net, group: Group, work: Work) -> Tensor:
        """Return the entropy of each unit of `group`, in nats; needs the calibration split."""
        return self.importances(net, [group], work)[0]

    def importances(self, net: Net, groups: Sequence[Group], work: Work) -> list[Tensor]:
        """Return the entropy of each unit of each group, in one pass."""
        x, after, before = work.use("calib")[0], shown(net, groups), read(net, groups)
        places = [own or [place for _, place in other] for own, other in zip(after, before, strict=True)]
        means: dict[Place, list[Tensor]] = {}

        def see(place: Place, value: Tensor) -> None:
            means.setdefault(place, []).append(place.by_channel(value).double().mean(2).cpu())

        watch(net, x, [place for own in places for place in own], see)
        found = []
        for group, own in zip(groups, places, strict=True):
            if own:
                each = [entropy(torch.cat(means[place], 1), self.bins) for place in own]
                found.append(by_unit(own, each, len(group)))
            else:
                found.append(refused(group, work, "nothing that can be looked at carries its channels"))
        return found
