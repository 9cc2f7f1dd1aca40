"""Cross-entropy with label smoothing is the one in the paper."""

import math

import pytest
import torch

from contracts.loss import LossContract
from paredown.core.errors import BadInput
from paredown.methods.loss.cross_entropy import CrossEntropy


class TestCrossEntropy(LossContract):
    def part(self) -> CrossEntropy:
        return CrossEntropy()


class TestSmoothed(LossContract):
    def part(self) -> CrossEntropy:
        return CrossEntropy(0.2)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_it_is_the_papers_mixture(smoothing: float) -> None:
    """q'(k) = (1 − ε) δ(k, y) + ε / K."""
    scores, target, _ = TestCrossEntropy().batch()
    wanted = (1 - smoothing) * torch.nn.functional.one_hot(target, 5) + smoothing / 5
    loss = -(wanted * scores.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(CrossEntropy(smoothing).of(scores, target), loss)


def test_even_scores_cost_log_k_whatever_the_label() -> None:
    for smoothing in (0.0, 0.3):
        loss = CrossEntropy(smoothing).of(torch.zeros(4, 7), torch.tensor([0, 1, 2, 6]))
        assert float(loss) == pytest.approx(math.log(7))


def test_the_teacher_is_not_looked_at() -> None:
    scores, target, teacher = TestCrossEntropy().batch()
    assert CrossEntropy().of(scores, target, teacher) == CrossEntropy().of(scores, target, teacher * math.nan)


@pytest.mark.parametrize("smoothing", [-0.1, 0.6, "a", math.nan])
def test_shares_outside_the_range_are_refused(smoothing: object) -> None:
    with pytest.raises(BadInput, match="smoothing"):
        CrossEntropy(smoothing)
