"""Channels by how often their activation is zero."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.work import Work
from paredown.graph.features import ZEROING, Place, by_unit, shown, watch
from paredown.graph.groups import Group
from paredown.graph.importance import refused
from paredown.graph.net import Net


def zeros(maps: Tensor) -> Tensor:
    """Return APoZ, the share of zeros, of each channel of [channels, …] (Hu et al. 2016, equation 1)."""
    return (maps == 0).flatten(1).double().mean(1)


def too_often(apoz: Tensor, deviations: float = 1.0) -> Tensor:
    """Return True where APoZ is above its mean by more than so many deviations: the paper's rule for what goes."""
    return apoz > apoz.mean() + deviations * apoz.std(correction=0)


@part("score.apoz", Card(title="Average percentage of zeros", paper="arxiv:1607.03250", year=2016,
                         authors="Hu, Peng, Tai, Tang", source="Network Trimming, section 3.1",
                         needs=frozenset({"calib"})))  # fmt: skip
@dataclass(frozen=True)
class Apoz:
    """1 − the share of zeros after a channel's nonlinearity, over the calibration split and all positions.

    Looked at behind nonlinearities that make zeros (ReLU and its kin); where a channel passes several, their mean counts.
    Channels that pass none stay, and are noted. `too_often` is the paper's rule for how many go.

    Differs from the paper: the number to go comes from the step's ratio; all layers at once, not one or two at a time.
    """

    def importance(self, net: Net, group: Group, work: Work) -> Tensor:
        """Return 1 − APoZ of each unit of `group`; needs the calibration split."""
        return self.importances(net, [group], work)[0]

    def importances(self, net: Net, groups: Sequence[Group], work: Work) -> list[Tensor]:
        """Return 1 − APoZ of each unit of each group, in one pass."""
        x, places = work.use("calib")[0], shown(net, groups, ZEROING)
        total: dict[Place, Tensor] = {}

        def see(place: Place, value: Tensor) -> None:
            total[place] = total.get(place, torch.zeros(())) + len(value) * zeros(place.by_channel(value)).cpu()

        watch(net, x, [place for own in places for place in own], see)
        found = []
        for group, own in zip(groups, places, strict=True):
            if own:
                found.append(1 - by_unit(own, [total[place] / len(x) for place in own], len(group)))
            else:
                found.append(
                    refused(group, work, "nothing makes zeros of its channels, so score.apoz cannot rank them")
                )
        return found
