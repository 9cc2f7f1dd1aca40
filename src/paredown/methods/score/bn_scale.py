"""Channels by the scale that their batch norm gives them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.work import Work
from paredown.graph.features import scales
from paredown.graph.groups import Group, filters
from paredown.graph.importance import refused
from paredown.graph.net import Net


@part("score.bn_scale", Card(title="Network Slimming's criterion", paper="arxiv:1708.06519", year=2017,
                             authors="Liu, Li, Shen, Huang, Yan, Zhang",
                             source="Learning Efficient Convolutional Networks through Network Slimming, section 3"))  # fmt: skip
@dataclass(frozen=True)
class BnScale:
    """|γ|, the scale of the norm behind a channel. Values compare across groups: a global ratio is a percentile of |γ|.

    The paper's recipe: `train.finetune` with `habit.slimming`, `prune.channels` with this score and scope="global",
    `train.finetune`. Where several norms scale a channel (residual connections, depthwise convolutions), their mean counts.
    A channel that no norm scales has nothing to be compared by: it stays (its importance is infinite) and is noted.
    """

    comparable = True

    def importance(self, net: Net, group: Group, work: Work) -> Tensor:
        """Return the mean |γ| of each unit of `group`, infinite where there is none."""
        found = filters(net, group, [(slot, 0) for slot in scales(net)])
        if not any(len(own) for own in found):
            return refused(group, work, "no norm scales its channels, so score.bn_scale cannot rank them; they stay")
        means = [own.detach().abs().double().mean() if len(own) else torch.tensor(torch.inf) for own in found]
        return torch.stack([mean.double() for mean in means])
