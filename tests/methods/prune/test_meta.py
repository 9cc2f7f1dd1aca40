"""MetaPruning: weights for any widths, evolution within the budget, a ranking that training from scratch agrees with."""

import functools
import random

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from contracts.digits_task import accuracy
from contracts.judged import JudgedStepContract, labelled, on_digits
from contracts.nets import small_conv, small_mlp
from contracts.pooled_digits import pictures
from contracts.step import macs, same
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.priced import priced
from paredown.graph.capture import capture
from paredown.graph.net import Net
from paredown.graph.rating import error_by
from paredown.graph.thinning import Thinning, price_of, thinning_of
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.prune.meta import Meta, PruningNet, evolve, front, redraw_
from paredown.methods.score.l1 import L1


class TestMeta(JudgedStepContract):
    def part(self) -> Meta:
        return Meta(0.6, hidden=4, meta_epochs=1, generations=2, population=3, judge="loss", plan=Plan(epochs=1))

    def settings(self) -> list[Meta]:
        return [Meta(0.4, "nvidia_t4", 8, 5.0, 3, 7, 2, 0.3, "generated", "metric", False)]


class TestMetaFromGenerated(JudgedStepContract):
    def part(self) -> Meta:
        return Meta(0.5, hidden=4, meta_epochs=1, generations=1, population=2, start="generated", plan=Plan(epochs=1))


def thinned(net: Net) -> Thinning:
    """Return the thinning that keeps the front."""
    return front(thinning_of(net, L1(), Work()))


@pytest.mark.parametrize("make", [small_conv, small_mlp])
def test_generated_weights_fit_any_widths(make) -> None:
    net = make()
    thinning = thinned(net)
    maker = PruningNet(thinning, 4, 0)
    x, draw = net.example(8), random.Random(0)
    for gone in [
        [0] * len(thinning.most),
        thinning.most,
        *([draw.randint(0, m) for m in thinning.most] for _ in range(5)),
    ]:
        made, like = maker.held(gone, x[0]), thinning.made(gone, lambda *_: None)
        assert made.spec == like.spec and made.slot_names() == like.slot_names()
        assert all(made.slot(n)().shape == like.slot(n)().shape for n in made.slot_names())
        assert same(made(*x), maker.at(gone).train()(*x), 1e-4), "the norms are those of the batch"
        assert torch.isfinite(made(*x)).all()


def test_weights_are_the_front_of_what_the_encoding_generates() -> None:
    thinning = thinned(small_mlp())
    maker = PruningNet(thinning, 4, 0)
    made = maker.at([8, 4])
    full = maker.slot("2.weight")()
    assert torch.equal(maker.encoding(), torch.tensor([0.75, 0.75])) and full.shape == (16, 32)
    assert torch.equal(made.slot("2.weight")(), full[:12, :24])
    maker.at([0, 0])
    assert not torch.equal(maker.slot("2.weight")()[:12, :24], full[:12, :24]), "another encoding, other weights"


def test_it_trains_at_random_widths_and_leaves_the_network_alone() -> None:
    net = small_conv()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    maker, seen = PruningNet(thinned(net), 4, 0).train(), set[tuple[float, ...]]()
    for _ in range(6):
        maker(torch.rand(4, 1, 8, 8)).sum().backward()
        seen.add(tuple(maker.encoding().tolist()))
    assert len(seen) > 3 and all(p.grad is not None for p in maker.parameters())
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items())


def test_every_candidate_is_within_the_budget_and_evolution_finds_the_good_ones() -> None:
    thinning = thinned(small_mlp())
    price = price_of(thinning, priced("macs"))
    budget, asked = 0.5 * price([0, 0]), list[tuple[int, ...]]()

    def error(gone: list[int]) -> float:
        asked.append(tuple(gone))
        return abs(gone[0] - 20) + abs(gone[1] - 3)

    found = evolve(thinning, (price, budget), error, (8, 20, 5), (0.3, 0))
    assert len(asked) == len(set(asked)) == len(found) > 40 and all(price(c.gone) == c.cost <= budget for c in found)
    assert [c.error for c in found] == sorted(c.error for c in found)
    first = min(error(list(gone)) for gone in asked[:20])
    assert found[0].error <= min(2, first)
    assert evolve(thinning, (price, budget), error, (8, 20, 5), (0.3, 0)) == found


def test_what_it_returns_is_within_the_budget_and_does_not_use_what_was_learned() -> None:
    net = small_mlp()
    step, work = Meta(0.4, meta_epochs=1, generations=2, population=4, plan=Plan(epochs=1)), labelled(net)
    out = step.apply(net, work)
    other = small_mlp()
    for parameter in other.parameters():
        parameter.data.mul_(-2)
    again = step.apply(other, work)
    assert macs(out) <= 0.4 * macs(net) and out.spec == again.spec
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in out.state_dict().items())


def test_fresh_weights_are_within_their_bounds_and_norms_are_the_identity() -> None:
    net, notes = small_conv(), list[str]()
    redraw_(net, lambda name, why: notes.append(name), 0)
    assert not notes and net.slot("wide.weight")().abs().max() <= 1 / 72**0.5
    assert net.slot("wide.weight")().abs().max() > 0.9 / 72**0.5 and net.slot("wide.bias")().abs().max() <= 1 / 72**0.5
    assert (net.slot("n1.weight")() == 1).all() and (net.slot("n1.bias")() == 0).all()
    assert (net.slot("n1.running_var")() == 1).all() and (net.slot("n1.running_mean")() == 0).all()


@functools.cache
def narrow(seed: int) -> Net:
    """Return 64-32-24-10 with norms, untrained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in ((64, 32), (32, 24)):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
        return capture(nn.Sequential(*layers, nn.Linear(24, 10)).eval(), torch.rand(2, 1, 8, 8))


def test_generated_weights_rank_widths_as_training_from_scratch_does() -> None:
    """Three seeds on digits, eight widths at random: Spearman's correlation of losses. Measured: 0.91, 0.83, 0.79."""
    for seed in range(3):
        work, thinning = on_digits(seed), thinned(narrow(seed))
        step, draw = Meta(meta_epochs=5, plan=Plan(epochs=4, lr=1e-2, batch=128)), random.Random(seed)
        maker, loss = step.maker(thinning, work), error_by("loss", work)
        generated, trained = [], []
        for gone in [[draw.randint(0, most) for most in thinning.most] for _ in range(8)]:
            generated.append(loss(maker.held(gone, work.use("calib")[0])))
            out = thinning.sketch(gone).copy()
            redraw_(out, lambda *_: None, seed)
            work.use("fit")(out, CrossEntropy(), (), step.plan)
            trained.append(-accuracy(out, pictures(seed)[1]))
        assert spearmanr(generated, trained)[0] > 0.5, seed


@pytest.mark.parametrize("wrong", [{"budget": 0.0}, {"start": "luck"}, {"generations": 0}, {"mutation": 2.0}])
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Meta(**wrong)
