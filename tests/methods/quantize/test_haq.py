"""HAQ: every episode within its budgets, insensitive layers narrow, and no worse than one width for all."""

import itertools

import pytest
import torch

from contracts.digits_task import accuracy
from contracts.nets import small_conv, small_mlp
from contracts.pooled_digits import pictures, pooled
from contracts.step import StepContract
from contracts.trained_step import samples
from paredown.core.errors import BadInput
from paredown.core.metric import METRICS, quality
from paredown.core.work import Work
from paredown.cost.count import count
from paredown.graph.allocate import Sum
from paredown.graph.ddpg import Agent
from paredown.graph.fold import fold_batchnorm
from paredown.graph.net import Net
from paredown.graph.widths import Place, Trials
from paredown.methods.quantize.haq import Haq, action_of, lowered, search, states_of, width_of
from paredown.methods.quantize.mixed import Limits, Mixed, budgets_of, trials_of


def graded(net: Net) -> Work:
    """Return samples with the labels that `net` gives them: its accuracy is 1."""
    x = samples(net, 64).x
    y = net.eval()(x).argmax(1).detach()

    def evaluate(other: Net) -> object:
        return quality(METRICS["accuracy"], "val", other.eval()(x).detach().numpy(), y.numpy())

    return Work({"calib": (x, y), "evaluate": evaluate})


class TestHaq(StepContract):
    def part(self) -> Haq:
        return Haq(4.0, episodes=6, warm=3)

    def settings(self) -> list[Haq]:
        return [Haq(0.0, 1, 6, True, Limits(bops=10**6), 50, 10, "loss", 1.0, "trained", 0)]

    def work(self, seed: int = 0) -> Work:
        return Work({**super().work(seed).services, "evaluate": self._evaluate}, seed)

    @staticmethod
    def _evaluate(net: Net) -> object:
        x = samples(net).x
        return quality(METRICS["accuracy"], "val", net.eval()(x).detach().numpy(), (torch.arange(32) % 10).numpy())


def test_actions_are_spread_evenly_over_the_widths() -> None:
    """Equation 1: each of 2 … 8 gets a seventh of the actions; the middle of its range is `action_of`."""
    found = [width_of(a / 7000, 2, 8) for a in range(7001)]
    assert found == sorted(found) and {found.count(bits) // 10 for bits in range(2, 9)} == {99, 100}
    assert all(width_of(action_of(bits, 2, 8), 2, 8) == bits for bits in range(2, 9))


def test_widths_go_down_in_turn_until_the_budget_holds() -> None:
    costs = [[2.0, 3.0, 4.0]] * 3
    assert lowered([2, 2, 2], [Sum("bits", costs, 12)]) == [2, 2, 2]
    assert lowered([2, 2, 2], [Sum("bits", costs, 10)]) == [1, 1, 2]
    assert lowered([2, 0, 2], [Sum("bits", costs, 7)]) == [0, 0, 1]
    with pytest.raises(BadInput, match="5 bits cannot be met; the least possible is 6"):
        lowered([2, 2, 2], [Sum("bits", costs, 5)])


def test_every_episode_is_within_its_budgets() -> None:
    net = fold_batchnorm(small_conv())[0].eval()
    work = graded(net)
    wide = count(net).bops
    step = Haq(3.5, 2, 8, True, Limits(bops=wide // 100), episodes=12, warm=9, reward="loss")
    trials = trials_of(net, step.choices(), work)
    budgets = budgets_of(trials, step.limits, step.mean_bits)
    episodes = step.tries(trials, work)
    assert len(episodes) == 12 and len({e.widths for e in episodes}) > 5 and len(budgets) == 2
    for episode in episodes:
        at = [w.index(b) for w, b in zip(trials.widths, episode.widths, strict=True)]
        assert all(budget.cost(at) <= budget.most for budget in budgets)
    out = step.apply(net, work)
    assert count(out).bops <= wide // 100
    best = max(episodes, key=lambda e: e.reward).widths
    bits = [out.slot(place.name).bits for place in trials.places if not place.flows]
    assert bits == list(best[: len(bits)])


def planted(seed: int) -> tuple[Trials, list[float]]:
    """Return five layers of 8-bit harms, of which layer 3 does not mind, and what a bit less costs in each."""
    net = small_mlp().eval()
    names = [name for name, _ in net.weighted()]
    places = tuple(Place(names[at % 3]) for at in range(3))
    minds = [1.0, 1.0, 1.0]
    minds[seed % 3] = 0.0
    return Trials(net, places, (tuple(range(2, 9)),) * 3), minds


@pytest.mark.parametrize("seed", range(3))
def test_the_layer_that_does_not_mind_gets_the_lowest_width(seed: int) -> None:
    """The reward is −Σ mind · 4^(2 − bits) with 5 bits on average: brute force finds the same layer narrowest."""
    trials, minds = planted(seed)
    budget = Sum("bits", [[float(bits) for bits in range(2, 9)]] * 3, 15.0)

    def reward(widths: list[int]) -> float:
        return -sum(m * 4.0 ** (2 - bits) for m, bits in zip(minds, widths, strict=True))

    episodes = search(trials, [budget], reward, Agent(10, seed=seed), (25, 60))
    best = max(episodes, key=lambda e: e.reward)
    within = [w for w in itertools.product(range(2, 9), repeat=3) if sum(w) <= 15]
    assert min(range(3), key=lambda at: best.widths[at]) == seed % 3
    assert best.reward >= reward([5, 5, 5]) / 2 and best.reward <= max(reward(list(w)) for w in within)


def test_it_beats_two_bits_everywhere_at_no_more_bits_on_digits() -> None:
    """Rounded after training, three seeds; the reward is the calibration loss."""
    for seed in range(3):
        net, (train, test) = pooled(seed), pictures(seed)
        work = Work({"calib": (train.x[:256], train.y[:256])}, seed)
        out = Haq(2.0, 1, 8, episodes=40, warm=30, reward="loss").apply(net, work)
        uniform = Mixed(2.0, widths=(2,)).apply(net, work)
        assert count(out).bits <= count(uniform).bits
        assert accuracy(out, test) > accuracy(uniform, test) + 10, seed


def test_states_are_from_zero_to_one_and_tell_layers_apart() -> None:
    net = fold_batchnorm(small_conv())[0].eval()
    trials = trials_of(net, Haq(activations=True).choices(), graded(net))
    table = states_of(trials)
    assert table.shape == (len(trials.places), 9) and table.min() == 0 and table.max() == 1
    assert len({tuple(row.tolist()) for row in table}) == len(table)
    deep = next(at for at, place in enumerate(trials.places) if place.name == "deep.weight")
    assert table[deep, 7] == 1 and table[deep, 3] == 1 and table[:, 8].sum() == 5


@pytest.mark.parametrize("wrong", [{"least": 6, "most": 4}, {"reward": "luck"}, {"episodes": 0}, {"mean_bits": 0.0}])
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Haq(**wrong)
