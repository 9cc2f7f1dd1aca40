"""How much of each group stays, learned by an agent from what the whole network then scores."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.kinds import Score
from paredown.core.knob import check_fields, knob
from paredown.core.work import Work
from paredown.cost.count import layers
from paredown.cost.priced import priced
from paredown.graph.ddpg import Agent, Settings
from paredown.graph.net import Net
from paredown.graph.rating import JUDGES, error_by
from paredown.graph.repair import repair_
from paredown.graph.shrink import Chosen
from paredown.graph.thinning import Price, Thinning, fewest, filled, price_of, reachable, stayed, thinning_of
from paredown.methods.score.l1 import L1

PROTOCOLS = ("resource", "accuracy")


@dataclass(frozen=True)
class Episode:
    """One policy that was tried: how many units of each group went, what the network costs, and the reward."""

    gone: tuple[int, ...]
    cost: float
    reward: float


def states_of(thinning: Thinning) -> Tensor:
    """Return one row for each group, [groups, 8], each column from 0 to 1: what does not change in an episode.

    Columns: index, output channels, input channels, height, width, stride, kernel size, MACs of the layers that make the
    group's channels (He et al. 2018, section 3.1: t, n, c, h, w, stride, k, FLOPs[t]). The shape is the first maker's.
    """
    rows = [_state(thinning, at) for at in range(len(thinning.groups))]
    table = torch.tensor(rows, dtype=torch.float32).reshape(len(rows), 8)
    return table / table.amax(0).clamp(min=1e-9) if rows else table


def _state(thinning: Thinning, at: int) -> list[float]:
    net, group = thinning.net, thinning.groups[at]
    counted = layers(net)
    made = [row for slot in dict.fromkeys(slot for slot, _ in group.makers) for row in counted if row.slot == slot]
    loops = made[0].geometry if made else None
    node = net.spec.slot_users()[group.makers[0][0]][0]
    stride = node.get("stride")[0] if node.op.startswith("conv") else 1
    sides = [*(net.shapes().get(str(node.args.get("input")), ())[2:] or (1, 1)), 1]
    outputs, inputs, kernel = (loops.channels_out, loops.channels_in, loops.kernel[-1]) if loops else (len(group), 1, 1)
    return [at + 1, outputs, inputs, sides[0], sides[1], stride, kernel, sum(row.macs for row in made)]


def search(
    thinning: Thinning,
    prices: tuple[Price, float],
    reward: Callable[[list[int]], float],
    agent: Agent,
    episodes: tuple[int, int],
) -> list[Episode]:
    """Return all episodes, in order, each within the budget.

    prices: what counts cost, and the budget. reward: of counts. episodes: how many with actions drawn evenly, and how many
    in all. The agent remembers the actions as the budget left them.
    """
    table, found = states_of(thinning), list[Episode]()
    known: dict[tuple[int, ...], float] = {}
    for number in range(episodes[1]):
        gone, states, taken = _played(thinning, prices, table, agent, number < episodes[0])
        key = tuple(gone)
        if key not in known:
            known[key] = reward(gone)
        found.append(Episode(key, prices[0](gone), known[key]))
        agent.remember(states, taken, known[key])
        agent.learn(len(table))
        if number >= episodes[0]:
            agent.calm()
    return found


def _played(
    thinning: Thinning, prices: tuple[Price, float], table: Tensor, agent: Agent, evenly: bool
) -> tuple[list[int], list[Tensor], list[float]]:
    """Return an episode's counts, states and actions: the share that stays of each group, one group after another.

    What goes of a group is at least what lets the budget hold if all later groups lost all they may (algorithm 1).
    """
    price, budget = prices
    whole, macs = price([0] * len(table)), table[:, -1]
    done: list[int] = []
    states: list[Tensor] = []
    taken: list[float] = []
    for at, group in enumerate(thinning.groups):
        left = len(table) - at
        reduced = 1 - price([*done, *[0] * left]) / whole
        rest = float(macs[at + 1 :].sum() / macs.sum().clamp(min=1e-9))
        states.append(torch.cat([table[at], table.new_tensor([reduced, rest, taken[-1] if taken else 1.0])]))
        action = agent.explore() if evenly else agent.act(states[-1])
        most = thinning.most[at]
        wanted = min(most, max(0, round((1 - action) * len(group))))
        needed = fewest(thinning, price, [*done, wanted, *thinning.most[at + 1 :]], at, budget)
        done.append(most if needed is None else needed)
        taken.append(1 - done[-1] / len(group))
    return done, states, taken


@part("prune.amc", Card(title="AMC: AutoML for model compression", paper="arxiv:1802.03494", year=2018,
                        authors="He, Lin, Liu, Wang, Li, Han",
                        source="AMC: AutoML for Model Compression and Acceleration on Mobile Devices, section 3, algorithm 1",
                        changes={"params", "nonzero", "bits", "macs"}, needs={"calib", "evaluate"},
                        forbids={"quantized", "shared"}, gives={"thin"}))  # fmt: skip
@dataclass(frozen=True)
class Amc:
    """Let a DDPG agent choose which share of each group stays; then thin to the best policy that it tried.

    protocol: "resource" holds every episode to the budget and rewards −error; "accuracy" has no budget and rewards
    −error · log(cost). budget: share of the cost that may stay. cost: "macs", "params", "bits", "bops", or a device whose
    modelled latency counts. score: a score part; the lowest go first. repair: refit, by least squares on the calibration split,
    the weights that read removed channels before each reward (nothing is trained), and in the network that is returned.
    episodes: policies that are tried, the first `warm` of them with actions drawn evenly. judge: the error is 1 − the
    metric on validation ("metric") or the cross-entropy on calibration ("loss"), which moves where few samples leave
    accuracies equal. fill: after the search, units come back while the budget holds.

    Differs from the paper: actions choose what a group makes, not what a layer reads; all units are chosen by scores of the
    whole network; the state's numbers are shares of the largest; the agent learns from the actions as the budget left
    them; fine-tuning is left to `train.finetune`.
    """

    budget: float = knob(0.5, low=0.02, high=1.0)
    cost: str = "macs"
    protocol: str = knob("resource", among=PROTOCOLS, search=False)
    score: Score = field(default_factory=L1)
    repair: bool = True
    episodes: int = knob(400, low=1, high=100_000, log=True, search=False)
    warm: int = knob(100, low=0, high=100_000, search=False)
    judge: str = knob("metric", among=JUDGES, search=False)
    fill: bool = True

    def __post_init__(self) -> None:
        check_fields(self)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a thin copy of `net`. Raises BadInput where the budget cannot be met."""
        thinning = thinning_of(net, self.score, work)
        price, budget = self._prices(thinning)
        best = max(self.tries(thinning, work), key=lambda episode: episode.reward)
        gone = list(best.gone)
        if self.fill and self.protocol == "resource":
            gone = filled(thinning, price, gone, budget)
        stayed(thinning, gone, work.skip, "the best policy keeps all its channels")
        out, went = thinning.removed(gone, work.skip)
        return self._mended(thinning, out, went, work, work.skip) if self.repair else out

    def tries(self, thinning: Thinning, work: Work) -> list[Episode]:
        """Return every episode of the search."""
        prices = self._prices(thinning)
        agent = Agent(11, Settings(), work.seed)
        return search(thinning, prices, self._reward(thinning, prices[0], work), agent, (self.warm, self.episodes))

    def _prices(self, thinning: Thinning) -> tuple[Price, float]:
        price = price_of(thinning, priced(self.cost))
        budget = self.budget * price([0] * len(thinning.groups)) if self.protocol == "resource" else math.inf
        reachable(thinning, price, budget, self.cost)
        return price, budget

    def _reward(self, thinning: Thinning, price: Price, work: Work) -> Callable[[list[int]], float]:
        error = error_by(self.judge, work)

        def reward(gone: list[int]) -> float:
            net = thinning.sketch(gone)
            wrong = error(
                self._mended(thinning, net.copy(), thinning.chosen(gone), work, _quiet) if self.repair else net
            )
            return -wrong * (math.log(max(math.e, price(gone))) if self.protocol == "accuracy" else 1.0)

        return reward

    def _mended(
        self, thinning: Thinning, net: Net, chosen: Chosen, work: Work, skip: Callable[[str, str], None]
    ) -> Net:
        repair_(net, thinning.net, chosen, work.use("calib")[0], skip, work.seed)
        return net


def _quiet(layer: str, why: str) -> None:
    """Say nothing: what could not be refit is said of the network that is returned."""
