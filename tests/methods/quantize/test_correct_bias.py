"""Bias correction (A-S4-29; part E 11)."""

import math

import pytest
import torch

from contracts.digits_task import accuracy, digits, mlp
from contracts.nets import inputs_for, small_conv, small_mlp
from contracts.step import StepContract
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.graph.ranges import moments
from paredown.methods.quantize.clipped import Clipped
from paredown.methods.quantize.correct_bias import CorrectBias, clipped_normal_mean, expected_shift
from paredown.methods.quantize.learned_step import LearnedStepQuantization
from paredown.methods.quantize.uniform import Uniform


class TestCorrectBias(StepContract):
    def part(self) -> CorrectBias:
        return CorrectBias()

    def settings(self) -> list[CorrectBias]:
        return [CorrectBias(Clipped(3, "tensor"), 10)]


@pytest.mark.parametrize("make", [small_conv, small_mlp])
def test_every_channels_mean_is_what_it_was(make: object) -> None:
    net, (x,) = make(), inputs_for(make(), 64)
    step = Uniform(bits=3, activation_bits=4)
    work = Work({"calib": (x, None)})
    wanted = moments(net, x)
    plain, held = (moments(part.apply(net, work), x) for part in (step, CorrectBias(step)))
    for name, (mean, _) in wanted.items():
        assert (held[name][0] - mean).abs().max() < 1e-4
    assert max(float((plain[n][0] - m).abs().max()) for n, (m, _) in wanted.items()) > 0.01


def test_a_clipped_normals_mean() -> None:
    """E[max(0, N(−1, 0.7))] = 0.02409, and others by sampling at even quantiles."""
    assert float(clipped_normal_mean(torch.tensor(-1.0), torch.tensor(0.7))) == pytest.approx(0.02409, abs=5e-6)
    z = torch.special.ndtri((torch.arange(200001, dtype=torch.float64) + 0.5) / 200001)
    for mean, deviation in ((0.0, 1.0), (2.0, 0.5), (-0.3, 3.0)):
        wanted = float((mean + deviation * z).relu().mean())
        assert float(clipped_normal_mean(torch.tensor(mean), torch.tensor(deviation))) == pytest.approx(
            wanted, abs=1e-4
        )
    assert float(clipped_normal_mean(torch.tensor(0.0), torch.tensor(1.0))) == pytest.approx(1 / math.sqrt(2 * math.pi))


def test_the_expected_shift_is_the_layers() -> None:
    draw = torch.Generator().manual_seed(0)
    error, x = torch.randn((4, 3, 1, 1), generator=draw), torch.randn((50, 3, 6, 6), generator=draw)
    shifted = torch.nn.functional.conv2d(x, error).mean((0, 2, 3))
    torch.testing.assert_close(expected_shift(error, x.mean((0, 2, 3))), shifted, rtol=1e-4, atol=1e-5)
    flat = error.flatten(1)
    torch.testing.assert_close(
        expected_shift(flat, x[:, :, 0, 0].mean(0)), (x[:, :, 0, 0] @ flat.T).mean(0), rtol=1e-4, atol=1e-5
    )


def test_two_bits_on_digits_gain() -> None:
    """Measured 52.2, 78.2, 78.7 without and 89.8, 90.4, 86.4 with it; the scores' error falls to .42, .37, .34."""
    for seed in range(3):
        (train, test), net = digits(seed), mlp(seed)
        work = Work({"calib": (train.x, None)})
        plain, held = (part.apply(net, work) for part in (Uniform(2), CorrectBias(Uniform(2))))
        assert accuracy(held, test) >= accuracy(plain, test) + 4
        with torch.no_grad():
            wanted = net.eval()(test.x)
            errors = [float((out.eval()(test.x) - wanted).square().mean()) for out in (plain, held)]
        assert errors[1] < 0.6 * errors[0]


def test_biases_that_are_integers_are_noted() -> None:
    net, (x,) = small_mlp(), inputs_for(small_mlp(), 16)
    work = Work({"calib": (x, None)}).scoped("quantize.correct_bias", {"calib"})
    CorrectBias(Uniform(bits=4, bias_bits=6)).apply(net, work)
    assert sum("bias_bits=0" in n.text for n in work.notes) == 3


def test_a_step_that_trains_is_refused() -> None:
    with pytest.raises(BadInput, match="fit"):
        CorrectBias(LearnedStepQuantization())
