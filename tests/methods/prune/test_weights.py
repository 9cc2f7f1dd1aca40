"""The weights that matter least are held at zero; what is said about weights holds for any saliency and structure."""

import functools
import itertools

import pytest
import torch
from torch import nn

from contracts.digits_task import accuracy, digits
from contracts.nets import small_conv, small_mlp
from contracts.step import StepContract, nonzero
from contracts.trained_step import trainer
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.core.recipe import Recipe
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.masks import mask_of
from paredown.graph.net import Net
from paredown.graph.slots import Grid, Masked
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.prune.weights import Weights, eased_dropout, sparsities
from paredown.methods.saliency.expansion import Expansion
from paredown.methods.saliency.grasp import Grasp
from paredown.methods.saliency.magnitude import Magnitude
from paredown.methods.saliency.random_weights import RandomWeights
from paredown.methods.saliency.snip import Snip
from paredown.methods.saliency.synflow import Synflow
from paredown.methods.structure.block import Block
from paredown.methods.structure.granularity import Granularity
from paredown.methods.structure.n_m import NM
from paredown.methods.structure.pattern import Pattern
from paredown.methods.train.finetune import Finetune
from paredown.train.fit import fit


class TestWeights(StepContract):
    def part(self) -> Weights:
        return Weights(0.6)

    def settings(self) -> list[Weights]:
        filters = Granularity("filter", power=2.0)
        return [Weights(0.9, scope="global"), Weights(0.5, structure=filters), Weights(0.9, Synflow(), rounds=9)]


class TestKernelsGlobally(StepContract):
    def part(self) -> Weights:
        return Weights(0.5, structure=Granularity("kernel"), scope="global")


class TestSnipInTwoOfFour(StepContract):
    def part(self) -> Weights:
        return Weights(0.5, Snip(), NM())


class TestGraspInPatternsByRounds(StepContract):
    def part(self) -> Weights:
        return Weights(0.7, Grasp(), Pattern(), "global", rounds=3)


class TestExpansionInBlocks(StepContract):
    def part(self) -> Weights:
        return Weights(0.6, Expansion(), Block(2, 4))


def test_density_falls_by_the_same_factor_in_each_round() -> None:
    found = [1 - s for s in sparsities(0.992, 3, "exponential")]
    assert found == pytest.approx([0.2, 0.04, 0.008]) and sparsities(0.6, 3, "linear") == pytest.approx([0.2, 0.4, 0.6])
    assert sparsities(0.7, 1, "linear") == sparsities(0.7, 1, "exponential") == [0.7]


def zeros(net: Net) -> list[float]:
    return [float((net.slot(name)() == 0).float().mean()) for name, _ in net.weighted()]


def test_layer_and_global_scope() -> None:
    net = small_mlp()
    with torch.no_grad():
        net.slot("0.weight").value.mul_(0.01)
    each = Weights(0.5).apply(net, Work())
    assert zeros(each) == pytest.approx([0.5] * 3)
    everywhere = Weights(0.5, scope="global").apply(net, Work())
    share = zeros(everywhere)
    assert share[0] > 0.6 and max(share[1:]) < 0.05
    total = sum(net.slot(n)().numel() for n, _ in net.weighted())
    assert sum(int((everywhere.slot(n)() == 0).sum()) for n, _ in net.weighted()) == total // 2


def test_biases_and_norms_stay_and_masks_grow() -> None:
    net = small_conv()
    once = Weights(0.5).apply(net, Work())
    twice = Weights(0.8, structure=Granularity("kernel")).apply(once, Work())
    for name in net.slot_names():
        assert (type(twice.slot(name)) is Masked) == (name in dict(net.weighted()))
    for name, _ in net.weighted():
        assert not (twice.slot(name).mask & ~once.slot(name).mask).any()
    assert nonzero(twice) < nonzero(once)


def test_what_is_masked_goes_first_even_where_saliencies_are_negative() -> None:
    net = Weights(0.5, RandomWeights()).apply(small_mlp(), Work(seed=3))
    x = torch.rand(32, 64, generator=torch.Generator().manual_seed(0))
    again = Weights(0.5, Grasp()).apply(net, Work({"calib": (x, torch.arange(32) % 10)}))
    assert all(torch.equal(mask_of(net, name), mask_of(again, name)) for name, _ in net.weighted())


def test_training_keeps_zeros() -> None:
    net = Weights(0.5).apply(small_mlp(), Work()).train()
    zero = net.slot("0.weight")() == 0
    net(torch.rand(8, 64)).square().mean().backward()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter -= 0.1 * parameter.grad
    assert (net.slot("0.weight")()[zero] == 0).all()


def test_codes_are_left_alone_and_noted() -> None:
    net = small_mlp()
    net.set_slot("2.weight", Grid(torch.ones(16, 32), torch.tensor(0.1), 4))
    work = Work().scoped("prune.weights", ())
    assert isinstance(Weights(0.5).apply(net, work).slot("2.weight"), Grid)
    assert [note.layer for note in work.notes] == ["2.weight"]


def test_a_collapsed_layer_and_an_untouched_one_are_noted() -> None:
    net = small_mlp()
    with torch.no_grad():
        net.slot("2.weight").value.mul_(1e-4)
        net.slot("4.weight").value.mul_(1e4)
    work = Work()
    out = Weights(0.9, scope="global").apply(net, work)
    assert {note.layer: note.text.split(":")[0] for note in work.notes} == {
        "2.weight": "the layer has collapsed", "4.weight": "all of its weights stay",
    }  # fmt: skip
    assert zeros(out)[1] == 1 and zeros(out)[2] == 0


def test_bad_settings_are_refused() -> None:
    for bad in (lambda: Weights(1.0), lambda: Weights(scope="net"), lambda: Weights(rounds=0)):
        with pytest.raises(BadInput):
            bad()


def fresh(seed: int) -> Net:
    """Return 64-128-64-10, untrained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = (nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
        return capture(nn.Sequential(*layers), torch.rand(2, 64))


PARTS = {"snip": Snip(), "grasp": Grasp(), "synflow": Synflow(), "chance": RandomWeights(), "magnitude": Magnitude()}


def at_birth(which: str, density: float, seed: int) -> tuple[Net, Work]:
    """Return a fresh network with masks by one saliency, all layers together, and the work with its notes."""
    train, _ = digits(seed)
    work, rounds = Work({"calib": (train.x, train.y)}, seed), 50 if which == "synflow" else 1
    return Weights(1 - density, PARTS[which], scope="global", rounds=rounds).apply(fresh(seed), work), work


@functools.cache
def trained(which: str, density: float, seed: int) -> float:
    """Return the test accuracy of a network that was masked at birth, trained harder the sparser it is."""
    net, _ = at_birth(which, density, seed)
    plan = Plan(epochs=15, lr=1e-2, batch=128) if density > 0.03 else Plan(epochs=12, lr=3e-2, batch=128)
    fit(net, digits(seed)[0], CrossEntropy(), plan=plan, seed=seed)
    return accuracy(net, digits(seed)[1])


@pytest.mark.parametrize("seed", range(3))
def test_snip_at_birth_beats_chance(seed: int) -> None:
    """Part H, density .05 (measured here: by 45, 33 and 35)."""
    assert trained("snip", 0.05, seed) > trained("chance", 0.05, seed) + 15


@pytest.mark.parametrize("which", ["snip", "grasp", "synflow"])
@pytest.mark.parametrize("seed", range(3))
def test_at_a_fiftieth_each_beats_chance(which: str, seed: int) -> None:
    """Part H, density .02 (measured here: by 40 at least)."""
    assert trained(which, 0.02, seed) > trained("chance", 0.02, seed) + 25


@pytest.mark.parametrize("seed", range(3))
def test_sizes_at_birth_collapse_a_layer_and_say_so(seed: int) -> None:
    """Part H: of fresh layers the one with most inputs has the smallest weights; nothing gets through it."""
    net, work = at_birth("magnitude", 0.05, seed)
    assert [note.layer for note in work.notes if "collapsed" in note.text] == ["2.weight"]
    scores = net.eval()(digits(seed)[1].x)
    assert torch.equal(scores, scores[:1].expand_as(scores))


def deep(seed: int) -> Net:
    """Return a chain of six layers of which the widest has 16,384 weights and the narrowest 160."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        wide = (64, 128, 128, 32, 16, 16, 10)
        layers = [part for a, b in itertools.pairwise(wide) for part in (nn.Linear(a, b), nn.ReLU())]
        return capture(nn.Sequential(*layers[:-1]), torch.rand(2, 64))


@pytest.mark.parametrize("seed", range(3))
def test_flow_taken_afresh_keeps_every_layer_alive_where_one_round_does_not(seed: int) -> None:
    """2006.05467, section 6: one round empties the widest layer, whose weights each carry least; a hundred do not."""
    notes = {}
    for rounds in (1, 100):
        work = Work()
        Weights(0.999, Synflow(), scope="global", rounds=rounds).apply(deep(seed), work)
        notes[rounds] = [note.layer for note in work.notes if "collapsed" in note.text]
    assert "2.weight" in notes[1] and notes[100] == []


@pytest.mark.parametrize("which", ["snip", "grasp", "chance"])
def test_every_collapse_is_noted_and_nothing_else_is_called_one(which: str) -> None:
    """A-S4-05: at 99.9 %, 17 weights of 17,024 are left."""
    sparse, work = at_birth(which, 0.001, 0)
    empty = {name for name, _ in sparse.weighted() if not mask_of(sparse, name).any()}
    assert {note.layer for note in work.notes if "collapsed" in note.text} == empty
    assert sum(int(mask_of(sparse, name).sum()) for name, _ in sparse.weighted()) == 18


def test_dropout_falls_with_the_root_of_the_connections() -> None:
    """A-S3-13: D_r = D_o √(C_r / C_o), C = N_i N_(i−1)."""
    assert eased_dropout(0.5, 300 * 100, 150 * 50) == 0.25, "half of the inputs and half of the outputs: half the rate"
    assert eased_dropout(0.5, 784 * 300, 784 * 300) == 0.5 and eased_dropout(0.5, 10, 0) == 0 == eased_dropout(
        0.0, 9, 4
    )
    sparse = Weights(0.75).apply(small_mlp(), Work())
    mask = mask_of(sparse, "0.weight")
    assert eased_dropout(0.4, mask.numel(), int(mask.sum())) == pytest.approx(0.2)
    for wrong in ((1.0, 4, 2), (-0.1, 4, 2), (0.5, 4, 5), (0.5, 0, 0), (0.5, 4, -1)):
        with pytest.raises(BadInput):
            eased_dropout(*wrong)


def test_masks_persist_through_rounds_of_training() -> None:
    """A-S3-13, as a recipe: to 90 % in three rounds with training between; what is once masked stays so, the rest moves.

    That rounds are no worse than masking 90 % at once and training for as many epochs as all rounds take is not asserted:
    on the digits it depends on the network. Measured, mean of three seeds, 3 x 10 epochs against 30: 64-32-10 91.2 % in
    rounds and 87.8 % at once; 64-48-32-10 90.0 and 93.8; 64-128-64-10 94.6 and 95.9, and with 3 x 5 against 15 epochs 95.4
    and 96.3. With the same training after each mask, and weights that decay, it holds; see below.
    """
    mend = Finetune(plan=Plan(epochs=1, lr=1e-2))
    recipe = Recipe(tuple(step for s in sparsities(0.9, 3, "exponential") for step in (Weights(s), mend)))
    recipe.check()
    net, work, shares = small_mlp(), Work({"fit": trainer(digits(0)[0])}), list[float]()
    for step in recipe:
        before, net = net, step.apply(net, work)
        for name, _ in net.weighted():
            old, new = mask_of(before, name), mask_of(net, name)
            assert not (new & ~old).any() and not net.slot(name)()[~new].any()
            assert step is not mend or (
                torch.equal(old, new) and not torch.equal(before.slot(name)(), net.slot(name)())
            )
        shares.append(1 - zeros(net)[0])
    assert shares[::2] == shares[1::2] == pytest.approx([0.1 ** (1 / 3), 0.1 ** (2 / 3), 0.1], abs=1e-3)


def decayed(net: Net, seed: int, epochs: float) -> Net:
    """Return the network trained in place with weights that decay."""
    plan = Plan(epochs=epochs, lr=5e-3, batch=128, weight_decay=0.1)
    fit(net, digits(seed)[0], CrossEntropy(), plan=plan, seed=seed)
    return net


def test_rounds_are_better_than_one_mask_where_each_is_retrained_and_weights_decay() -> None:
    """A-S3-13 at 90 %, as the paper has it: every mask is followed by the same training, with L2. On the mean of three seeds.

    64-100-10, four rounds of ten epochs. Measured: 93.3, 93.1, 91.1 % in rounds, 91.3, 89.6, 89.6 at once, 96.7 whole.
    Without decay 65.6, 88.4, 89.8 against 91.1, 91.3, 90.0: what is trained has no small weights to give.
    """
    rounds = once = 0.0
    for seed in range(3):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            whole = capture(nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10)), torch.rand(2, 64))
        net = decayed(whole, seed, 30)
        once += accuracy(decayed(Weights(0.9).apply(net, Work()), seed, 10), digits(seed)[1]) / 3
        for sparsity in sparsities(0.9, 4, "exponential"):
            net = decayed(Weights(sparsity).apply(net, Work()), seed, 10)
        rounds += accuracy(net, digits(seed)[1]) / 3
    assert rounds > once + 0.5
