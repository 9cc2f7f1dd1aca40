"""Binary-Weight-Networks: the checks of A-S0-13, A-S4-34 and part E 6; and the file of a binary network."""

import numpy as np
import pytest
import torch

from contracts.digits_task import accuracy, digits, mlp
from contracts.nets import small_conv
from contracts.trained_step import TrainedStepContract, samples, trainer
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.count import stored_bits
from paredown.graph.freeze import freeze
from paredown.graph.slots import short_float
from paredown.methods.quantize.binary_weights import BinaryFilters, BinaryWeights, binarize
from paredown.targets.container import read, write

SHORT = Plan(epochs=2, batch=16)


class TestBinaryWeights(TrainedStepContract):
    def part(self) -> BinaryWeights:
        return BinaryWeights(plan=SHORT)

    def settings(self) -> list[BinaryWeights]:
        return [BinaryWeights(False, plan=Plan(epochs=3))]


class TestAllLayers(TrainedStepContract):
    def part(self) -> BinaryWeights:
        return BinaryWeights(real_ends=False, plan=SHORT)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(6, 50), (4, 3, 3, 3), (30,)])
def test_the_scale_is_the_best_for_each_filter(shape: tuple[int, ...]) -> None:
    weight = draw(*shape)
    codes, scale = binarize(weight)
    assert scale.shape == ((shape[0], *[1] * (len(shape) - 1)) if len(shape) > 1 else ())

    def errors(scale: torch.Tensor) -> torch.Tensor:
        off = (weight - codes * scale).square()
        return off.flatten(1).sum(1) if weight.dim() > 1 else off.sum()

    assert (errors(scale * 0.99) > errors(scale)).all() and (errors(scale * 1.01) > errors(scale)).all()
    assert ((weight + codes * scale).square().sum() >= (weight - codes * scale).square().sum()).all()


def test_normal_weights_keep_all_but_1_minus_2_over_pi() -> None:
    weight = draw(1, 1_000_000)
    codes, scale = binarize(weight)
    relative = float((weight - codes * scale).square().sum() / weight.square().sum())
    assert relative == pytest.approx(1 - 2 / np.pi, abs=2e-3) and 1 - 2 / np.pi == pytest.approx(0.3634, abs=1e-4)


def test_the_gradient_is_the_papers() -> None:
    """1/n + a · 1(|w| ≤ 1), n the size of a filter, a with the four significant bits that are used."""
    slot = BinaryFilters(torch.tensor([[0.5, -1.5], [0.25, 0.0]]))
    upstream = torch.tensor([[1.0, 2.0], [4.0, 8.0]])
    out = slot()
    out.backward(upstream)
    assert out.tolist() == [[1.0, -1.0], [0.125, 0.125]]
    assert slot.value.grad.tolist() == [[0.5 + 1.0, 2 * 0.5], [4 * (0.5 + 0.125), 8 * (0.5 + 0.125)]]


def test_scales_have_four_significant_bits() -> None:
    slot = BinaryFilters(draw(8, 30).float())
    codes, scale = slot.parts()
    assert torch.equal(scale, short_float(scale)) and torch.equal(slot(), codes * scale)
    assert ((scale - binarize(slot.value.detach())[1]).abs() <= scale / 16).all()


def test_a_binary_file_holds_about_a_bit_a_weight_and_no_floats_for_them() -> None:
    net = mlp(0)
    held = BinaryWeights(real_ends=False, plan=SHORT).apply(net, Work({"fit": trainer(samples(net))}))
    assert stored_bits(held.slot("0.weight")) == 6400 + 32 * 100
    data, items = write(freeze(held))
    assert 8 * items["weights"] / (6400 + 1000) <= 1.03 and items["floats"] < 4 * 110 + 8
    assert len(data) <= 7400 * 1.03 / 8 + 4 * 110 + 110 + 100, "signs, real biases, short scales, architecture"
    back = read(data)
    matrices = [t for t in back.tensors.values() if len(t.shape) == 2]
    assert [(t.bits, t.codes.dtype.name, set(np.unique(t.codes))) for t in matrices] == [(1, "int8", {-1, 1})] * 2
    for tensor, (name, _) in zip(matrices, held.weighted(), strict=True):
        assert (tensor.codes == held.slot(name).codes.numpy()).all()
        assert (tensor.step == held.slot(name).step.numpy()).all()


def test_digits_with_binary_filters() -> None:
    """Three seeds; asserted: at most 4 points below float, both layers binary."""
    for seed in range(3):
        train, test = digits(seed)
        part = BinaryWeights(real_ends=False, plan=Plan(epochs=30, lr=5e-3))
        held = part.apply(mlp(seed), Work({"fit": trainer(train, seed)}))
        full, mine = accuracy(mlp(seed), test), accuracy(held, test)
        assert mine >= full - 4, (seed, full, mine)


def test_ends_stay_real_and_are_noted() -> None:
    net, work = small_conv(), Work({"fit": trainer(samples(small_conv()))})
    held = BinaryWeights(plan=SHORT).apply(net, work)
    names = [name for name, _ in net.weighted()]
    assert [note.layer for note in work.notes] == [names[0], names[-1]]
    assert [held.slot(name).bits for name in names] == [32, 1, 1, 1, 32]


def test_settings_outside_their_range_are_refused() -> None:
    with pytest.raises(BadInput, match="real_ends"):
        BinaryWeights(real_ends="yes")
