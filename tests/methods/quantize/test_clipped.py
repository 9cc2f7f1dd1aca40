"""Clips of least error (A-S4-31: ACIQ's constants and those of symmetric mid-tread grids; part E 6)."""

import pytest
import torch

from contracts.digits_task import accuracy, digits, mlp
from contracts.step import StepContract
from paredown.core.work import Work
from paredown.graph.linear import symmetric
from paredown.methods.quantize.clipped import Clipped, best_clip, least_squares_clip, modelled_clip
from paredown.methods.quantize.uniform import Uniform

NORMAL = torch.special.ndtri((torch.arange(40000, dtype=torch.float64) + 0.5) / 40000)


class TestClipped(StepContract):
    def part(self) -> Clipped:
        return Clipped(3)

    def settings(self) -> list[Clipped]:
        return [Clipped(2, "tensor", "laplace"), Clipped(8, "channel", "normal")]


class TestClippedPerTensorByAModel(StepContract):
    def part(self) -> Clipped:
        return Clipped(4, "tensor", "laplace")


@pytest.mark.parametrize(
    ("bits", "density", "clip"),
    [(2, "laplace", 2.83), (3, "laplace", 3.90), (4, "laplace", 5.03), (2, "normal", 1.711), (3, "normal", 2.152), (4, "normal", 2.559)],
)  # fmt: skip
def test_the_models_optima(bits: int, density: str, clip: float) -> None:
    assert best_clip(bits, density) == pytest.approx(clip, abs=0.006 if density == "laplace" else 0.0011)


@pytest.mark.parametrize(("bits", "clip", "error"), [(2, 1.20, 0.1902), (3, 1.95, 0.0468), (4, 2.45, 0.0129)])
def test_the_best_clips_of_a_normal_density(bits: int, clip: float, error: float) -> None:
    found = least_squares_clip(NORMAL[None], bits)
    assert float(found) == pytest.approx(clip, abs=0.06)
    near = symmetric(found, bits).rounded(NORMAL[None])
    assert float((near - NORMAL).square().mean()) == pytest.approx(error, rel=0.02)


def test_eight_bits_clip_little() -> None:
    found = least_squares_clip(NORMAL[None], 8)
    near = symmetric(found, 8).rounded(NORMAL[None])
    assert 3.6 < float(found) < 4.3 and float((near - NORMAL).square().mean()) == pytest.approx(8.8e-5, rel=0.1)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_each_row_has_the_best_of_its_clips(bits: int) -> None:
    rows = torch.randn((4, 200), generator=torch.Generator().manual_seed(bits)) * torch.tensor(
        [[1.0], [9], [0.01], [3]]
    )
    rows[1, 0] = 100
    found = least_squares_clip(rows, bits)
    least = (symmetric(found, bits).rounded(rows) - rows).square().sum(1)
    for k in range(1, 101):
        other = rows.abs().amax(1, keepdim=True) * k / 100
        assert (least <= (symmetric(other, bits).rounded(rows) - rows).square().sum(1) * (1 + 1e-6)).all()


def test_modelled_clips_do_not_exceed_the_largest_weight() -> None:
    rows = torch.tensor([[1.0, -1.0, 1.0, -1.0], [0.0, 0.0, 0.0, 0.0]])
    assert modelled_clip(rows, 8, "normal").tolist() == [[1], [0]]


def test_two_bits_on_digits() -> None:
    """Part H: two bits scaled by the largest weight lose 25 points and more; a clip of least error wins most back."""
    for seed in range(3):
        test, net = digits(seed)[1], mlp(seed)
        plain = accuracy(Uniform(2, "tensor").apply(net, Work()), test)
        clipped = accuracy(Clipped(2, "tensor").apply(net, Work()), test)
        assert plain <= accuracy(net, test) - 25 and clipped >= plain + 15, (seed, plain, clipped)
