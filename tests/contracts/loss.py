"""What every loss promises. Inherit and override `part()`."""

import json
from typing import Any

import torch
from torch import Tensor

from paredown.core.catalog import build, describe, entry


class LossContract:
    """Inherit for a loss: a finite scalar with a gradient that points downhill."""

    def part(self) -> Any:
        """Return the loss under test."""
        raise NotImplementedError

    def batch(self, count: int = 16) -> tuple[Tensor, Tensor, Tensor]:
        """Return (student's scores, labels, teacher's scores)."""
        draw = torch.Generator().manual_seed(0)
        student, teacher = (torch.randn((count, 5), generator=draw) for _ in range(2))
        return student, torch.randint(0, 5, (count,), generator=draw), teacher

    def test_it_survives_json(self) -> None:
        assert build(json.loads(json.dumps(describe(self.part())))) == self.part()
        assert entry(self.part().part_name).kind == "loss"

    def test_a_finite_scalar_with_and_without_a_teacher(self) -> None:
        student, target, teacher = self.batch()
        for taught in (teacher, None):
            loss = self.part().of(student, target, taught)
            assert loss.shape == () and torch.isfinite(loss)

    def test_large_scores_stay_finite(self) -> None:
        student, target, teacher = self.batch()
        student = (student * 1e3).requires_grad_()
        loss = self.part().of(student, target, teacher * 1e3)
        loss.backward()
        assert torch.isfinite(loss) and student.grad is not None and torch.isfinite(student.grad).all()

    def test_its_gradient_is_the_difference_quotient(self) -> None:
        student, target, teacher = self.batch(4)
        student = student.double().requires_grad_()
        assert torch.autograd.gradcheck(lambda s: self.part().of(s, target, teacher.double()), (student,))

    def test_it_is_a_mean_over_samples(self) -> None:
        student, target, teacher = self.batch()
        once = self.part().of(student, target, teacher)
        twice = self.part().of(torch.cat([student] * 2), torch.cat([target] * 2), torch.cat([teacher] * 2))
        torch.testing.assert_close(once, twice)

    def test_it_leaves_the_teacher_without_a_gradient(self) -> None:
        student, target, teacher = self.batch()
        student.requires_grad_()
        self.part().of(student, target, teacher).backward()
        assert teacher.grad is None and student.grad is not None
