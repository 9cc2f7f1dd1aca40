"""Training with masks that a habit moves."""

import pytest
import torch

from contracts.digits_task import accuracy, digits
from contracts.nets import inputs_for
from contracts.trained_step import TrainedStepContract, deep_mlp, trainer
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.masks import mask_of
from paredown.graph.net import Net
from paredown.methods.habit.gradual import Gradual
from paredown.methods.habit.rigl import RigL
from paredown.methods.habit.set import Evolve
from paredown.methods.habit.sr_ste import SrSte
from paredown.methods.prune.dynamic import Dynamic
from paredown.methods.prune.weights import Weights
from paredown.methods.saliency.random_weights import RandomWeights
from paredown.methods.structure.n_m import NM

SHORT = Plan(epochs=3, lr=1e-2, batch=8)


class TestRigged(TrainedStepContract):
    def part(self) -> Dynamic:
        return Dynamic(0.7, RigL(every=2), plan=SHORT)


class TestEvolved(TrainedStepContract):
    def part(self) -> Dynamic:
        return Dynamic(0.7, Evolve(every=2), RandomWeights(), plan=SHORT)


class TestGradual(TrainedStepContract):
    def part(self) -> Dynamic:
        return Dynamic(0.0, Gradual(0.7, every=2), plan=SHORT)


class TestTwoOfFour(TrainedStepContract):
    def part(self) -> Dynamic:
        return Dynamic(0.5, SrSte(), structure=NM(), plan=SHORT)

    def excused(self, net: Net, weight: str) -> bool:
        return False


def density(net: Net) -> list[float]:
    return [float(mask_of(net, name).float().mean()) for name, _ in net.weighted()]


@pytest.mark.parametrize(("habit", "wanted"), [(RigL(every=5), 0.1), (Evolve(every=5), 0.1), (Gradual(0.9), 0.1)])
def test_the_sparsity_is_what_was_asked_for_and_digits_are_read(habit: object, wanted: float) -> None:
    train, test = digits(0)
    begin = 0.0 if isinstance(habit, Gradual) else 0.9
    part = Dynamic(begin, habit, plan=Plan(epochs=6, lr=5e-3))
    out = part.apply(deep_mlp(0), Work({"fit": trainer(train)}))
    assert density(out) == pytest.approx([wanted] * 3, abs=0.01)
    assert accuracy(out, test) > 93


def test_masks_move_and_what_is_held_is_two_of_four() -> None:
    net = deep_mlp(0)
    part = Dynamic(0.5, SrSte(), structure=NM(), plan=Plan(epochs=2, lr=5e-3))
    out = part.apply(net, Work({"fit": trainer(digits(0)[0])}))
    start = Weights(0.5, structure=NM()).apply(net, Work())
    for name, _ in net.weighted():
        mask = mask_of(out, name)
        assert (mask[:, : mask.shape[1] // 4 * 4].reshape(len(mask), -1, 4).sum(2) == 2).all()
        assert not torch.equal(mask, mask_of(start, name))


def test_it_begins_where_masks_were() -> None:
    net = Weights(0.9, RandomWeights()).apply(deep_mlp(0), Work(seed=5))
    still = Dynamic(0.0, Evolve(fraction=0.0), plan=SHORT)
    out = still.apply(net, Work({"fit": trainer(digits(0)[0])}))
    assert all(torch.equal(mask_of(out, name), mask_of(net, name)) for name, _ in net.weighted())
    assert not torch.equal(out(*inputs_for(out)), net.eval()(*inputs_for(net)))
