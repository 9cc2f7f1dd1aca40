"""Widths that an agent learns to choose, layer by layer, from what the whole network then scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.kinds import Loss
from paredown.core.knob import check_fields, knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.count import layers
from paredown.graph.allocate import Budget
from paredown.graph.ddpg import Agent, Settings
from paredown.graph.net import Net
from paredown.graph.rating import error_by
from paredown.graph.widths import Trials
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.quantize.mixed import Limits, Mixed, Rounding, budgets_of, trials_of, tried

SCALE = 10.0
"""λ of the reward, for an accuracy from 0 to 1."""


def width_of(action: float, least: int, most: int) -> int:
    """Return round(b_min − 0.5 + a (b_max − b_min + 1)), from b_min to b_max (Wang et al. 2019, equation 1)."""
    return min(most, max(least, round(least - 0.5 + action * (most - least + 1))))


def lowered(at: Sequence[int], budgets: Sequence[Budget]) -> list[int]:
    """Return choices with which all budgets hold: each in turn goes one width down, over and over, until they do.

    at: the place of each width among its item's, the lowest 0 (section 3.2, "we sequentially decrease the bitwidth").
    Raises BadInput if the lowest of all are too much.
    """
    found = list(at)
    while over := [budget for budget in budgets if budget.cost(found) > budget.most]:
        if not any(found):
            budget = over[0]
            raise BadInput(
                f"a budget of {budget.most:g} {budget.what} cannot be met; the least possible is {budget.cost(found):g}"
            )
        for item, k in enumerate(found):
            found[item] = max(0, k - 1)
            if all(budget.cost(found) <= budget.most for budget in budgets):
                break
    return found


def states_of(trials: Trials) -> Tensor:
    """Return one row for each place, [places, 9], each column from 0 to 1: what HAQ's agent sees but its last action.

    Columns: index, input channels, output channels, kernel size, stride, size of the input map, parameters, depthwise or
    not, weight or activation (Wang et al. 2019, equations 2 and 3).
    """
    rows = [_state(trials, at) for at in range(len(trials.places))]
    table = torch.tensor(rows, dtype=torch.float32).reshape(len(rows), 9)
    low, high = (table.amin(0), table.amax(0)) if rows else (table.sum(0), table.sum(0))
    return (table - low) / torch.where(high > low, high - low, torch.ones_like(high))


def _state(trials: Trials, at: int) -> list[float]:
    place, net = trials.places[at], trials.net
    reads = "input" if place.flows else "weight"
    node = next(n for _, n in net.weighted() if str(n.args[reads]) == place.name)
    row = next(row for row in layers(net) if row.slot == str(node.slot("weight")))
    loops = row.geometry
    kernel, inputs, outputs = (loops.kernel[-1], loops.channels_in, loops.channels_out) if loops else (1, 1, 1)
    stride = node.get("stride")[0] if node.op.startswith("conv") else 1
    shape = net.shapes()[str(node.args["input"])]
    return [at, inputs, outputs, kernel, stride, shape[-1], row.weights, row.kind == "depthwise", not place.flows]


@dataclass(frozen=True)
class Episode:
    """One policy that was tried: the widths after the budgets, and the reward."""

    widths: tuple[int, ...]
    reward: float


def action_of(bits: int, least: int, most: int) -> float:
    """Return the middle of the actions that `width_of` turns into a width."""
    return (bits - least + 0.5) / (most - least + 1)


def search(
    trials: Trials,
    budgets: Sequence[Budget],
    score: Callable[[list[int]], float],
    agent: Agent,
    episodes: tuple[int, int],
) -> list[Episode]:
    """Return all episodes, in order, each within the budgets.

    score: the reward of widths. episodes: how many with actions drawn evenly, and how many in all. The agent remembers the
    actions as the budgets left them.
    """
    table, ends = states_of(trials), [(widths[0], widths[-1]) for widths in trials.widths]
    found: list[Episode] = []
    known: dict[tuple[int, ...], float] = {}
    for number in range(episodes[1]):
        actions = _actions(table, agent, number < episodes[0])
        at = [width_of(a, *end) - end[0] for a, end in zip(actions, ends, strict=True)]
        widths = tuple(w[k] for w, k in zip(trials.widths, lowered(at, budgets), strict=True))
        if widths not in known:
            known[widths] = score(list(widths))
        found.append(Episode(widths, known[widths]))
        taken = [action_of(bits, *end) for bits, end in zip(widths, ends, strict=True)]
        agent.remember(_seen(table, taken), taken, known[widths])
        agent.learn(len(table))
        if number >= episodes[0]:
            agent.calm()
    return found


def _actions(table: Tensor, agent: Agent, evenly: bool) -> list[float]:
    actions: list[float] = []
    for row in table:
        state = torch.cat([row, row.new_tensor(actions[-1:] or [0.0])])
        actions.append(agent.explore() if evenly else agent.act(state))
    return actions


def _seen(table: Tensor, actions: list[float]) -> list[Tensor]:
    """Return the states of an episode: each place's row, and the action before it."""
    return [torch.cat([row, row.new_tensor([last])]) for row, last in zip(table, [0.0, *actions], strict=False)]


@part("quantize.haq", Card(title="HAQ: hardware-aware automated quantization", paper="arxiv:1811.08886", year=2019,
                           authors="Wang, Liu, Lin, Lin, Han",
                           source="HAQ: Hardware-Aware Automated Quantization with Mixed Precision, section 3",
                           changes={"bits", "bytes"}, needs={"calib", "fit", "evaluate"}, forbids={"quantized", "shared"},
                           gives={"quantized"}))  # fmt: skip
@dataclass(frozen=True)
class Haq:
    """Let a DDPG agent choose each layer's width, and each activation's, within budgets; then round to the best found.

    mean_bits, limits: the budgets, as in `quantize.mixed`. least, most: the widths in between are allowed.
    activations: whether what feeds the layers gets widths too (from 2). episodes: policies that are tried, the first
    `warm` of them drawn evenly. reward: 10 · (accuracy − that of `net`) on validation ("metric"), or the calibration
    loss that was, less what it is ("loss"), which moves where few samples leave accuracies equal. tune: epochs of training
    at the widths before each reward, or 0. rounding, bias_bits: as in `quantize.mixed`, for the widths that are kept.

    Differs from the paper: linear levels with steps of least squared error in every case, where it has k-means for sizes;
    no retraining before a reward unless `tune` says so; budgets on counted costs, not on a simulator's; the agent
    learns from the widths as the budgets left them; 200 episodes.
    """

    mean_bits: float = knob(4.0, low=0.0, high=8.0)
    least: int = knob(2, among=range(9), search=False)
    most: int = knob(8, among=range(1, 9), search=False)
    activations: bool = False
    limits: Limits = Limits()
    episodes: int = knob(200, low=1, high=100_000, log=True, search=False)
    warm: int = knob(40, low=0, high=100_000, search=False)
    reward: str = knob("metric", among=("metric", "loss"), search=False)
    tune: float = knob(0.0, low=0.0, high=1000.0, search=False)
    rounding: str = knob("mse", among=("max", "mse", "trained"))
    bias_bits: int = knob(8, among=(0, 4, 5, 6, 7, 8), search=False)
    loss: Loss = CrossEntropy()
    habits: tuple = ()
    plan: Plan = Plan()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.least > self.most:
            raise BadInput(f"Haq.least={self.least} is above Haq.most={self.most}; allowed: least <= most")
        self.choices()

    def choices(self) -> Mixed:
        """Return the step that rounds to widths from among the same ones."""
        flowing = tuple(range(max(2, self.least), self.most + 1)) if self.activations else ()
        return Mixed(
            self.mean_bits, rounding=self.rounding, bias_bits=self.bias_bits, limits=self.limits, loss=self.loss,
            widths=tuple(range(self.least, self.most + 1)), activation_widths=flowing, habits=self.habits, plan=self.plan,
        )  # fmt: skip

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` at the widths of the best episode. Raises BadInput where the budgets cannot be met."""
        trials = trials_of(net.copy().eval(), self.choices(), work)
        best = max(self.tries(trials, work), key=lambda episode: episode.reward)
        return self._rounding(self.rounding, self.plan).applied(trials, best.widths, work)

    def tries(self, trials: Trials, work: Work) -> list[Episode]:
        """Return every episode of the search."""
        agent = Agent(10, Settings(), work.seed)
        budgets = budgets_of(trials, self.limits, self.mean_bits)
        return search(trials, budgets, self._reward(trials, work), agent, (self.warm, self.episodes))

    def _reward(self, trials: Trials, work: Work) -> Callable[[list[int]], float]:
        error, scale = error_by(self.reward, work), SCALE if self.reward == "metric" else 1.0
        before = error(trials.net)
        short = self._rounding("trained", replace(self.plan, epochs=max(0.1, self.tune)))

        def reward(widths: list[int]) -> float:
            made = short.applied(trials, widths, work).eval() if self.tune else tried(trials, widths)
            return scale * (before - error(made))

        return reward

    def _rounding(self, way: str, plan: Plan) -> Rounding:
        return Rounding(way, self.bias_bits, self.loss, self.habits, plan)
