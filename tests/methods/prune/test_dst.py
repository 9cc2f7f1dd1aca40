"""Thresholds that are learned with the weights."""

import pytest
import torch

from contracts.digits_task import accuracy, digits, mlp
from contracts.trained_step import TrainedStepContract, trainer
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.net import Net
from paredown.methods.prune.dst import DynamicSparse, Thresholded, long_tail


class TestDynamicSparse(TrainedStepContract):
    def part(self) -> DynamicSparse:
        return DynamicSparse(0.1, plan=Plan(epochs=20, lr=2e-2, batch=16))


def test_the_steps_gradient_has_a_long_tail() -> None:
    """Equation 3: 2 − 4|x| up to .4, .4 up to 1, 0 beyond."""
    x = torch.tensor([-1.5, -0.8, -0.3, -0.1, 0.0, 0.2, 0.4, 0.9, 1.1], requires_grad=True)
    y = long_tail(x)
    assert y.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(slope, torch.tensor([0, 0.4, 0.8, 1.6, 2.0, 1.2, 0.4, 0.4, 0.0]))


def test_gradients_of_weights_and_thresholds() -> None:
    """The weight's: through the mask, and through its size; the threshold's: minus the sum of those of its row."""
    value = torch.tensor([[0.3, -0.1, 0.0], [-0.5, 0.7, 0.2]])
    slot = Thresholded(value)
    with torch.no_grad():
        slot.threshold.copy_(torch.tensor([0.2, 0.6]))
    assert torch.equal(slot(), value * torch.tensor([[1, 0, 0], [0, 1, 0]]))
    grad = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 1.0]])
    slot().backward(grad)
    mask, size = slot.above().detach(), value.abs()
    slope = 2 - 4 * (size - torch.tensor([[0.2], [0.6]])).abs()
    through = grad * value * slope
    torch.testing.assert_close(slot.threshold.grad, -through.sum(1))
    torch.testing.assert_close(slot.value.grad, grad * mask + through * value.sign())


def sparsity(net: Net) -> float:
    weights = [net.slot(name)() for name, _ in net.weighted()]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


@pytest.mark.parametrize("seed", range(3))
def test_more_strength_is_sparser_and_the_digits_are_still_read(seed: int) -> None:
    train, test = digits(seed)
    found = []
    for strength in (1e-4, 1e-2):
        part = DynamicSparse(strength, plan=Plan(epochs=10, lr=5e-3, batch=128))
        out = part.apply(mlp(seed), Work({"fit": trainer(train, seed)}))
        found.append((sparsity(out), accuracy(out, test)))
    (little, well), (much, still) = found
    assert much > little + 0.1 and much > 0.5
    assert min(well, still) > 93
