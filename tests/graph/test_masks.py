"""Masks on weights."""

import pytest
import torch

from contracts.nets import small_conv, small_mlp
from paredown.core.errors import BadInput
from paredown.graph.masks import (
    Moving,
    alike,
    below_all,
    lowest,
    mask_,
    mask_of,
    maskable,
    moved,
    moving,
    norm,
    parted,
)
from paredown.graph.slots import Fixed, Masked


def test_a_moving_slot_computes_what_the_held_one_does_and_has_every_gradient() -> None:
    value, mask = torch.randn(4, 5), torch.rand(4, 5) < 0.5
    slot = Moving(value, mask)
    assert torch.equal(slot(), Masked(value, mask)()) and torch.equal(slot.held()(), slot())
    pull = torch.randn(4, 5)
    slot().backward(pull)
    assert torch.equal(slot.value.grad, pull)


def test_what_was_masked_stays_masked_and_its_value_with_it() -> None:
    net = small_mlp()
    first, second = torch.rand(2, 32, 64) < 0.5
    value = net.slot("0.weight")().detach().clone()
    mask_(net, "0.weight", first)
    mask_(net, "0.weight", second)
    assert torch.equal(mask_of(net, "0.weight"), first & second)
    assert torch.equal(net.slot("0.weight").value, value) and mask_of(net, "2.weight").all()


def test_other_forms_are_said_not_to_be_maskable() -> None:
    net, said = small_conv(), {}
    net.set_slot("fc.weight", Fixed(net.slot("fc.weight")()))
    assert "fc.weight" not in maskable(net, said.__setitem__) and list(said) == ["fc.weight"]
    assert moving(net) == {}


def test_units_go_by_rising_cost_as_far_as_the_budget_lasts() -> None:
    costs = {"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([[2.0], [1.0]])}
    sizes = {"a": alike(costs["a"], 2), "b": alike(costs["b"], 3)}
    for most, a, b in (
        (1, [0, 0], [0, 0]),
        (2, [0, 1], [0, 0]),
        (5, [0, 1], [0, 1]),
        (9, [0, 1], [1, 1]),
        (10, [1, 1], [1, 1]),
    ):
        goes = lowest(costs, sizes, most)
        assert goes["a"].int().tolist() == a and goes["b"].int().flatten().tolist() == b, most


def test_masked_weights_rank_below_all() -> None:
    saliencies = {"a": torch.tensor([-2.0, 5.0]), "b": torch.tensor([1.0, 3.0])}
    found = below_all(saliencies, {"a": torch.tensor([True, False]), "b": torch.tensor([True, True])})
    assert found["a"][1] < found["a"][0] == -2 and found["b"].tolist() == [1, 3]
    positive = below_all({"b": saliencies["b"]}, {"b": torch.tensor([False, True])})
    assert 0 > positive["b"][0] > -1e-20 and positive["b"][1] == 3


def test_moved_masks_keep_their_number() -> None:
    value, mask = torch.tensor([1.0, 2.0, 3.0, 0.0, 0.0]), torch.tensor([True, True, True, False, False])
    found = moved(value, mask, torch.tensor([0.0, 0.0, 0.0, 1.0, 2.0]), 1)
    assert found.tolist() == [False, True, True, False, True]
    back = moved(value, mask, torch.tensor([9.0, 0.0, 0.0, 1.0, 2.0]), 1)
    assert back.tolist() == mask.tolist()


def test_norms_keep_signs_and_scopes_are_two() -> None:
    pair = torch.tensor([[3.0, 4.0], [-3.0, -4.0]])
    assert norm(pair, (1,), 2.0).flatten().tolist() == pytest.approx([5, -5])
    assert norm(pair, (1,), 1.0).flatten().tolist() == [7, -7] and norm(pair, (), 2.0) is pair
    assert [list(part) for part in parted({"a": pair, "b": pair}, "layer")] == [["a"], ["b"]]
    assert [list(part) for part in parted({"a": pair, "b": pair}, "global")] == [["a", "b"]]
    with pytest.raises(BadInput, match="scope"):
        list(parted({}, "all"))
