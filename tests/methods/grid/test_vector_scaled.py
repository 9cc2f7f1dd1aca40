"""Two levels of steps (A-S4-28)."""

import torch

from contracts.grid import GridContract
from paredown.methods.grid.integer import Integer
from paredown.methods.grid.vector_scaled import VectorScaled, two_levels


class TestVectorScaled(GridContract):
    def part(self) -> VectorScaled:
        return VectorScaled(block=8)


def test_four_and_a_quarter_bits() -> None:
    slot = VectorScaled().fit(torch.randn((4, 64)))
    assert slot.stored_bits() - 4 * 32 == 4.25 * 4 * 64


def test_a_step_is_a_small_integer_times_the_channels_float() -> None:
    weight = torch.randn((6, 96), generator=torch.Generator().manual_seed(0))
    slot = VectorScaled(4, 4, 16).fit(weight)
    fine = slot.step / (slot.step.amax(1, keepdim=True) / 15)
    torch.testing.assert_close(fine, fine.round(), atol=1e-5, rtol=0)
    assert fine.min() > 0.99 and fine.max() < 15.01


def test_the_levels_by_hand() -> None:
    coarse, fine = two_levels(torch.tensor([[1.5, 0.74, 0.001], [0.3, 0.3, 0.3]]), 4)
    torch.testing.assert_close(coarse, torch.tensor([[0.1], [0.02]]))
    assert fine.tolist() == [[15, 7, 1], [15, 15, 15]]


def test_it_beats_one_step_for_each_channel() -> None:
    for seed in range(3):
        draw = torch.Generator().manual_seed(seed)
        weight = torch.randn((16, 128), generator=draw) * torch.randn((16, 128), generator=draw).abs()
        errors = [float((g.fit(weight)() - weight).square().sum()) for g in (VectorScaled(), Integer(4))]
        assert errors[0] < 0.6 * errors[1]
