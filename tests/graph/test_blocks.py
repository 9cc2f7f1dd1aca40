"""Blocks along what a layer sums over, and the slot that holds them."""

import copy
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.core.errors import BadInput
from paredown.graph.blocks import Blocked, from_blocks, in_blocks
from paredown.graph.slots import stored


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_blocks_come_back(shape: list[int], block: int) -> None:
    weight = torch.arange(float(torch.Size(shape).numel())).view(shape) + 1
    blocks = in_blocks(weight, block)
    assert torch.equal(from_blocks(blocks, weight.shape), weight)
    assert blocks.sum() == weight.sum() and (block == 0 or blocks.shape[2] == block)


def test_channels_run_fastest() -> None:
    weight = torch.randn(2, 4, 3, 3)
    blocks = in_blocks(weight, 4)
    assert blocks.shape == (2, 9, 4) and torch.equal(blocks[1, 5], weight[1, :, 1, 2])


def slot() -> Blocked:
    weight = torch.randn((3, 10), generator=torch.Generator().manual_seed(0))
    return Blocked.rounding(weight, in_blocks(weight, 4).abs().amax(2) / 6, "fp4_e2m1", 4, 8)


def affine() -> Blocked:
    weight = torch.randn((3, 10), generator=torch.Generator().manual_seed(0))
    step, zero = torch.full((3, 3), 0.25), torch.arange(9.0).view(3, 3)
    return Blocked.rounding(weight, step, "uint4", 4, 16, zero)


def two_levels() -> Blocked:
    weight = torch.randn((3, 10), generator=torch.Generator().manual_seed(0))
    coarse, fine = torch.tensor([[0.1], [0.2], [0.3]]), torch.arange(1.0, 10).view(3, 3)
    return Blocked.rounding(weight, fine, "int4", 4, 4, coarse=coarse)


def test_the_slot_comes_back() -> None:
    for first, bits in ((slot(), 9 * 8), (affine(), 9 * (16 + 4)), (two_levels(), 9 * 4 + 3 * 32)):
        again = stored(json.loads(json.dumps(first.meta())))
        again.load_state_dict(first.state_dict())
        for other in (again, copy.deepcopy(first)):
            assert torch.equal(other(), first()) and other.meta() == first.meta() and other.form == "quantized"
        assert first.stored_bits() == 30 * 4 + bits


def test_zero_points_and_coarse_steps_by_hand() -> None:
    codes, step = torch.tensor([[0, 1, 2], [3, 4, 15]]), torch.tensor([[0.5, 2.0], [1.0, 0.25]])
    held = Blocked(codes, step, "uint4", 2, zero=torch.tensor([[1, 2], [3, 15]]))
    assert held().tolist() == [[-0.5, 0.0, 0.0], [0.0, 1.0, 0.0]]
    held = Blocked(codes, step, "uint4", 2, coarse=torch.tensor([[2.0], [3.0]]))
    assert held().tolist() == [[0.0, 1.0, 8.0], [9.0, 12.0, 11.25]]
    with pytest.raises(BadInput, match="zero points"):
        Blocked(codes, step, "int4", 2, zero=torch.ones(2, 2))
    with pytest.raises(BadInput, match="zero points"):
        Blocked(codes, step, "uint4", 2, zero=torch.ones(2, 1))
    with pytest.raises(BadInput, match="coarse"):
        Blocked(codes, step, "uint4", 2, coarse=torch.ones(1, 1))


def test_descriptions_that_do_not_fit_are_refused() -> None:
    meta = slot().meta()
    for wrong in ({"step": [3, 2]}, {"number": "fp9"}, {"block": 0}, {"block": -4}, {"step": [2, 3]}):
        with pytest.raises(BadInput):
            stored(meta | wrong)
