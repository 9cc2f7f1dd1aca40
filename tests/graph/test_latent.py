"""What stands in a weight's place during training, and which weights it is."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.nets import small_conv
from paredown.core.errors import BadInput
from paredown.graph.capture import capture
from paredown.graph.latent import Latent, hold_, learn_, learnable, short_through, signs, straight_through
from paredown.graph.net import Net
from paredown.graph.slots import Grid, short_float


class Signs(Latent):
    def forward(self) -> Tensor:
        return straight_through(self.value, signs(self.value))

    def held(self) -> Grid:
        return Grid(signs(self.value), torch.tensor(1.0), 1)


class Odd(nn.Module):
    """A layer used twice, one whose weight is computed, and two more."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(torch.relu(self.b(torch.relu(self.a(x)))))
        return self.c(F.linear(x, self.a.weight * 2))


def odd() -> Net:
    return capture(Odd(), torch.rand(2, 6))


def test_each_weight_is_taken_once_and_every_other_one_is_noted() -> None:
    notes: list[tuple[str, str]] = []
    assert list(learnable(odd(), lambda *note: notes.append(note))) == ["a.weight", "b.weight", "c.weight"]
    assert [why for _, why in notes] == ["it is computed, not stored"]
    notes.clear()
    assert list(learnable(odd(), lambda *note: notes.append(note), real_ends=True)) == ["b.weight"]
    assert [layer for layer, why in notes if "real" in why] == ["a.weight", "c.weight"]


def test_weights_that_are_held_already_are_noted() -> None:
    net, notes = odd(), []
    net.set_slot("b.weight", Grid(torch.ones(6, 6), torch.tensor(0.1), 4))
    assert list(learnable(net, lambda *note: notes.append(note))) == ["a.weight", "c.weight"]
    assert ("b.weight", "it is quantized, not a plain weight") in notes


def test_learning_and_holding(tmp_path) -> None:
    net = small_conv()
    before = {name: net.slot(name)().detach().clone() for name in net.slot_names()}
    taken = learn_(net, Signs, lambda *note: None)
    assert "quantized" in net.forms() and all(isinstance(net.slot(name), Signs) for name in taken)
    with pytest.raises(BadInput, match="for training only"):
        net.save(tmp_path / "refused")
    assert not any(tmp_path.iterdir())
    held = hold_(net)
    assert held is net and len(taken) == 5
    for name in held.slot_names():
        assert torch.equal(held.slot(name)(), signs(before[name]) if name in taken else before[name])
        assert isinstance(held.slot(name), Grid) == (name in taken)


def test_gradients_go_through_to_both() -> None:
    value, instead = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    upstream, slope = torch.randn(3, 4), torch.rand(3, 4)
    out = straight_through(value, instead, slope)
    out.backward(upstream)
    assert torch.equal(out, instead) and torch.equal(instead.grad, upstream)
    assert torch.equal(value.grad, upstream * slope)
    value.grad = None
    straight_through(value, instead.detach()).backward(upstream)
    assert torch.equal(value.grad, upstream)


def test_four_significant_bits_with_the_gradient_of_all() -> None:
    value = torch.rand(1000) + 0.01
    short = short_through(value.requires_grad_())
    short.sum().backward()
    assert torch.equal(short.detach(), short_float(value.detach())) and (value.grad == 1).all()
