"""Convolutions of every kind in a file are what their definitions say: transposed is the adjoint, dilated is stuffed with zeros."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.targets.deliver import load
from paredown.targets.onnx import Onnx


def made(module: nn.Module, x: Tensor, folder: Path) -> np.ndarray:
    """Return what ONNX Runtime makes of the file of a module, flattened by the module itself."""
    net = capture(nn.Sequential(module, nn.Flatten()).eval(), (x,))
    return load(Onnx().write(freeze(net), folder).path)(x.numpy())


SETTINGS = [
    {"stride": 1, "padding": 0}, {"stride": 2, "padding": 1}, {"stride": 3, "padding": 2, "groups": 2}, {"stride": 2, "padding": 2, "dilation": 2},
]  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_transposed_convolution_is_the_adjoint(settings: dict[str, int], tmp_path: Path) -> None:
    """⟨conv(x), y⟩ = ⟨x, convT(y)⟩ for every x and y, with one weight in both."""
    torch.manual_seed(0)
    forth = nn.Conv2d(4, 6, 3, bias=False, **settings)  # type: ignore[arg-type]
    x = torch.randn(2, 4, 11, 11)
    y = torch.randn_like(forth(x))
    lost = x.shape[2] - nn.functional.conv_transpose2d(y, forth.weight, **settings).shape[2]
    back = nn.ConvTranspose2d(6, 4, 3, bias=False, output_padding=lost, **settings)  # type: ignore[arg-type]
    back.weight = forth.weight
    one, other = made(forth, x, tmp_path / "forth"), made(back, y, tmp_path / "back")
    assert (one * y.flatten(1).numpy()).sum() == pytest.approx((other * x.flatten(1).numpy()).sum(), rel=1e-4)
    assert other.shape == (2, 4 * 11 * 11)


@pytest.mark.parametrize("apart", [2, 3])
def test_a_dilated_kernel_is_one_stuffed_with_zeros(apart: int, tmp_path: Path) -> None:
    """k + (k − 1)(d − 1) places, of which k count."""
    torch.manual_seed(0)
    x, dilated = torch.randn(2, 3, 13, 13), nn.Conv2d(3, 5, 3, dilation=apart)
    stuffed = nn.Conv2d(3, 5, 3 + 2 * (apart - 1))
    with torch.no_grad():
        stuffed.weight.zero_()
        stuffed.weight[:, :, ::apart, ::apart] = dilated.weight
        stuffed.bias.copy_(dilated.bias)  # type: ignore[union-attr, arg-type]
    np.testing.assert_allclose(made(dilated, x, tmp_path / "a"), made(stuffed, x, tmp_path / "b"), atol=1e-5)


def test_a_separable_kernel_is_an_outer_product(tmp_path: Path) -> None:
    """k × 1 and then 1 × k for each channel is one kernel of rank 1."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 9, 9)
    tall, wide = (nn.Conv2d(3, 3, kernel, groups=3, bias=False) for kernel in ((3, 1), (1, 3)))
    whole = nn.Conv2d(3, 3, 3, groups=3, bias=False)
    whole.weight = nn.Parameter(tall.weight * wide.weight)
    both = made(nn.Sequential(tall, wide), x, tmp_path / "a")
    np.testing.assert_allclose(both, made(whole, x, tmp_path / "b"), atol=1e-5)
