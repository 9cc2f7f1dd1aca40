"""How much each group of layers can lose alone, and all of them thinned by that."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.kinds import Score
from paredown.core.knob import check_fields, knob
from paredown.core.work import Curve, Work
from paredown.cost.priced import priced
from paredown.graph.net import Net
from paredown.graph.rating import JUDGES, error_by
from paredown.graph.thinning import Thinning, filled, price_of, reachable, stayed, thinning_of
from paredown.methods.score.l1 import L1

ERRORS = {"metric": "the error on validation", "loss": "the cross-entropy on calibration"}
"""What a judge's error is, in words."""
STEPS = 40
"""Halvings of the interval in which the drop that meets a budget is looked for."""


@dataclass(frozen=True)
class Scan:
    """Sensitivity curves: the error of the network from which only one group has lost a share of its units.

    groups: names. ratios: the shares, ascending. whole: the error of the network with all its units. errors:
    [groups][ratios].
    """

    groups: tuple[str, ...]
    ratios: tuple[float, ...]
    whole: float
    errors: tuple[tuple[float, ...], ...]

    def reached(self, at: int, drop: float) -> float:
        """Return the largest share a group can lose before its error has grown by `drop`, along straight lines."""
        before = (0.0, self.whole)
        for ratio, error in zip(self.ratios, self.errors[at], strict=True):
            if error > self.whole + drop:
                room = max(0.0, self.whole + drop - before[1])
                return before[0] + (ratio - before[0]) * room / (error - before[1])
            before = (ratio, error)
        return before[0]

    def curve(self, at: int, of: str, taken: float) -> Curve:
        """Return a group's curve from all its units on; `of`: what the error is, in words; `taken`: the share that goes."""
        points = ((0.0, self.whole), *zip(self.ratios, self.errors[at], strict=True))
        return Curve("the share of its channels that goes", of, points, taken)


def scan(thinning: Thinning, ratios: Sequence[float], error: Callable[[Net], float]) -> Scan:
    """Return the curves of every group: groups × ratios evaluations, and one of the whole network."""
    errors = tuple(
        tuple(error(thinning.sketch(thinning.alone(at, int(ratio * len(group) + 1e-9)))) for ratio in ratios)
        for at, group in enumerate(thinning.groups)
    )
    whole = error(thinning.sketch([0] * len(thinning.groups)))
    return Scan(tuple(group.name for group in thinning.groups), tuple(ratios), whole, errors)


def counts_at(thinning: Thinning, found: Scan, drop: float) -> list[int]:
    """Return how many units of each group go if each alone may raise the error by `drop`."""
    shares = (found.reached(at, drop) for at in range(len(thinning.groups)))
    return [
        min(int(share * len(g) + 1e-9), most)
        for share, g, most in zip(shares, thinning.groups, thinning.most, strict=True)
    ]


@part("prune.sensitivity", Card(title="Channel pruning by sensitivity analysis", paper="arxiv:1608.08710", year=2017,
                                authors="Li, Kadav, Durdanovic, Samet, Graf; thresholds: Han, Pool, Tran, Dally",
                                source="Pruning Filters for Efficient ConvNets, section 3.2; "
                                       "thresholds by layer: arxiv:1506.02626, section 3",
                                changes={"params", "nonzero", "bits", "macs"}, needs={"calib", "evaluate"},
                                forbids={"quantized", "shared"}, gives={"thin"}))  # fmt: skip
@dataclass(frozen=True)
class Sensitivity:
    """Thin each group alone at every ratio, note what is lost, and then take from each as much as it can lose.

    max_drop: by how much the error may grow for each group by itself. budget: if not 0, the share of the cost that may
    stay; the drop is then the smallest, the same for all groups, that meets it, and what still fits comes back. cost:
    "macs", "params", "bits", "bops", or a device whose modelled latency counts. score: a score part; the lowest go first.
    ratios: the shares that are tried. judge: the error is 1 − the metric on validation ("metric") or the cross-entropy on
    calibration ("loss").

    The curves are `scan(…)`, are noted for each group, and drawn in a run's report; groups × ratios evaluations. How groups act on each other is not seen: the network that loses
    from all of them may lose far more than `max_drop`. Differs from the papers: curves are read between their points along
    straight lines; tied layers share one curve; the threshold is one number, not an eye.
    """

    max_drop: float = knob(0.01, low=0.0, high=1.0)
    budget: float = knob(0.0, low=0.0, high=1.0)
    cost: str = "macs"
    score: Score = field(default_factory=L1)
    ratios: tuple = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    judge: str = knob("metric", among=JUDGES, search=False)

    def __post_init__(self) -> None:
        check_fields(self)
        numbers = all(isinstance(r, float) and 0 < r < 1 for r in self.ratios)
        if not self.ratios or not numbers or list(self.ratios) != sorted(set(self.ratios)):
            raise BadInput(
                f"Sensitivity.ratios={self.ratios!r} is not allowed; different shares between 0 and 1, ascending"
            )

    def apply(self, net: Net, work: Work) -> Net:
        """Return a thin copy of `net`. Raises BadInput where the budget cannot be met."""
        thinning = thinning_of(net, self.score, work)
        found = scan(thinning, self.ratios, error_by(self.judge, work))
        gone = self.counts(thinning, found)
        self._show(thinning, found, gone, work)
        stayed(thinning, gone, work.skip, "its error grows too much when its channels go")
        return thinning.made(gone, work.skip)

    def _show(self, thinning: Thinning, found: Scan, gone: list[int], work: Work) -> None:
        of = ERRORS[self.judge]
        for at, group in enumerate(thinning.groups):
            taken = gone[at] / len(group)
            curve = found.curve(at, of, taken)
            (_, first), (ratio, last) = curve.points[0], curve.points[-1]
            said = f"{of} goes from {first:.4g} to {last:.4g} when {ratio:.0%} of its channels alone go; {taken:.0%} go"
            work.show(group.name, said, curve)

    def counts(self, thinning: Thinning, found: Scan) -> list[int]:
        """Return how many units of each group go, by curves that are known."""
        if not self.budget:
            return counts_at(thinning, found, self.max_drop)
        price = price_of(thinning, priced(self.cost))
        most = self.budget * price([0] * len(thinning.groups))
        reachable(thinning, price, most, self.cost)
        low, high = 0.0, max((e - found.whole for row in found.errors for e in row), default=0.0) + 1e-9
        if price(counts_at(thinning, found, high)) > most:
            raise BadInput(
                f"a budget of {most:g} {self.cost} takes more than the ratio {self.ratios[-1]:g} of every group"
            )
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (low, middle) if price(counts_at(thinning, found, middle)) <= most else (middle, high)
        return filled(thinning, price, counts_at(thinning, found, max(high, 0.0)), most)
