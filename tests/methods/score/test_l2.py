"""Euclidean norms of filters."""

import pytest
import torch

from contracts.score import ScoreContract
from paredown.methods.score.l2 import L2, l2


class TestL2(ScoreContract):
    def part(self) -> L2:
        return L2()


def test_the_norm() -> None:
    """A-S4-03: the rows of [[3, −2], [1, −5]]."""
    found = l2([torch.tensor([3.0, -2.0]), torch.tensor([1.0, -5.0])])
    assert found.tolist() == pytest.approx([3.606, 5.099], abs=1e-3)
