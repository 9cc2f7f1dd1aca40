"""GPTQ: each error is repaired by the weights that are left, exactly; outputs stay nearer than with nearest rounding."""

import pytest
import torch
from torch import nn

from contracts.nets import inputs_for, small_conv
from contracts.step import StepContract
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.slots import Grid
from paredown.methods.quantize.clipped import Clipped
from paredown.methods.quantize.gptq import Gptq, round_in_order


class TestGptq(StepContract):
    def part(self) -> Gptq:
        return Gptq(bits=4)

    def settings(self) -> list[Gptq]:
        return [Gptq(2, 1.0, 0.1)]


def correlated(inputs: int, seed: int, samples: int = 400) -> torch.Tensor:
    """Return samples x inputs of correlated values."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(samples, inputs, generator=draw) @ torch.randn(inputs, inputs, generator=draw)


def test_each_error_is_spread_as_least_squares_would() -> None:
    """Once the first column is rounded, the others are where the quadratic is least, and the second is rounded from there."""
    x, step = correlated(5, 0).double(), torch.full((3, 1), 0.5)
    second, rows = x.T @ x, torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    first = int(second.diagonal().argmax())
    others = [at for at in range(5) if at != first]
    code = (rows[:, first] / 0.5).round().clamp(-7, 7)
    error = (rows[:, first] - code * 0.5).double()
    wanted = (
        rows.double()[:, others]
        + torch.linalg.solve(second[others][:, others], second[others, first][:, None] * error).T
    )
    codes = round_in_order(rows, second, step, 7, damp=1e-12)
    assert torch.equal(codes[:, first].float(), code)
    following = max(others, key=lambda at: float(second[at, at]))
    assert torch.equal(codes[:, following], (wanted[:, others.index(following)] / 0.5).round().clamp(-7, 7))


def test_uncorrelated_inputs_make_it_nearest_rounding() -> None:
    rows = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    codes = round_in_order(rows, torch.diag(torch.rand(9) + 0.1), torch.full((6, 1), 0.3), 3)
    assert torch.equal(codes.float(), (rows / 0.3).round().clamp(-3, 3))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_outputs_stay_nearer_than_with_nearest_rounding(bits: int) -> None:
    for seed in range(5):
        x, rows = correlated(24, seed), torch.randn(8, 24, generator=torch.Generator().manual_seed(seed))
        high = 2 ** (bits - 1) - 1
        step = rows.abs().amax(1, keepdim=True) / high
        near = (rows / step).round().clamp(-high, high) * step
        ours = round_in_order(rows, x.T @ x, step, high).float() * step
        assert ((rows - ours) @ x.T).square().sum() < 0.7 * ((rows - near) @ x.T).square().sum()


def test_a_dead_input_costs_nothing_and_gets_zero() -> None:
    x = correlated(6, 2)
    x[:, 3] = 0
    codes = round_in_order(torch.randn(4, 6), x.T @ x, torch.full((4, 1), 0.25), 7)
    assert not codes[:, 3].any() and codes.any()


def test_a_network_keeps_its_outputs_better_than_with_least_squares_clips() -> None:
    net = small_conv().eval()
    (x,) = inputs_for(net, 64)
    for bits in (2, 3):
        ours = Gptq(bits).apply(net, Work({"calib": (x, None)}))
        plain = Clipped(bits).apply(net, Work())
        assert all(isinstance(ours.slot(name), Grid) for name, _ in ours.weighted())
        far, near = ((made.eval()(x) - net(x)).square().mean() for made in (plain, ours))
        assert near < 0.8 * far


def test_a_layer_it_has_no_windows_for_is_rounded_to_nearest_and_noted() -> None:
    net = capture(nn.ConvTranspose2d(2, 3, 2), torch.rand(2, 2, 4, 4))
    work = Work({"calib": (torch.rand(8, 2, 4, 4), None)})
    out = Gptq(4).apply(net, work)
    (name, _), *_ = out.weighted()
    assert torch.equal(out.slot(name).codes, Clipped(4).apply(net, Work()).slot(name).codes)
    assert any("nearest" in note.text for note in work.notes)
