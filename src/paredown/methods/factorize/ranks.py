"""A rank for each layer, by what each one alone does to the network's error."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.knob import check_fields, knob
from paredown.core.work import Work
from paredown.cost.priced import priced
from paredown.graph.allocate import Sum, allocate
from paredown.graph.chains import refusal, refusal_on_data, split_
from paredown.graph.low_rank import as_matrix, as_weights, directions, projected, root, share_rank
from paredown.graph.moments import gathered
from paredown.graph.net import Net
from paredown.graph.rating import JUDGES, error_by

HALVINGS = 8
"""Networks that are built and judged to find the least cost within a drop."""

Split = Mapping[str, int]
"""{weight: rank} of the layers that are split; all others stay whole."""


def ranks_of(shape: tuple[int, ...], shares: Sequence[float]) -> tuple[int, ...]:
    """Return the different ranks, rising, at which two factors of an m×n matrix take those shares of its entries."""
    found = sorted({share_rank(shape, share) for share in shares})
    return tuple(rank for rank in found if rank >= 1 and rank * sum(shape) < shape[0] * shape[1])


@dataclass(frozen=True)
class Curves:
    """What each layer alone does at each rank: names; ranks, rising; the rise of the error and the fall of the cost at each.

    whole: error and cost of the network as it was.
    """

    names: tuple[str, ...]
    ranks: tuple[tuple[int, ...], ...]
    rises: tuple[tuple[float, ...], ...]
    falls: tuple[tuple[float, ...], ...]
    whole: tuple[float, float]

    def chosen(self, most: float, what: str) -> Split:
        """Return the ranks with the least sum of rises at a cost of `most` at most; rises are taken to add up.

        A multiple-choice knapsack, solved exactly. Raises BadInput where no ranks meet it.
        """
        harms = [[0.0], *([*row, 0.0] for row in self.rises)]
        costs = [[self.whole[1]], *([*(-fall for fall in row), 0.0] for row in self.falls)]
        at = allocate(harms, [Sum(what, costs, most)])[1:]
        rows = zip(self.names, self.ranks, at, strict=True)
        return {name: ranks[k] for name, ranks, k in rows if k < len(ranks)}


def scan(
    ranks: Mapping[str, Sequence[int]], made: Callable[[Split], Net], judges: Sequence[Callable[[Net], float]]
) -> Curves:
    """Return the curves: one network for each rank of each layer, judged by (error, cost)."""
    error, cost = judges
    base = made({})
    whole = error(base), cost(base)
    rises: list[tuple[float, ...]] = []
    falls: list[tuple[float, ...]] = []
    for name, some in ranks.items():
        nets = [made({name: rank}) for rank in some]
        rises.append(tuple(error(net) - whole[0] for net in nets))
        falls.append(tuple(whole[1] - cost(net) for net in nets))
    return Curves(tuple(ranks), tuple(map(tuple, ranks.values())), tuple(rises), tuple(falls), whole)


@part("factorize.ranks", Card(title="Ranks by rank selection over all layers", paper="arxiv:1505.06798", year=2016,
                              authors="Zhang, Zou, He, Sun; leave-one-out errors: Denton, Zaremba, Bruna, LeCun, Fergus",
                              source="Accelerating Very Deep Convolutional Networks for Classification and Detection, section 3.4",
                              changes={"params"}, needs={"calib", "evaluate"}, gives={"factored"},
                              forbids={"masked", "quantized", "shared"}))  # fmt: skip
@dataclass(frozen=True)
class Ranks:
    """Split each layer alone at every rank, note what the network's error rises by, and choose all ranks by that.

    budget: share of the cost that may stay; the sum of the rises is then the least within it. If 0, max_drop decides: the
    cheapest of such choices whose network, built and judged, has an error that is at most `max_drop` higher. cost: "params",
    "macs", "bits", "bops", or a device whose modelled latency counts. shares: of a layer's weights, for which ranks are
    tried. judge: the error is 1 − the metric on validation ("metric") or the cross-entropy on calibration ("loss"). whiten:
    factors by the layer's outputs on calibration (as `factorize.whitened`), else by the weight alone. samples: of the calibration
    split, for the factors.

    Costs layers × shares judged networks. Differs from the paper: it multiplies the energies kept, an estimate of the
    accuracy, and removes eigenvalues greedily by their fall per operation; here the errors are measured, taken to add up,
    and the choice is exact (a multiple-choice knapsack).
    """

    budget: float = knob(0.5, low=0.0, high=1.0)
    max_drop: float = knob(0.01, low=0.0, high=1.0)
    cost: str = "params"
    shares: tuple = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8)
    judge: str = knob("loss", among=JUDGES, search=False)
    whiten: bool = True
    samples: int = knob(1024, low=1, high=1_000_000, log=True, search=False)

    def __post_init__(self) -> None:
        check_fields(self)
        numbers = all(isinstance(s, float) and 0 < s < 1 for s in self.shares)
        if not self.shares or not numbers or list(self.shares) != sorted(set(self.shares)):
            raise BadInput(f"Ranks.shares={self.shares!r} is not allowed; different shares between 0 and 1, ascending")

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with layers split; those that stay whole are noted. Raises BadInput for a budget out of reach."""
        made, ranks = self.maker(net, work)
        curves = scan(ranks, made, (error_by(self.judge, work), priced(self.cost)))
        chosen = self.choose(curves, made, work)
        for name in set(ranks) - set(chosen):
            work.skip(name, "the errors of all ranks are dearer than what they save")
        return made(chosen)

    @torch.no_grad()
    def maker(self, net: Net, work: Work) -> tuple[Callable[[Split], Net], dict[str, tuple[int, ...]]]:
        """Return (ranks to a copy of `net` with those layers split, the ranks that each layer may have)."""
        able = {}
        for name, node in net.weighted():
            why = (refusal_on_data if self.whiten else refusal)(net, name, node)
            shape = tuple(as_matrix(net.slot(name)()).shape)
            if why or not ranks_of(shape, self.shares):
                work.skip(name, why or f"no share of {shape[0]}×{shape[1]} weights is two smaller layers")
            else:
                able[name] = node
        moments = gathered(net, list(able.values()), work.use("calib")[0][: self.samples]) if self.whiten else {}
        bases: dict[str, Tensor] = {}
        for name, node in able.items():
            matrix = as_matrix(net.slot(name)().detach())
            half = root(moments[node.name][0], 1e-6) if self.whiten else torch.eye(matrix.shape[1]).to(matrix).double()
            bases[name] = directions(matrix, half)[0]

        def made(split: Split) -> Net:
            out = net.copy()
            for name, rank in split.items():
                weight = net.slot(name)().detach()
                factors = projected(as_matrix(weight), bases[name][:, :rank])
                split_(out, name, as_weights(*factors, tuple(weight.shape)), "channel")
            return out

        return made, {name: ranks_of(tuple(as_matrix(net.slot(name)()).shape), self.shares) for name in able}

    def choose(self, curves: Curves, made: Callable[[Split], Net], work: Work) -> Split:
        """Return the ranks by curves that are known; networks are built and judged where max_drop decides."""
        error, whole = error_by(self.judge, work), curves.whole
        if self.budget:
            return curves.chosen(self.budget * whole[1], self.cost)
        least = whole[1] - sum(max(row) for row in curves.falls)
        low, high, best = least, whole[1], dict[str, int]()
        for most in [least, *[None] * HALVINGS]:
            tried = (low + high) / 2 if most is None else most
            split = dict(curves.chosen(tried, self.cost))
            if error(made(split)) <= whole[0] + self.max_drop:
                high, best = tried, split
            else:
                low = tried
            if high <= low:
                break
        return best
