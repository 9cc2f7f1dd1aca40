"""Sparse wiring that is drawn: its degrees, how far it reaches, how it mixes, and that a gather computes the same."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from contracts.nets import inputs_for, small_conv, small_mlp
from contracts.step import StepContract, macs, nonzero, params, same
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.graph.slots import Masked
from paredown.graph.wiring import expander, path_length, reached, regular, small_world
from paredown.methods.prune.expander import Expander, gathered
from paredown.targets.onnx import Onnx
from paredown.targets.packed import Packed


class TestExpander(StepContract):
    def part(self) -> Expander:
        return Expander()

    def settings(self) -> list[Expander]:
        return [Expander("degree", 16, "small_world", 0.2, 8)]


class TestGathered(TestExpander):
    def part(self) -> Expander:
        return Expander("degree", 3, form="gathered")


class TestBlocks(TestExpander):
    def part(self) -> Expander:
        return Expander("compression", 2.0, "small_world", 0.3, 4)


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("outputs", "inputs", "degree"), [(64, 64, 8), (10, 100, 1), (100, 10, 9), (7, 5, 2)])
def test_every_output_has_exactly_its_degree(outputs: int, inputs: int, degree: int) -> None:
    for seed in range(5):
        even = regular(outputs, inputs, degree, draw(seed))
        assert int(even.sum(0).max() - even.sum(0).min()) <= 1
        for wired in (
            even,
            expander(outputs, inputs, degree, draw(seed)),
            small_world(outputs, inputs, degree, 0.3, draw(seed)),
        ):
            assert wired.shape == (outputs, inputs) and (wired.sum(1) == degree).all()
    assert not torch.equal(expander(64, 64, 8, draw(0)), expander(64, 64, 8, draw(1)))


def test_inputs_are_drawn_alike() -> None:
    often = sum(expander(50, 20, 5, draw(seed)).double().sum(0) for seed in range(200)) / (200 * 50)
    assert torch.allclose(often, torch.full((20,), 0.25, dtype=torch.float64), atol=0.02)


@pytest.mark.parametrize(
    ("width", "degree", "make"),
    [(256, 16, expander), (64, 4, regular), (128, 8, regular)],
)
def test_all_is_reached_in_few_layers(width: int, degree: int, make: Any) -> None:
    """Prabhu et al. 2018, section 3.2: every output depends on every input after ⌈log_D n⌉ + 2 layers; 99 of 100 draws at least."""
    depth, whole = math.ceil(math.log(width, degree)) + 2, 0
    for seed in range(100):
        layers = [make(width, width, degree, draw(100 * seed + at)) for at in range(depth)]
        whole += int(reached(layers).all())
        assert not reached(layers[:1]).all()
    assert whole >= 99


def test_at_small_degrees_a_plain_draw_leaves_inputs_unread_and_an_even_one_does_not() -> None:
    """Nobody reads an input with the probability (1 − D/n)^n, about e^−D."""
    unread = [float((~expander(256, 256, 4, draw(seed)).any(0)).double().mean()) for seed in range(50)]
    assert sum(unread) / 50 == pytest.approx((1 - 4 / 256) ** 256, rel=0.2)
    assert all((regular(256, 256, 4, draw(seed)).sum(0) == 4).all() for seed in range(5))


@pytest.mark.parametrize(("width", "degree"), [(256, 8), (256, 16), (400, 4)])
def test_a_random_walk_mixes_as_fast_as_on_an_expander(width: int, degree: int) -> None:
    """The second eigenvalue of the walk from outputs to inputs is near 1 / √D, far below a ring's."""
    for seed in range(3):
        for make in (expander, regular):
            walk = make(width, width, degree, draw(seed)).double().numpy() / degree
            values = np.sort(np.abs(np.linalg.eigvals(walk)))
            assert values[-1] == pytest.approx(1) and 0.7 / math.sqrt(degree) < values[-2] < 2 / math.sqrt(degree)
    ring = small_world(width, width, degree, 0.0, draw()).double().numpy() / degree
    assert np.sort(np.abs(np.linalg.eigvals(ring)))[-2] > 0.95


def test_small_worlds_have_short_paths() -> None:
    """Watts & Strogatz 1998: a tenth of the edges moved brings a ring's paths near to those of chance, about log n / log D."""
    ring, world, chance = (path_length(small_world(256, 256, 8, p, draw())) for p in (0.0, 0.1, 1.0))
    assert ring > 3 * world and world < 2 * chance and chance < math.log(256, 8) + 1
    near = (small_world(256, 256, 8, 0.1, draw()) & small_world(256, 256, 8, 0.0, draw())).sum() / (256 * 8)
    assert 0.87 < float(near) < 0.95


@pytest.mark.parametrize(
    "settings", [{}, {"stride": 2, "padding": 1, "bias": False}, {"padding": "same", "dilation": 2}]
)
def test_gathering_is_the_masked_convolution(settings: dict) -> None:
    torch.manual_seed(0)
    net = capture(nn.Sequential(nn.Conv2d(12, 20, 3, **settings)), torch.rand(1, 12, 9, 9)).eval()
    dense = Expander("degree", 4).apply(net, Work(seed=3)).eval()
    fast = Expander("degree", 4, form="gathered").apply(net, Work(seed=3)).eval()
    (x,) = inputs_for(net)
    assert isinstance(dense.slot("0.weight"), Masked) and same(dense(x), fast(x), 1e-5)
    assert 3 * macs(fast) == macs(net) and params(fast) == nonzero(dense) == nonzero(fast)
    bias = 0 if settings.get("bias") is False else 20
    assert 3 * (params(fast) - bias) == params(net) - bias


def test_gathering_is_the_masked_product() -> None:
    weight, wired, x = (
        torch.randn(9, 20, generator=draw()),
        expander(9, 20, 6, draw()),
        torch.randn(4, 20, generator=draw()),
    )
    own, inputs = gathered(weight, wired)
    assert torch.allclose((x[:, inputs] * own).sum(2), x @ (weight * wired).T, atol=1e-5)


def test_blocks_are_stored_whole_and_only_they_learn() -> None:
    """Gray et al. 2017: n_blocks · b · b weights; y, dx and dw are the masked dense product's."""
    net = capture(nn.Sequential(nn.Linear(64, 96)), torch.rand(1, 64)).eval()
    out = Expander("degree", 3, "small_world", 0.2, 8).apply(net, Work())
    slot = out.slot("0.weight")
    blocks = slot.mask.view(12, 8, 8, 8).transpose(1, 2)
    assert torch.equal(blocks.all((2, 3)), blocks.any((2, 3))) and (blocks.any((2, 3)).sum(1) == 3).all()
    assert int(slot.mask.sum()) == 12 * 3 * 8 * 8 == int((slot() != 0).sum())
    x = torch.rand(5, 64, generator=draw()).requires_grad_()
    back = torch.rand(5, 96, generator=draw(1))
    out(x).backward(back)
    kept = slot.value.detach() * slot.mask
    for row, column in blocks.any((2, 3)).nonzero().tolist():
        rows, columns = slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8)
        assert torch.allclose(slot.value.grad[rows, columns], back[:, rows].T @ x.detach()[:, columns], atol=1e-5)
    assert torch.allclose(x.grad, back @ kept, atol=1e-5) and not slot.value.grad[~slot.mask].any()


def test_what_it_leaves_alone_and_what_it_refuses() -> None:
    net = capture(nn.Sequential(nn.ConvTranspose1d(8, 8, 3), nn.Conv1d(8, 8, 3, groups=4)), torch.rand(1, 8, 9)).eval()
    work = Work()
    assert Expander("degree", 4).apply(net, work).spec == net.spec
    assert ["transposed" in work.notes[0].text, "no more than 4" in work.notes[1].text] == [True, True]
    with pytest.raises(BadInput, match="block"):
        Expander(block=2, form="gathered")
    with pytest.raises(BadInput, match="amount"):
        Expander(amount=0.5)


def test_a_mask_that_was_there_stays() -> None:
    net = small_mlp()
    weight = net.slot("0.weight")()
    net.set_slot("0.weight", Masked(weight, weight > 0))
    out = Expander("compression", 2).apply(net, Work())
    assert not (out.slot("0.weight").mask & (weight <= 0)).any()


def test_files_hold_it(tmp_path: Path) -> None:
    for form in ("masked", "gathered"):
        net: Net = Expander(form=form).apply(small_conv(), Work()).eval()
        (x,) = inputs_for(net, 32)
        for target in (Packed(), Onnx()):
            got = target.load(Path(target.write(freeze(net), tmp_path / form).path))(x.numpy())
            np.testing.assert_allclose(got, net(x).detach().numpy(), rtol=1e-4, atol=1e-5)
