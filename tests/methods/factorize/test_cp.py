"""A convolution as four: planted terms are found, the size is R times the sum of the sides."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from contracts.nets import small_conv
from contracts.pooled_digits import pictures, pooled
from contracts.step import StepContract, macs, params, same
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.methods.factorize.cp import LARGE, Cp, composed, cp, size, sizes_of
from paredown.targets.onnx import Onnx
from paredown.targets.packed import Packed


class TestCp(StepContract):
    def part(self) -> Cp:
        return Cp(keep=0.3, iterations=20)

    def settings(self) -> list[Any]:
        return [Cp(), Cp("energy", 0.6)]

    def nets(self) -> dict[str, Net]:
        return {"conv": small_conv()}


def planted(rank: int, shape: tuple[int, ...] = (12, 10, 3, 3)) -> Tensor:
    """Return a weight of so many random terms."""
    draw = torch.Generator().manual_seed(rank)
    return composed([torch.randn(n, rank, generator=draw) for n in shape])


def off(whole: Tensor, rank: int) -> float:
    """Return the relative error of a decomposition."""
    return float((whole - composed(cp(whole, rank))).norm() / whole.norm())


@pytest.mark.parametrize("shape", [(12, 10, 3, 3), (9, 8, 5)])
def test_planted_terms_are_found(shape: tuple[int, ...]) -> None:
    for rank in (1, 3):
        assert off(planted(rank, shape), rank) < 1e-5
    assert off(planted(3, shape), 2) > 1e-2


def test_full_rank_is_exact_and_the_error_falls_with_rank() -> None:
    """A weight of n×m matrices has at most as many terms as the product of all its sides but the longest."""
    draw = torch.Generator().manual_seed(0)
    whole = torch.randn(6, 4, 3, 3, generator=draw)
    errors = [off(whole, rank) for rank in (1, 3, 6, 12, 36)]
    assert errors == sorted(errors, reverse=True) and errors[0] < 1 and errors[-1] < 1e-5


def test_terms_do_not_cancel() -> None:
    """A weight of border rank 2 and rank 3: two terms come as near as one likes only by growing without bound."""
    a, b = torch.eye(4)[0], torch.eye(4)[1]
    one = [(a, a, b), (a, b, a), (b, a, a)]
    weight = sum(torch.einsum("i,j,k->ijk", *term) for term in one)
    factors = cp(weight, 2, 3000)
    assert sizes_of(factors) <= LARGE and (composed(factors) - weight).norm() < weight.norm()


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (3, 5), "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)},
        {"kernel_size": 3, "padding": "same", "bias": False},
    ],
)
def test_the_four_layers_are_the_convolution_of_their_product(settings: dict) -> None:
    torch.manual_seed(0)
    net = capture(nn.Sequential(nn.Conv2d(8, 12, **settings)), torch.rand(1, 8, 12, 13)).eval()
    out = Cp(keep=0.5, iterations=5).apply(net, Work()).eval()
    parts = [out.slot(f"0.{part}.weight")().detach().flatten(1) for part in ("last", "first", "height", "width")]
    factors = [parts[0], *(part.T for part in parts[1:])]
    like = net.copy()
    like.slot("0.weight").value.data = composed(factors)
    x = torch.rand(2, 8, 12, 13)
    assert same(like(x), out(x), 1e-5) and len(out.spec.nodes) == 4
    shape, rank = net.slot("0.weight")().shape, parts[1].shape[0]
    assert params(net) - params(out) == net.slot("0.weight")().numel() - size(shape, rank)
    assert macs(out) < macs(net) and size(shape, rank) <= 0.5 * net.slot("0.weight")().numel() < size(shape, rank + 1)


def test_one_dimension_makes_three_layers() -> None:
    torch.manual_seed(0)
    net = capture(nn.Sequential(nn.Conv1d(8, 12, 5, stride=2, padding=2)), torch.rand(1, 8, 20)).eval()
    net.slot("0.weight").value.data = planted(2, (12, 8, 5))
    out = Cp("energy", 0.99).apply(net, Work()).eval()
    x = torch.rand(2, 8, 20)
    assert len(out.spec.nodes) == 3 and out.slot("0.first.weight")().shape[0] == 2 and same(net(x), out(x), 0.2)


def test_layers_without_a_kernel_or_a_gain_are_named_and_files_hold_the_rest(tmp_path: Path) -> None:
    net, x = pooled(0), pictures(0)[1].x
    work = Work()
    out = Cp(keep=0.3, iterations=20).apply(net, work).eval()
    said = {note.layer: note.text for note in work.notes}
    names = [name for name, _ in net.weighted()]
    assert "no kernel" in said[names[-1]] and names[1] not in out.slot_names() and names[2] not in out.slot_names()
    lean = Work()
    assert Cp(keep=0.01).apply(small_conv(), lean).slot_names() == small_conv().slot_names()
    assert all(any(word in note.text for note in lean.notes) for word in ("grouped", "no kernel", "no rank"))
    for target in (Packed(), Onnx()):
        got = target.load(Path(target.write(freeze(out), tmp_path).path))(x.numpy())
        assert np.allclose(got, out(x).detach().numpy(), atol=1e-4)
