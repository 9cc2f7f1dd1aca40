"""A convolution as three: exact at full rank, nearer with every rank, of the size that the formula says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from contracts.nets import small_conv
from contracts.pooled_digits import pictures, pooled
from contracts.step import StepContract, params, same
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.methods.factorize.tucker import Tucker, composed, feasible, ranks_by_share, size, tucker2, unfoldings
from paredown.targets.onnx import Onnx
from paredown.targets.packed import Packed


class TestTucker(StepContract):
    def part(self) -> Tucker:
        return Tucker("params", 0.5)

    def settings(self) -> list[Any]:
        return [Tucker(), Tucker("vbmf")]

    def nets(self) -> dict[str, Net]:
        return {"conv": small_conv()}


def weight(ranks: tuple[int, int] | None = None, shape: tuple[int, ...] = (12, 10, 3, 3)) -> torch.Tensor:
    """Return a random convolution, of those Tucker-2 ranks if they are given."""
    draw = torch.Generator().manual_seed(0)
    if ranks is None:
        return torch.randn(shape, generator=draw)
    core = torch.randn(*ranks, *shape[2:], generator=draw)
    sides = torch.randn(ranks[1], shape[1], generator=draw), torch.randn(shape[0], ranks[0], generator=draw)
    return composed(sides[0], core, sides[1])


def off(whole: torch.Tensor, ranks: tuple[int, int]) -> float:
    """Return the relative error of a decomposition."""
    return float((whole - composed(*tucker2(whole, ranks))).norm() / whole.norm())


def test_full_rank_is_exact_and_the_error_falls_with_rank() -> None:
    for whole in (weight(), weight(shape=(8, 6, 5))):
        out, into = whole.shape[:2]
        assert off(whole, (out, into)) < 1e-5
        errors = [off(whole, (max(1, round(out * f)), max(1, round(into * f)))) for f in (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)]
        assert errors == sorted(errors, reverse=True) and errors[0] < 1


def test_planted_ranks_are_met_exactly() -> None:
    planted = weight((4, 3))
    assert off(planted, (4, 3)) < 1e-5 and off(planted, (3, 3)) > 1e-2 and off(planted, (4, 2)) > 1e-2
    assert [torch.linalg.matrix_rank(m).item() for m in unfoldings(planted)] == [4, 3]


def test_no_higher_than_its_energies_left_out() -> None:
    """The error of a truncated higher-order decomposition is at most what both unfoldings leave out (De Lathauwer 2000)."""
    whole = weight()
    for ranks in ((2, 2), (6, 3), (10, 8)):
        values = [torch.linalg.svdvals(m)[r:].square().sum() for m, r in zip(unfoldings(whole), ranks, strict=True)]
        assert (off(whole, ranks) * float(whole.norm())) ** 2 <= float(sum(values)) * (1 + 1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (3, 5), "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)},
        {"kernel_size": 3, "padding": "same", "bias": False},
    ],
)
def test_the_three_layers_are_the_convolution_of_their_product(settings: dict) -> None:
    torch.manual_seed(0)
    net = capture(nn.Sequential(nn.Conv2d(8, 12, **settings)), torch.rand(1, 8, 12, 13)).eval()
    out = Tucker("params", 0.7).apply(net, Work()).eval()
    first, core, last = (out.slot(f"0.{part}.weight")().detach() for part in ("first", "core", "last"))
    like = net.copy()
    like.slot("0.weight").value.data = composed(first.flatten(1), core, last.flatten(1))
    x = torch.rand(2, 8, 12, 13)
    assert same(like(x), out(x), 1e-5) and len(out.spec.nodes) == 3
    shape, ranks = net.slot("0.weight")().shape, (last.shape[1], first.shape[0])
    assert params(net) - params(out) == net.slot("0.weight")().numel() - size(shape, ranks)


def test_ranks_by_share_fill_the_share() -> None:
    shape = (32, 16, 3, 3)
    for share in (0.05, 0.2, 0.5, 0.9):
        ranks = ranks_by_share(shape, share)
        assert size(shape, ranks) <= share * 32 * 16 * 9 < size(shape, (ranks[0] + 2, ranks[1] + 1))
    assert ranks_by_share(shape, 0.001) == (1, 1) and feasible((12, 1), 3) == (3, 1)


def test_by_vbmf_noise_is_left_out() -> None:
    torch.manual_seed(0)
    net = capture(nn.Sequential(nn.Conv2d(40, 48, 3, padding=1)), torch.rand(1, 40, 6, 6)).eval()
    planted = weight((5, 4), (48, 40, 3, 3))
    noisy = planted + 0.05 * planted.std() * torch.randn(planted.shape)
    net.slot("0.weight").value.data = noisy
    out = Tucker("vbmf").apply(net, Work())
    assert out.slot("0.core.weight")().shape == (5, 4, 3, 3)
    parts = [out.slot(f"0.{part}.weight")().detach() for part in ("first", "core", "last")]
    made = composed(parts[0].flatten(1), parts[1], parts[2].flatten(1))
    assert (made - planted).norm() < 0.5 * (noisy - planted).norm()


def test_layers_without_a_kernel_or_a_gain_are_named_and_files_hold_the_rest(tmp_path: Path) -> None:
    net, x = pooled(0), pictures(0)[1].x
    work = Work()
    out = Tucker("params", 0.5).apply(net, work).eval()
    said = {note.layer: note.text for note in work.notes}
    names = [name for name, _ in net.weighted()]
    assert "no kernel" in said[names[-1]] and names[1] not in out.slot_names() and names[2] not in out.slot_names()
    silent = Work()
    assert Tucker("energy", 0.999).apply(net, silent).spec == net.spec
    assert all("fewer" in note.text or "kernel" in note.text for note in silent.notes) and len(silent.notes) == 4
    for target in (Packed(), Onnx()):
        got = target.load(Path(target.write(freeze(out), tmp_path).path))(x.numpy())
        assert np.allclose(got, out(x).detach().numpy(), atol=1e-4)
