"""What a second-order expansion at a minimum says a channel is worth."""

import pytest
import torch

from contracts.nets import small_mlp
from contracts.score import ScoreContract
from paredown.core.work import Work
from paredown.graph.groups import groups
from paredown.methods.score.curvature import Curvature, curvatures, saliency, trace_saliency


class TestHessian(ScoreContract):
    def part(self) -> Curvature:
        return Curvature()


class TestHessianByTrace(ScoreContract):
    def part(self) -> Curvature:
        return Curvature("trace", samples=8)


def test_obd_is_exact_where_the_loss_is_a_quadratic_of_single_weights() -> None:
    """L = ½ Σ h (w − w₀)² at its minimum: setting weights to zero adds ½ Σ h w₀²."""
    draw = torch.Generator().manual_seed(0)
    w, h = torch.randn(6, generator=draw).double(), torch.rand(6, generator=draw).double()
    wanted = 0.5 * (h * (0 - w).square()).sum()
    assert float(saliency([w], [h])[0]) == pytest.approx(float(wanted))
    assert float(trace_saliency([w], [torch.full((6,), 2.0)])[0]) == pytest.approx(float(w.square().sum()))


def test_the_diagonal_is_that_of_the_gauss_newton_matrix() -> None:
    """Last layer of a classifier, where it is known: for the bias the mean of p (1 − p); 2,000 drawn labels come within four deviations."""
    net = small_mlp()
    x = torch.rand(20, 64, generator=torch.Generator().manual_seed(0))
    many = x.repeat(100, 1)
    found = curvatures(net, many, seed=0).slot("4.bias")().detach()
    p = net.eval()(x).softmax(1).detach()
    torch.testing.assert_close(found, (p * (1 - p)).mean(0), rtol=0, atol=0.022)


def test_labels_do_not_matter_and_the_seed_does() -> None:
    net, x = small_mlp(), torch.rand(16, 64)
    group = groups(net)[0]

    def score(seed: int, label: int) -> torch.Tensor:
        return Curvature().importance(net, group, Work({"calib": (x, torch.full((16,), label))}, seed))

    assert torch.equal(score(0, 1), score(0, 2)) and not torch.equal(score(0, 1), score(1, 1))
