"""A budget met step by step: each step takes from the one group whose loss harms least after a short training."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.kinds import Loss, Score
from paredown.core.knob import check_fields, knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.priced import priced
from paredown.graph.net import Net
from paredown.graph.rating import JUDGES, error_by
from paredown.graph.thinning import Thinning, fewest, price_of, reachable, thinning_of
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.score.l2 import L2


@dataclass(frozen=True)
class Proposal:
    """One candidate of a round: the group that loses units, how many, what the network then costs, and its error."""

    group: str
    units: int
    cost: float
    error: float


@dataclass(frozen=True)
class Round:
    """One round: the cost before, by how much it had to fall, every proposal, and the number of the one taken."""

    before: float
    reduction: float
    proposals: tuple[Proposal, ...]
    taken: int

    @property
    def chosen(self) -> Proposal:
        """The proposal that was taken."""
        return self.proposals[self.taken]


@part("prune.netadapt", Card(title="NetAdapt", paper="arxiv:1804.03230", year=2018,
                             authors="Yang, Howard, Chen, Zhang, Go, Sandler, Sze, Adam",
                             source="NetAdapt: Platform-Aware Neural Network Adaptation, section 3, algorithm 1",
                             changes={"params", "nonzero", "bits", "macs"}, needs={"calib", "fit", "evaluate"},
                             forbids={"quantized", "shared"}, gives={"thin"}))  # fmt: skip
@dataclass(frozen=True)
class NetAdapt:
    """Lower a cost round by round: every group proposes the fewest units that lower it enough; the best proposal is taken.

    budget: share of the cost that may stay. cost: "macs", "params", "bits", "bops", or a device, by name or file, whose
    modelled latency counts. step: by which share of the whole cost it falls in the first round, at least; `decay` times that in
    each round after. score: a score part; the lowest units go first, by the weights of that round. short: epochs of
    training of each proposal before it is judged, 0 for none. long: epochs at the end, 0 to leave them to `train.finetune`.
    judge: proposals are compared by the metric on validation ("metric") or the cross-entropy on calibration ("loss").
    plan, loss: of both trainings. Costs rounds × groups short trainings.

    Differs from the paper: costs are counted or modelled, not looked up in a table of measured layers; the last round
    falls no further than the budget asks; the short training is in epochs; tied layers are one group.
    """

    budget: float = knob(0.5, low=0.02, high=1.0)
    cost: str = "macs"
    step: float = knob(0.05, low=0.001, high=0.5)
    decay: float = knob(0.97, low=0.5, high=1.0, search=False)
    score: Score = field(default_factory=L2)
    short: float = knob(0.2, low=0.0, high=1000.0)
    long: float = knob(0.0, low=0.0, high=10_000.0)
    judge: str = knob("metric", among=JUDGES, search=False)
    plan: Plan = Plan()
    loss: Loss = CrossEntropy()

    def __post_init__(self) -> None:
        check_fields(self)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a thin copy of `net` within the budget. Raises BadInput where no group can lower the cost further."""
        out, _ = self.rounds(net, work)
        self._train(out, self.long, work)
        return out

    def rounds(self, net: Net, work: Work) -> tuple[Net, list[Round]]:
        """Return the adapted network before the long training, and every round."""
        cost, error = priced(self.cost), error_by(self.judge, work)
        thinning, out, found = thinning_of(net, self.score, work), net.copy(), list[Round]()
        if self.budget < 1:
            reachable(thinning, lambda gone: 0.0, 0.0, self.cost)
        names = [group.name for group in thinning.groups]
        whole = cost(net)
        now, reduction = whole, self.step * whole
        while now > self.budget * whole:
            least = min(reduction, now - self.budget * whole)
            thinning = thinning_of(out, self.score, work, names) if found else thinning
            one, out = self._round(thinning, (now, least), (cost, error), work)
            found.append(one)
            now, reduction = one.chosen.cost, self.decay * reduction
        for name in set(names) - {one.chosen.group for one in found}:
            work.skip(name, "taking its channels was never the best way to lower the cost")
        return out, found

    def _round(
        self,
        thinning: Thinning,
        falls: tuple[float, float],
        judges: tuple[Callable[[Net], float], Callable[[Net], float]],
        work: Work,
    ) -> tuple[Round, Net]:
        """Return a round, and the network of its best proposal. falls: the cost now, and by how much it must fall."""
        price, target, nothing = price_of(thinning, judges[0]), falls[0] - falls[1], [0] * len(thinning.groups)
        made: list[tuple[Proposal, Net]] = []
        for at, group in enumerate(thinning.groups):
            count = fewest(thinning, price, nothing, at, target)
            if count is None:
                continue
            gone = thinning.alone(at, count)
            net, went = thinning.removed(gone, work.skip)
            if not went:
                continue
            self._train(net, self.short, work)
            made.append((Proposal(group.name, count, price(gone), judges[1](net)), net))
        if not made:
            raise BadInput(
                f"no group alone can lower {falls[0]:g} {self.cost} by {falls[1]:g}; lower the step, or ask for less"
            )
        taken = min(range(len(made)), key=lambda at: made[at][0].error)
        return Round(*falls, tuple(proposal for proposal, _ in made), taken), made[taken][1]

    def _train(self, net: Net, epochs: float, work: Work) -> None:
        if epochs:
            plan = dataclasses.replace(self.plan, epochs=max(0.1, epochs))
            work.use("fit")(net, loss=self.loss, habits=(), plan=plan)
