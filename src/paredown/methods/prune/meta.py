"""Widths found with a network that makes the weights of every thinner network, which is then trained from scratch."""

import dataclasses
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.kinds import Loss
from paredown.core.knob import check_fields, knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.priced import priced
from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.rating import JUDGES, error_by
from paredown.graph.recalibrate import keeping, recalibrate_
from paredown.graph.slots import Fixed, Free
from paredown.graph.thinning import (
    Gone,
    Price,
    Thinning,
    filled,
    order_of,
    price_of,
    reachable,
    stayed,
    thinning_of,
    within,
)
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.score.l1 import L1


class Generator(nn.Module):
    """A weight made from the network encoding vector by two fully connected layers, in its full shape.

    What the second layer gives is divided by √fan-in, so that steps of one size suit all weights.
    """

    def __init__(self, shape: Sequence[int], groups: int, hidden: int, encoding: nn.Module) -> None:
        super().__init__()
        self.shape, self.encoding = tuple(shape), encoding
        self.size = 1 / math.sqrt(max(1, math.prod(self.shape[1:])))
        self.first, self.second = nn.Linear(groups, hidden), nn.Linear(hidden, math.prod(shape))
        nn.init.uniform_(self.second.bias, -1.0, 1.0)

    def forward(self) -> Tensor:
        return self.size * self.second(torch.relu(self.first(self.encoding()))).view(self.shape)


class Cropped(nn.Module):
    """Some indices along some dimensions of what another slot gives."""

    def __init__(self, slot: nn.Module, keep: dict[int, Tensor]) -> None:
        super().__init__()
        self.slot, self.keep = slot, keep

    def forward(self) -> Tensor:
        value = self.slot()
        for dim, index in self.keep.items():
            value = value.index_select(dim, index.to(value.device))
        return value


def front(thinning: Thinning) -> Thinning:
    """Return the same groups with the last units the first to go: cropping keeps the front."""
    orders = tuple(order_of(g, -torch.arange(len(g), dtype=torch.float64)) for g in thinning.groups)
    able = (tuple(u for u in order if u in own) for order, own in zip(orders, map(set, thinning.orders), strict=True))
    return Thinning(thinning.net, thinning.groups, tuple(able))


class PruningNet(Net):
    """A network whose weights are generated for the widths it runs at: random ones while it trains (section 3.1).

    The encoding vector holds the share of each group that stays. Weights that a group cuts have a generator each; what else
    is cut (norms, biases) is stored once and cropped; running statistics mean nothing here (`held` takes them afresh).
    `gone`: the widths in eval mode.
    """

    def __init__(self, thinning: Thinning, hidden: int, seed: int) -> None:
        own = thinning.net.copy()
        super().__init__(own.spec, {name: own.slot(name) for name in own.slot_names()})
        self.thinning, self.gone = thinning, [0] * len(thinning.groups)
        self.encoding = Fixed(torch.ones(len(thinning.groups)))
        touched = {cut.slot for group in thinning.groups for unit in group.units for cut in unit}
        weights = {name for name, _ in thinning.net.weighted()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name in self.slot_names():
                if name in touched & weights:
                    held = own.slot(name)()
                    made = Generator(held.shape, len(thinning.groups), hidden, self.encoding)
                    self.set_slot(name, made.to(held.device))

    def at(self, gone: Gone) -> Net:
        """Return the network at these widths; its slots are this one's own, cropped."""
        sizes = [len(group) for group in self.thinning.groups]
        share = [1 - n / size for n, size in zip(gone, sizes, strict=True)]
        self.encoding.value.copy_(torch.tensor(share))
        crops: dict[str, dict[int, set[int]]] = {}
        for group, units in self.thinning.chosen(gone).items():
            for cut in (cut for unit in units for cut in group.units[unit]):
                crops.setdefault(cut.slot, {}).setdefault(cut.dim, set()).update(cut.indices)
        slots = {name: self.slot(name) for name in self.slot_names()}
        for name, dims in crops.items():
            shape = self.thinning.net.slot(name)().shape
            keep = {dim: torch.tensor([i for i in range(shape[dim]) if i not in lost]) for dim, lost in dims.items()}
            slots[name] = Cropped(slots[name], keep)
        return Net(self.thinning.sketch(gone).spec, slots).train(self.training)

    def forward(self, *inputs: Tensor) -> Tensor:
        gone = self._drawn() if self.training else self.gone
        return self.at(gone).run(*inputs)

    def _drawn(self) -> list[int]:
        return [int(torch.randint(0, most + 1, ())) for most in self.thinning.most]

    @torch.no_grad()
    def held(self, gone: Gone, x: Tensor) -> Net:
        """Return a thin network of its own with the generated weights, its norms' statistics those of `x`."""
        loose, out = self.at(gone).eval(), self.thinning.sketch(gone).copy()
        for name in out.slot_names():
            made = loose.slot(name)().detach().clone()
            out.set_slot(name, Free(made) if isinstance(out.slot(name), Free) else Fixed(made))
        recalibrate_(out, x)
        return out


@dataclass(frozen=True)
class Candidate:
    """Widths that were tried, what the network costs, and its error with generated weights."""

    gone: tuple[int, ...]
    cost: float
    error: float


def evolve(
    thinning: Thinning,
    prices: tuple[Price, float],
    error: Callable[[list[int]], float],
    sizes: tuple[int, int, int],
    chances: tuple[float, int],
) -> list[Candidate]:
    """Return every candidate, best first, each within the budget (Liu et al. 2019, algorithm 1).

    sizes: generations, candidates in each, and how many of the best have offspring. chances: of a gene to mutate, and a
    seed. A gene is how many units of one group go. After the first generation, at random, half are mutants of one of the
    best and half take each gene from one of two. What is over the budget is brought `within` it, in an order of chance.
    """
    draw, known = random.Random(chances[1]), dict[tuple[int, ...], Candidate]()

    def fresh() -> list[int]:
        return [draw.randint(0, most) for most in thinning.most]

    def bred(best: Sequence[Candidate], mutant: bool) -> list[int]:
        if mutant:
            return [
                g if draw.random() >= chances[0] else f for g, f in zip(draw.choice(best).gone, fresh(), strict=True)
            ]
        return [draw.choice(genes) for genes in zip(draw.choice(best).gone, draw.choice(best).gone, strict=True)]

    for generation in range(sizes[0]):
        best = sorted(known.values(), key=lambda c: c.error)[: sizes[2]]
        for number in range(sizes[1]):
            wanted = fresh() if generation == 0 or not best else bred(best, number % 2 == 0)
            order = draw.sample(range(len(wanted)), len(wanted))
            gone = tuple(within(thinning, prices[0], wanted, prices[1], order))
            if gone not in known:
                known[gone] = Candidate(gone, prices[0](gone), error(list(gone)))
    return sorted(known.values(), key=lambda c: c.error)


@torch.no_grad()
def redraw_(net: Net, skip: Callable[[str, str], None], seed: int) -> None:
    """Start a network anew, in place: weights and biases uniform within 1/√fan-in, norms as the identity.

    Trainable slots of other operators are left as they are and told to `skip`.
    """
    draw = torch.Generator().manual_seed(seed)
    for name, users in net.spec.slot_users().items():
        slot, node = net.slot(name), users[0]
        if not isinstance(slot, Free):
            continue
        if node.op in WEIGHTED:
            weight = net.slot(str(node.slot("weight")))()
            bound = 1 / math.sqrt(max(1, math.prod(weight.shape[1:])))
            slot.value.copy_((2 * torch.rand(slot.value.shape, generator=draw) - 1) * bound)
        elif node.op.endswith("_norm"):
            slot.value.fill_(1.0 if node.slot("weight") == name else 0.0)
        else:
            skip(name, f"{node.op} starts from the values it had")
    for node in keeping(net):
        net.slot(str(node.args["running_mean"])).value.zero_()
        net.slot(str(node.args["running_var"])).value.fill_(1.0)


@part("prune.meta", Card(title="MetaPruning", paper="arxiv:1903.10258", year=2019,
                         authors="Liu, Mu, Zhang, Guo, Yang, Cheng, Sun",
                         source="MetaPruning: Meta Learning for Automatic Neural Network Channel Pruning, section 3",
                         changes={"params", "nonzero", "bits", "macs"}, needs={"calib", "fit", "evaluate"},
                         forbids={"masked", "quantized", "shared"}, gives={"thin"}))  # fmt: skip
@dataclass(frozen=True)
class Meta:
    """Train a PruningNet at random widths, evolve widths within a budget on its weights, train the best from scratch.

    budget: share of the cost that may stay. cost: "macs", "params", "bits", "bops", or a device whose modelled latency
    counts. hidden: width of the generators. meta_epochs: of training the PruningNet. generations, population, top: of the
    evolution; mutation: chance of a gene. start: the winner is trained from "fresh" weights or from the "generated" ones. judge:
    the error is 1 − the metric on validation ("metric") or the cross-entropy on calibration ("loss"). fill: units come back
    to the winner while the budget holds. plan, loss: of both trainings. What the given network has learned is not used.

    Differs from the paper: one encoding vector of all groups for every generator, not that of the layers beside it; every
    number of units is a width, not some thirty; offspring over the budget are thinned until they hold it, not thrown away;
    norms have one scale and shift for all widths; candidates' statistics are one batch's, of the calibration split.
    """

    budget: float = knob(0.5, low=0.02, high=1.0)
    cost: str = "macs"
    hidden: int = knob(32, low=1, high=4096, search=False)
    meta_epochs: float = knob(20.0, low=0.1, high=10_000.0, search=False)
    generations: int = knob(20, low=1, high=1000, search=False)
    population: int = knob(50, low=1, high=10_000, search=False)
    top: int = knob(10, low=1, high=10_000, search=False)
    mutation: float = knob(0.1, low=0.0, high=1.0, search=False)
    start: str = knob("fresh", among=("fresh", "generated"), search=False)
    judge: str = knob("metric", among=JUDGES, search=False)
    fill: bool = True
    plan: Plan = Plan()
    loss: Loss = CrossEntropy()

    def __post_init__(self) -> None:
        check_fields(self)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a network of the best widths, trained from scratch. Raises BadInput where the budget cannot be met."""
        thinning = front(thinning_of(net, L1(), work))
        price = price_of(thinning, priced(self.cost))
        budget = self.budget * price([0] * len(thinning.groups))
        reachable(thinning, price, budget, self.cost)
        maker = self.maker(thinning, work)
        gone = list(self.candidates(maker, (price, budget), work)[0].gone)
        gone = filled(thinning, price, gone, budget) if self.fill else gone
        stayed(thinning, gone, work.skip, "the best widths keep all its channels")
        out = thinning.made(gone, work.skip)
        if self.start == "generated":
            held = maker.held(gone, work.use("calib")[0])
            out.load_state_dict(held.state_dict())
        else:
            redraw_(out, work.skip, work.seed)
        work.use("fit")(out, loss=self.loss, habits=(), plan=self.plan)
        return out

    def maker(self, thinning: Thinning, work: Work) -> PruningNet:
        """Return the trained PruningNet."""
        maker = PruningNet(thinning, self.hidden, work.seed)
        work.use("fit")(
            maker, loss=self.loss, habits=(), plan=dataclasses.replace(self.plan, epochs=self.meta_epochs, patience=0)
        )
        return maker.eval()

    def candidates(self, maker: PruningNet, prices: tuple[Price, float], work: Work) -> list[Candidate]:
        """Return every candidate of the evolution, best first."""
        rate, x = error_by(self.judge, work), work.use("calib")[0]
        sizes = (self.generations, self.population, self.top)
        return evolve(maker.thinning, prices, lambda gone: rate(maker.held(gone, x)), sizes, (self.mutation, work.seed))
