"""Distillation, held to A-S0-27: zero at equality, the logits' squared error at high temperature."""

import pytest
import torch
from torch import nn

from contracts.digits_task import accuracy, digits, mlp
from contracts.loss import LossContract
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.graph.capture import capture
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.loss.soften import Soften, distillation
from paredown.train.data import Data
from paredown.train.fit import Extras, fit


class TestSoften(LossContract):
    def part(self) -> Soften:
        return Soften()


class TestTeacherAlone(LossContract):
    def part(self) -> Soften:
        return Soften(temperature=20.0, share=1.0)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_it_is_zero_at_equality_and_only_there(temperature: float) -> None:
    teacher = torch.randn(16, 10, generator=torch.Generator().manual_seed(0))
    assert float(distillation(teacher, teacher, temperature)) == pytest.approx(0, abs=1e-4)
    assert float(distillation(teacher + 3, teacher, temperature)) == pytest.approx(0, abs=1e-3)  # a shift says nothing
    assert float(distillation(teacher.flip(1), teacher, temperature)) > 0.1


def test_it_is_the_formula() -> None:
    student, teacher = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p, q = (teacher / 3).softmax(1), (student / 3).softmax(1)
    torch.testing.assert_close(distillation(student, teacher, 3.0), 9 * (p * (p / q).log()).sum(1).mean())


def test_at_a_high_temperature_its_gradient_is_that_of_the_logits_error() -> None:
    """(zs − zt) / N a sample, for logits with zero mean; within 1 % at T = 1000."""
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn((8, 10), generator=draw, dtype=torch.float64) for _ in range(2))
    student, teacher = (t - t.mean(1, keepdim=True) for t in (student, teacher))
    student.requires_grad_()
    distillation(student, teacher, 1e3).backward()
    wanted = (student.detach() - teacher) / 10 / 8
    assert (student.grad - wanted).norm() < 0.01 * wanted.norm()


def test_share_mixes_hard_and_soft() -> None:
    student, target, teacher = TestSoften().batch()
    hard, soft = CrossEntropy(0.1).of(student, target), distillation(student, teacher, 4.0)
    for share in (0.0, 0.3, 1.0):
        torch.testing.assert_close(
            Soften(4.0, share, 0.1).of(student, target, teacher), (1 - share) * hard + share * soft
        )
    torch.testing.assert_close(Soften(4.0, 1.0, 0.1).of(student, target, None), hard)


def test_a_student_learns_from_a_teacher_without_labels() -> None:
    """Part H: 96.9/96.7/95.6 with all inputs and no labels, against 84.0/90.0/84.9 with 5 % of the labels."""
    for seed in range(3):
        train, test = digits(seed)
        students = []
        for taught in (True, False):
            torch.manual_seed(seed)
            student = capture(nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)), torch.rand(2, 64))
            if taught:
                wrong = Data(train.x, (train.y + 1) % 10)  # the labels are of no use
                extras = Extras(teacher=mlp(seed).eval())
                fit(student, wrong, Soften(4.0, 1.0), plan=Plan(epochs=25, lr=1e-2), seed=seed, extras=extras)
            else:
                few = Data(train.x[:67], train.y[:67])
                fit(student, few, CrossEntropy(), plan=Plan(epochs=120, lr=1e-2, batch=16), seed=seed)
            students.append(accuracy(student, test))
        assert students[0] >= students[1] + 4 and students[0] > 92, (seed, students)


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0.5}, {"temperature": 21}, {"share": 1.1}, {"share": -0.1}, {"smoothing": 0.6}]
)
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Soften(**wrong)
