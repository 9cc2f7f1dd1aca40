"""Ternary weight networks: the checks of A-S4-35 and part E 6."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.digits_task import accuracy, digits, mlp
from contracts.nets import small_conv
from contracts.trained_step import TrainedStepContract, samples, trainer
from paredown.core.errors import BadInput, Damaged
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.count import stored_bits
from paredown.graph.freeze import freeze
from paredown.methods.quantize.ternary_weights import Ternary, TernaryWeights, pack_trits, ternarize, unpack_trits
from paredown.targets.container import read, write

SHORT = Plan(epochs=2, batch=16)


class TestTernaryWeights(TrainedStepContract):
    def part(self) -> TernaryWeights:
        return TernaryWeights(plan=SHORT)

    def settings(self) -> list[TernaryWeights]:
        return [TernaryWeights(0.75, "channel", True, plan=Plan(epochs=3))]


class TestByFilter(TrainedStepContract):
    def part(self) -> TernaryWeights:
        return TernaryWeights(granularity="channel", real_ends=True, plan=SHORT)


def normal(count: int = 1_000_000) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def error(value: torch.Tensor, threshold: float) -> float:
    codes, scale = ternarize(value, threshold)
    return float((value - codes * scale).square().mean() / value.square().mean())


def test_normal_weights() -> None:
    """Threshold .558, a 1.183, 42.3 % zeros, relative error .1912; 0.75 is the best of the five at .1899."""
    value = normal()
    codes, scale = ternarize(value)
    assert float(0.7 * value.abs().mean()) == pytest.approx(0.558, abs=2e-3)
    assert float(scale) == pytest.approx(1.183, abs=3e-3)
    assert float((codes == 0).double().mean()) == pytest.approx(0.423, abs=2e-3)
    errors = {c: error(value, c) for c in (0.5, 0.6, 0.7, 0.75, 0.8)}
    assert errors[0.7] == pytest.approx(0.1912, abs=1e-3) and errors[0.75] == pytest.approx(0.1899, abs=1e-3)
    assert min(errors, key=errors.get) == 0.75


def test_uniform_weights_want_two_thirds() -> None:
    value = torch.linspace(-1, 1, 100_001, dtype=torch.float64)
    errors = {c: error(value, c) for c in (0.5, 0.6, 2 / 3, 0.75, 0.8)}
    assert min(errors, key=errors.get) == 2 / 3


@given(st.integers(0, 999), st.booleans())
@settings(max_examples=50, deadline=None)
def test_the_scale_is_the_best_for_its_codes(seed: int, per_filter: bool) -> None:
    value = torch.randn((4, 30), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    codes, scale = ternarize(value, 0.7, per_filter)
    assert scale.shape == ((4, 1) if per_filter else ()) and set(codes.unique().tolist()) <= {-1, 0, 1}
    best = (value - codes * scale).square().sum()
    for off in (0.99, 1.01):
        assert (value - codes * scale * off).square().sum() > best


def test_by_hand() -> None:
    """mean|W| = 0.5, Δ = 0.35: two of five are larger, of mean size 0.9."""
    codes, scale = ternarize(torch.tensor([0.8, -1.0, 0.3, -0.2, 0.2]))
    assert codes.tolist() == [1, -1, 0, 0, 0] and float(scale) == pytest.approx(0.9)
    codes, scale = ternarize(torch.zeros(3))
    assert codes.tolist() == [0, 0, 0] and float(scale) == 0


def test_the_gradient_goes_straight_through() -> None:
    slot = Ternary(torch.randn(6, 7), 0.7, False)
    upstream = torch.randn(6, 7)
    slot().backward(upstream)
    assert torch.equal(slot.value.grad, upstream)


@pytest.mark.parametrize("size", [0, 1, 4, 5, 6, 1000])
def test_five_codes_to_a_byte_come_back(size: int) -> None:
    codes = np.random.default_rng(0).integers(-1, 2, size).astype(np.int8)
    data = pack_trits(codes)
    assert len(data) == -(-size // 5) and (unpack_trits(data, size) == codes).all()


def test_every_byte_of_five_codes() -> None:
    every = np.array(list(itertools.product((-1, 0, 1), repeat=5)), np.int8)
    assert len(set(pack_trits(every))) == 243 and (unpack_trits(pack_trits(every), every.size) == every.ravel()).all()
    for data, size in ((b"\xf3", 5), (b"\x00", 6), (b"\x00\x00", 5)):
        with pytest.raises(Damaged, match="five a byte"):
            unpack_trits(data, size)


def test_two_bits_are_counted_and_at_most_1_6_are_written() -> None:
    net = mlp(0)
    held = TernaryWeights(plan=SHORT).apply(net, Work({"fit": trainer(samples(net))}))
    assert stored_bits(held.slot("0.weight")) == 2 * 6400 + 32
    data, items = write(freeze(held))
    assert 8 * items["weights"] / (6400 + 1000) <= 1.6
    assert len(data) <= 7400 * 1.6 / 8 + 4 * 110 + 100, "codes, real biases, architecture"
    back = read(data)
    matrices = [t for t in back.tensors.values() if len(t.shape) == 2]
    assert [t.bits for t in matrices] == [2, 2]
    assert all(t.codes.dtype == np.int8 and set(np.unique(t.codes)) == {-1, 0, 1} for t in matrices)
    assert all(
        (a.codes == held.slot(n).codes.numpy()).all() for a, (n, _) in zip(matrices, held.weighted(), strict=True)
    )


def test_digits_with_ternary_weights() -> None:
    """Three seeds; asserted: at most 3 points below float."""
    for seed in range(3):
        train, test = digits(seed)
        held = TernaryWeights(plan=Plan(epochs=20)).apply(mlp(seed), Work({"fit": trainer(train, seed)}))
        full, mine = accuracy(mlp(seed), test), accuracy(held, test)
        assert mine >= full - 3, (seed, full, mine)


def test_ends_stay_real_and_are_noted() -> None:
    net, work = small_conv(), Work({"fit": trainer(samples(small_conv()))})
    held = TernaryWeights(real_ends=True, plan=SHORT).apply(net, work)
    names = [name for name, _ in net.weighted()]
    assert [note.layer for note in work.notes] == [names[0], names[-1]]
    assert [held.slot(name).bits for name in names] == [32, 2, 2, 2, 32]


@pytest.mark.parametrize("wrong", [{"threshold": -0.1}, {"granularity": "row"}, {"real_ends": 1.5}])
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        TernaryWeights(**wrong)
