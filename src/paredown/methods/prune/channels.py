"""Whole channels removed: fewer parameters, fewer operations, no masks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.kinds import Score
from paredown.core.knob import check_fields, knob
from paredown.core.work import Work
from paredown.graph.groups import Group, groups
from paredown.graph.importance import comparable, importances
from paredown.graph.net import Net
from paredown.graph.repair import repair_
from paredown.graph.shrink import mask_channels, remove_channels
from paredown.graph.thinning import order_of
from paredown.methods.score.l1 import L1


def leaving(units: int, ratio: float, step: int = 1) -> int:
    """Return how many of `units` to remove: ⌊ratio · units⌋, fewer so that a multiple of `step` stays, never all."""
    stay = units - math.floor(ratio * units + 1e-9)
    return units - max(1, min(units, step * math.ceil(stay / step)))


def balanced(scores: Tensor) -> Tensor:
    """Return scores divided by their root mean square, so that groups can be compared; zeros stay zeros, infinities too."""
    free = scores[torch.isfinite(scores)].double()
    size = free.square().mean().sqrt() if len(free) else torch.zeros(())
    return scores.double() / size if size > 0 else scores.double()


def lowest_of_all(scores: Sequence[Tensor], able: Sequence[Group], count: int) -> list[tuple[int, ...]]:
    """Return for each group its units among the `count` lowest of all groups together; of equal ones the first.

    A unit without which a value would have no channels is passed over, and the next one goes in its place. Infinite
    scores never go.
    """
    orders = [order_of(group, own) for group, own in zip(able, scores, strict=True)]
    flat = [(float(scores[at][unit]), at, unit) for at, order in enumerate(orders) for unit in order]
    first = sorted(flat, key=lambda item: item[0])[:count]
    return [tuple(sorted(unit for _, at, unit in first if at == number)) for number in range(len(able))]


@part("prune.channels", Card(title="Channel pruning", paper="arxiv:1608.08710", year=2017,
                             authors="Li, Kadav, Durdanovic, Samet, Graf; least-squares repair: He, Zhang, Sun",
                             source="Pruning Filters for Efficient ConvNets, sections 3.2 and 3.3; "
                                    "repair: arxiv:1707.06168, equation 2",
                             changes=frozenset({"params", "nonzero", "bits", "macs"}),
                             forbids=frozenset({"quantized", "shared"}), gives=frozenset({"thin"})))  # fmt: skip
@dataclass(frozen=True)
class Channels:
    """Remove the channels of lowest score, with all that makes and reads them, in every group of tied layers.

    ratio: fraction of the channels that can go, 0 to 0.95. score: a score part; the lowest go first.
    scope: "uniform" takes the ratio from each group; "global" from all together, on scores divided by their group's
    root mean square, or as they are where the score says that they compare. multiple_of: keep a multiple of this many
    channels in each group, fewer going than the ratio says. greedy: score each group after the earlier ones are gone, so
    that weights which read removed channels do not count (uniform scope). repair: afterwards refit, by least squares on the
    calibration split, the weights that read removed channels (`graph.repair`).

    At least one channel stays in every value. Channels of infinite score stay and do not count. The shrunk network is
    compared with the masked one; see `graph.shrink.remove_channels`. Differs from the paper: one ratio, not one for each
    layer by sensitivity; tied layers are ranked together; and all channels are chosen before any weight is refit, where
    the papers on repair choose a layer's after the layers before it were refit.
    """

    ratio: float = knob(0.5, low=0.0, high=0.95)
    score: Score = field(default_factory=L1)
    scope: str = knob("uniform", among=("uniform", "global"))
    multiple_of: int = knob(1, low=1, high=1024, search=False)
    greedy: bool = False
    repair: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.scope == "global" and self.greedy:
            raise BadInput("scope='global' ranks all groups at once; use scope='uniform' with greedy")

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
        if self.repair:
            x = work.scoped(work.step, {"calib"}).use("calib")[0]
            repair_(out, net, {g: units for g, units in chosen.items() if g.name not in left}, x, work.skip, work.seed)
        return out

    def _each(self, net: Net, able: list[Group], work: Work) -> dict[Group, tuple[int, ...]]:
        wanted = [group for group in able if leaving(len(group), self.ratio, self._step(group))]
        together = [] if self.greedy else importances(self.score, net, wanted, work)
        chosen: dict[Group, tuple[int, ...]] = {}
        for at, group in enumerate(wanted):
            scores = importances(self.score, net, [group], work)[0] if self.greedy else together[at]
            count = leaving(_free(scores), self.ratio) if _free(scores) else 0
            chosen[group] = self._whole(group, _lowest(group, scores, count), scores)
            if self.greedy:
                net = mask_channels(net, group, chosen[group])
        return chosen

    def _everywhere(self, net: Net, able: list[Group], work: Work) -> dict[Group, tuple[int, ...]]:
        scores = [s.cpu() for s in importances(self.score, net, able, work)]
        if not comparable(self.score):
            scores = [balanced(s) for s in scores]
        free = sum(_free(s) for s in scores)
        chosen = lowest_of_all(scores, able, leaving(free, self.ratio) if free else 0)
        return {g: self._whole(g, units, s) for g, units, s in zip(able, chosen, scores, strict=True)}

    def _step(self, group: Group) -> int:
        """Return of how many units a multiple must stay, so that `multiple_of` channels of each layer do."""
        return self.multiple_of // math.gcd(self.multiple_of, group.width())

    def _whole(self, group: Group, units: tuple[int, ...], scores: Tensor) -> tuple[int, ...]:
        """Return the lowest of these units, as many as may go for a multiple to stay."""
        step, stay = self._step(group), len(group) - len(units)
        count = len(group) - min(len(group), step * math.ceil(stay / step))
        return _lowest(group, scores, count) if count < len(units) else units


def _free(scores: Tensor) -> int:
    """Return how many units may go by their scores."""
    return int(torch.isfinite(scores).sum())


def _lowest(group: Group, scores: Tensor, count: int) -> tuple[int, ...]:
    """Return up to `count` units of lowest finite score."""
    return tuple(sorted(order_of(group, scores)[:count]))
