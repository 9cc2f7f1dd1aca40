"""Whole channels removed: fewer parameters, fewer operations, no masks."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.kinds import Score
from paredown.core.knob import check_fields, knob
from paredown.core.work import Work
from paredown.graph.groups import Group, groups
from paredown.graph.net import Net
from paredown.graph.shrink import mask_channels, remove_channels
from paredown.methods.score.l1 import L1


def leaving(units: int, ratio: float, step: int = 1) -> int:
    """Return how many of `units` to remove: ⌊ratio · units⌋, fewer so that a multiple of `step` stays, never all."""
    stay = units - math.floor(ratio * units + 1e-9)
    return units - max(1, min(units, step * math.ceil(stay / step)))


def balanced(scores: Tensor) -> Tensor:
    """Return scores divided by their root mean square, so that groups can be compared; zeros stay zeros."""
    size = scores.double().square().mean().sqrt()
    return scores.double() / size if size > 0 else scores.double()


@part("prune.channels", Card(title="Channel pruning", paper="arxiv:1608.08710", year=2017,
                             authors="Li, Kadav, Durdanovic, Samet, Graf",
                             source="Pruning Filters for Efficient ConvNets, sections 3.2 and 3.3",
                             changes=frozenset({"params", "nonzero", "bits", "macs"}),
                             forbids=frozenset({"quantized", "shared"}), gives=frozenset({"thin"})))  # fmt: skip
@dataclass(frozen=True)
class Channels:
    """Remove the channels of lowest score, with all that makes and reads them, in every group of tied layers.

    ratio: fraction of the channels that can go, 0 to 0.95. score: a score part; the lowest go first.
    scope: "uniform" takes the ratio from each group; "global" from all together, on scores divided by their group's
    root mean square. multiple_of: keep a multiple of this many channels (uniform scope). greedy: score each group after
    the earlier ones are gone, so that weights which read removed channels do not count (uniform scope).

    At least one channel stays in every value. The shrunk network is compared with the masked one; see
    `graph.shrink.remove_channels`. Differs from the paper: one ratio, not one for each layer by sensitivity; and tied
    layers are ranked together.
    """

    ratio: float = knob(0.5, low=0.0, high=0.95)
    score: Score = field(default_factory=L1)
    scope: str = knob("uniform", among=("uniform", "global"))
    multiple_of: int = knob(1, low=1, high=1024, search=False)
    greedy: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.scope == "global" and (self.greedy or self.multiple_of > 1):
            raise BadInput("scope='global' ranks all groups at once; use scope='uniform' with greedy or multiple_of")

    def apply(self, net: Net, work: Work) -> Net:
        """Return a thinner copy of `net`; layers whose channels cannot go are noted by their weight's name."""
        found = groups(net)
        for group in found:
            for layer, why in group.frozen.items():
                work.skip(layer, why)
        able = [group for group in found if len(group)]
        chosen = self._everywhere(net, able, work) if self.scope == "global" else self._each(net, able, work)
        out, left = remove_channels(net, chosen)
        for name, why in left.items():
            work.skip(name, why)
        return out

    def _scores(self, net: Net, group: Group, work: Work) -> Tensor:
        part_name, card = type(self.score).part_name, type(self.score).card  # type: ignore[attr-defined]
        return self.score.importance(net, group, work.scoped(part_name, card.needs))

    def _each(self, net: Net, able: list[Group], work: Work) -> dict[Group, tuple[int, ...]]:
        chosen: dict[Group, tuple[int, ...]] = {}
        for group in able:
            step = self.multiple_of // math.gcd(self.multiple_of, group.width())
            count = leaving(len(group), self.ratio, step)
            chosen[group] = group.lowest(self._scores(net, group, work), count) if count else ()
            if self.greedy:
                net = mask_channels(net, group, chosen[group])
        return chosen

    def _everywhere(self, net: Net, able: list[Group], work: Work) -> dict[Group, tuple[int, ...]]:
        scores = [balanced(self._scores(net, group, work).cpu()) for group in able]
        ranked = torch.cat(scores).sort().values if able else torch.zeros(0)
        count = leaving(len(ranked), self.ratio) if able else 0
        if not count:
            return {}
        limit = ranked[count - 1]
        return {g: g.lowest(s, int((s <= limit).sum())) for g, s in zip(able, scores, strict=True)}
