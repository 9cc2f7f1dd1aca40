"""What the weights of a layer are multiplied with, laid out as columns, and what the layer makes of it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from paredown.graph.spec import Node

LAYERS = frozenset({"linear", "conv1d", "conv2d", "conv1d.padding", "conv2d.padding"})
"""Operators whose windows can be laid out."""


def windows(node: Node, x: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """Return each window of a layer's input `x`, [samples, groups, inputs of a group, taps, places].

    kernel: the weight's shape behind its two first dimensions. A product with the weight, [groups, outputs of a group,
    inputs of a group, taps], summed over inputs and taps, is what the layer makes without its bias (`outputs`).
    """
    if node.op == "linear":
        return x.reshape(len(x), -1, x.shape[-1]).transpose(1, 2)[:, None, :, None]
    stride, dilation, padding = tuple(node.get("stride")), tuple(node.get("dilation")), node.get("padding")
    if isinstance(padding, str):
        x, padding = _padded(x, kernel, dilation) if padding == "same" else x, (0,) * len(kernel)
    padding = tuple(padding)
    if len(kernel) == 1:
        x, kernel = x[:, :, None], (1, *kernel)
        stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
    laid = F.unfold(x, kernel, dilation, padding, stride)
    groups, taps = int(node.get("groups")), kernel[0] * kernel[1]
    return laid.view(len(x), groups, x.shape[1] // groups, taps, -1)


def outputs(node: Node, value: Tensor) -> Tensor:
    """Return what a layer made, [samples, outputs, places], at the places of `windows`."""
    if node.op == "linear":
        return value.reshape(len(value), -1, value.shape[-1]).transpose(1, 2)
    return value.flatten(2)


def some_places(samples: int, places: int, wanted: int, draw: torch.Generator) -> Tensor:
    """Return for each sample `wanted` different places of `places` (all where there are fewer), [samples, wanted]."""
    if wanted >= places:
        return torch.arange(places).expand(samples, places)
    return torch.rand(samples, places, generator=draw).argsort(1)[:, :wanted]


def at_places(laid: Tensor, places: Tensor) -> Tensor:
    """Return the columns of `laid`, [samples, …, places], that stand at [samples, wanted]: [samples, …, wanted]."""
    at = places.to(laid.device).view(len(places), *[1] * (laid.dim() - 2), -1)
    return laid.gather(-1, at.expand(*laid.shape[:-1], -1))


def _padded(x: Tensor, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> Tensor:
    """Return `x` with the zeros of padding="same"; an odd one goes to the end, as torch has it."""
    sizes: list[int] = []
    for size, step in zip(reversed(kernel), reversed(dilation), strict=True):
        extra = step * (size - 1)
        sizes += [extra // 2, extra - extra // 2]
    return F.pad(x, sizes)
