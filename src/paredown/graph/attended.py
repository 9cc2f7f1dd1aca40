"""Weights of which attention leaves one in each kernel."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from paredown.graph.latent import Latent
from paredown.graph.net import Net
from paredown.graph.slots import Masked

NORMALISED = ("slice", "tensor")
"""What the attention's standard deviation is taken over: each kernel by itself, or the whole layer."""

REACH = 10.0
"""The standard deviation that attention starts with: the larger, the less an optimiser's step of a given size turns it."""


def softened(attention: Tensor, sharpness: Tensor | float, normalised: str = "slice") -> Tensor:
    """Return softmax(T · A / sd(A)) over the last dimension (Hacene et al. 2019, algorithm 1).

    attention: A, [outputs, inputs, places]; of one place it is 1. sharpness: T. normalised: see `NORMALISED`.
    """
    dims = (0, 1, 2) if normalised == "tensor" else (2,)
    spread = attention.std(dims, keepdim=True, correction=0).clamp_min(1e-12)
    return (sharpness * attention / spread).softmax(-1)


def one_hot(attention: Tensor) -> Tensor:
    """Return True at the largest of the last dimension, of equal ones the first: what `softened` comes to as T grows."""
    return nn.functional.one_hot(attention.argmax(-1), attention.shape[-1]).bool()


class Attended(Latent):
    """A kernel's weights times an attention over its places; in eval mode only the weight with the most attention.

    value: [out, in, kernel…]. attention: A, [out, in, places], or [1, in, places] for one that all filters share. It starts at the
    sizes of the weights. sharpness: T, which `habit.sharpen` raises. normalised: see `NORMALISED`.
    """

    form: ClassVar[str] = "masked"
    sharpness: Tensor

    def __init__(self, value: Tensor, shared: bool, sharpness: float, normalised: str) -> None:
        super().__init__(value)
        self.normalised = normalised
        size = value.detach().flatten(2).square()
        size = (size.sum(0, keepdim=True) if shared else size).sqrt()
        self.attention = nn.Parameter(REACH * size / size.std(correction=0).clamp_min(1e-12))
        self.register_buffer("sharpness", torch.tensor(float(sharpness), device=value.device))

    def mask(self) -> Tensor:
        """Return True where a weight would stay now, in the value's shape: one in each kernel."""
        return one_hot(self.attention.detach()).expand(len(self.value), -1, -1).reshape(self.value.shape)

    def forward(self) -> Tensor:
        if not self.training:
            return self.value * self.mask()
        soft = softened(self.attention, self.sharpness, self.normalised)
        return (self.value.flatten(2) * soft).view_as(self.value)

    @torch.no_grad()
    def held(self) -> Masked:
        """Return the weights that stay, and the mask."""
        return Masked(self.value * self.mask(), self.mask())


def attended(net: Net) -> dict[str, Attended]:
    """Return the weights of a network that attention is narrowed in, by name."""
    return {name: slot for name in net.slot_names() if isinstance(slot := net.slot(name), Attended)}
