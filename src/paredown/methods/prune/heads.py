"""Whole heads of attention removed."""

import math
from dataclasses import dataclass, field

from paredown.core.catalog import Card, part
from paredown.core.kinds import Score
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.groups import head_groups
from paredown.graph.importance import importances
from paredown.graph.net import Net
from paredown.graph.shrink import remove_channels
from paredown.graph.thinning import order_of
from paredown.methods.score.l2 import L2


@part("prune.heads", Card(title="Head pruning", paper="arxiv:1905.10650", year=2019, authors="Michel, Levy, Neubig",
                          source="Are Sixteen Heads Really Better than One?, section 4.1",
                          changes={"params", "nonzero", "bits", "macs"},
                          forbids={"quantized", "shared"}, gives={"thin"}))  # fmt: skip
@dataclass(frozen=True)
class Heads:
    """Remove the heads of lowest score from every attention, with their queries, keys, values and what reads them.

    ratio: fraction of an attention's heads, 0 to 0.95; one stays. score: a score part; `score.taylor` is the paper's
    expected sensitivity |a · dL/da|, but for its normalisation.

    Differs from the paper: each attention loses the same fraction, where the paper ranks all heads of a network together.
    """

    ratio: float = knob(0.25, low=0.0, high=0.95)
    score: Score = field(default_factory=L2)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with fewer heads; a network without any is noted."""
        able = head_groups(net)
        if not able:
            work.skip("attention", "there is none whose heads can be told apart and removed")
        chosen = {}
        for group, scores in zip(able, importances(self.score, net, able, work), strict=True):
            count = min(len(group) - 1, math.floor(self.ratio * len(group) + 1e-9))
            chosen[group] = order_of(group, scores)[:count]
        out, left = remove_channels(net, chosen, heads=True)
        for name, why in left.items():
            work.skip(name, why)
        return out
