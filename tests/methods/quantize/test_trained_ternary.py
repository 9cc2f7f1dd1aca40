"""Trained ternary quantization: equations 6-9 by hand (A-S4-35), and digits."""

import numpy as np
import pytest
import torch

from contracts.digits_task import accuracy, digits, mlp
from contracts.trained_step import TrainedStepContract, samples, trainer
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.count import count, stored_bits
from paredown.graph.freeze import freeze
from paredown.graph.slots import Codebook
from paredown.methods.quantize.trained_ternary import LEAST, TrainedTernary, TrainedTernaryQuantization, sides
from paredown.targets.container import read, write

SHORT = Plan(epochs=2, batch=16)


class TestTrainedTernary(TrainedStepContract):
    def part(self) -> TrainedTernaryQuantization:
        return TrainedTernaryQuantization(plan=SHORT)

    def settings(self) -> list[TrainedTernaryQuantization]:
        return [TrainedTernaryQuantization(0.2, False, plan=Plan(epochs=3))]


class TestAllLayers(TrainedStepContract):
    def part(self) -> TrainedTernaryQuantization:
        return TrainedTernaryQuantization(threshold=0.3, real_ends=False, plan=SHORT)


class TestConstantSparsity(TrainedStepContract):
    def part(self) -> TrainedTernaryQuantization:
        return TrainedTernaryQuantization(sparsity=0.5, plan=SHORT)


def slot() -> TrainedTernary:
    """Return Δ = 0.1: two entries above it, one below −Δ, two between; Wp = 0.5, Wn = 0.25."""
    made = TrainedTernary(torch.tensor([1.0, 0.05, -0.3, -0.02, 0.2]), 0.1)
    with torch.no_grad():
        made.sizes.copy_(torch.tensor([0.5, 0.25]))
    return made


def test_values_and_gradients_by_hand() -> None:
    made, upstream = slot(), torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    out = made()
    assert out.tolist() == [0.5, 0, -0.25, 0, 0.5]
    out.backward(upstream)
    assert made.sizes.grad.tolist() == [1 + 16, -4]
    assert made.value.grad.tolist() == [0.5 * 1, 2, 0.25 * 4, 8, 0.5 * 16]


def test_the_border_is_a_share_of_the_largest() -> None:
    value = torch.tensor([2.0, 0.1, -0.1, -0.11, 0.3])
    plus, minus = sides(value, 0.05)
    assert plus.tolist() == [True, False, False, False, True]
    assert minus.tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_a_constant_share_is_zero_whatever_the_training_does(sparsity: float) -> None:
    """The smallest round(r · n) in size are 0, at the start, after every step and in what is held."""
    value = torch.randn(30, 41, generator=torch.Generator().manual_seed(0))
    made = TrainedTernary(value, 0.05, sparsity)
    optimiser = torch.optim.SGD([made.value], lr=0.3)
    for _ in range(5):
        out = made()
        assert int((out == 0).sum()) == round(sparsity * out.numel())
        size = made.value.detach().abs()
        assert size[out == 0].max() < size[out != 0].min() and ((out > 0) == (made.value > 0))[out != 0].all()
        before = out.detach()
        optimiser.zero_grad()
        (out - torch.randn(30, 41)).square().sum().backward()
        optimiser.step()
    assert not torch.equal(made(), before) and torch.equal(made.held()(), made())
    assert TrainedTernary(value, 0.05, 1e-9)().count_nonzero() == value.numel()


def test_storage_and_arithmetic_are_counted_apart() -> None:
    """An index of a codebook is stored in two bits; what is looked up is multiplied as a float of 32."""
    net = mlp(0)
    held = TrainedTernaryQuantization(real_ends=False, plan=SHORT).apply(net, Work({"fit": trainer(samples(net))}))
    before, after = count(net), count(held)
    assert after.macs_by_bits == {"w32a32": before.macs} and after.bops == before.bops
    assert before.bits - after.bits == 30 * (6400 + 1000) - 2 * 3 * 32


def test_sizes_start_at_the_means_and_stay_positive() -> None:
    made = TrainedTernary(torch.tensor([1.0, 0.5, -0.25]), 0.05)
    assert made.sizes.tolist() == [0.75, 0.25]
    empty = TrainedTernary(torch.tensor([1.0, 0.5]), 0.05)
    assert float(empty.sizes[1].detach()) == pytest.approx(LEAST)
    with torch.no_grad():
        made.sizes.copy_(torch.tensor([-3.0, 2.0]))
    assert made.used()[0] > 0 and made().max() > 0


def test_both_sizes_are_learned_and_differ() -> None:
    seen: list = []
    net = mlp(0)
    held = TrainedTernaryQuantization(real_ends=False, plan=Plan(epochs=3)).apply(
        net, Work({"fit": trainer(digits(0)[0], 0, seen)})
    )
    for name, _ in held.weighted():
        book = held.slot(name)
        low, zero, high = book.centroids.tolist()
        assert isinstance(book, Codebook) and book.bits == 2 and low < zero == 0 < high and -low != high
        assert stored_bits(book) == 2 * book.codes.numel() + 3 * 32
        first = TrainedTernary(net.slot(name)(), 0.05).sizes
        assert not torch.equal(first, seen[0].slot(name).sizes)


def test_a_file_takes_at_most_1_6_bits_a_weight() -> None:
    net = mlp(0)
    held = TrainedTernaryQuantization(threshold=0.2, real_ends=False, plan=SHORT).apply(
        net, Work({"fit": trainer(samples(net))})
    )
    data, items = write(freeze(held))
    assert 8 * items["weights"] / (6400 + 1000) <= 1.6
    matrices = [t for t in read(data).tensors.values() if len(t.shape) == 2]
    assert [len(t.centroids) for t in matrices] == [3, 3] and {t.codes.dtype for t in matrices} == {np.dtype("uint8")}


def test_digits_with_trained_ternary_weights() -> None:
    """Three seeds; asserted: at most 3 points below float."""
    for seed in range(3):
        train, test = digits(seed)
        part = TrainedTernaryQuantization(real_ends=False, plan=Plan(epochs=20))
        held = part.apply(mlp(seed), Work({"fit": trainer(train, seed)}))
        full, mine = accuracy(mlp(seed), test), accuracy(held, test)
        assert mine >= full - 3, (seed, full, mine)


@pytest.mark.parametrize("wrong", [{"threshold": 1.0}, {"sparsity": 1.0}, {"real_ends": "no"}])
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        TrainedTernaryQuantization(**wrong)
