"""What the families are made of: convolution with norm and activation, squeezing, the inverted residual, heads, checks."""

import math
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from paredown.core.errors import BadInput

Act = Callable[[], nn.Module]
"""What makes an activation: a class like nn.ReLU."""


def pictures(model: str, shape: tuple[int, ...], least: int = 1) -> int:
    """Return the channels of samples (channels, height, width).

    Raises BadInput for samples that are no pictures, or have a side below `least`.
    """
    if len(shape) != 3:
        raise BadInput(f"model {model} wants pictures (channels, height, width), not samples of shape {shape}")
    if min(shape[1:]) < least:
        raise BadInput(f"model {model} wants pictures of {least} x {least} or more, not samples of shape {shape}")
    return shape[0]


def among(model: str, setting: str, value: Any, choices: Collection[Any]) -> None:
    """Raise BadInput unless a setting has one of the values in `choices`."""
    if isinstance(value, bool) or value not in tuple(choices):
        raise BadInput(f"model {model} has {setting} {', '.join(map(str, choices))}, not {value!r}")


def between(model: str, setting: str, value: Any, low: float, high: float) -> None:
    """Raise BadInput unless a setting is a number from `low` to `high`; a whole number where `low` is one of type int."""
    kinds = (int,) if isinstance(low, int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "a whole number" if isinstance(low, int) else "a number"
        raise BadInput(f"model {model} has as {setting} {kind} from {low} to {high}, not {value!r}")


def divisible(value: float, by: int = 8) -> int:
    """Return the multiple of `by` nearest to `value`, at least `by` and at least 90 % of `value` (MobileNetV2's rule)."""
    nearest = max(by, int(value + by / 2) // by * by)
    return nearest + by if nearest < 0.9 * value else nearest


def conv_norm(
    inside: int,
    outside: int,
    kernel: int | tuple[int, int] = 3,
    stride: int | tuple[int, int] = 1,
    groups: int = 1,
    act: Act | None = nn.ReLU,
    padding: int | None = None,
) -> nn.Sequential:
    """Return a convolution without bias, batch norm and the activation; padded to keep the size unless told."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    around = (padding, padding) if padding is not None else (sides[0] // 2, sides[1] // 2)
    layers: list[nn.Module] = [nn.Conv2d(inside, outside, sides, stride, around, groups=groups, bias=False)]
    layers += [nn.BatchNorm2d(outside), *([act()] if act else [])]
    return nn.Sequential(*layers)


def head(inside: int, classes: int, dropout: float = 0.0) -> nn.Sequential:
    """Return the mean over positions, dropout and a linear layer."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), *([nn.Dropout(dropout)] if dropout else []), nn.Linear(inside, classes)
    )


class Residual(nn.Module):
    """A sum of two paths and an activation: `main(x) + short(x)`; without `short` the input itself is added."""

    def __init__(self, main: nn.Module, short: nn.Module | None = None, act: Act = nn.ReLU) -> None:
        super().__init__()
        self.main = main
        self.short = short or nn.Identity()
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.main(x) + self.short(x))


class Squeeze(nn.Module):
    """Squeeze-and-excitation: channels times a gate of their means (Hu, Shen, Sun 2018), through `middle` channels."""

    def __init__(self, channels: int, middle: int, act: Act = nn.ReLU, gate: Act = nn.Sigmoid) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, middle, 1), act(), nn.Conv2d(middle, channels, 1), gate()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class Inverted(nn.Module):
    """The inverted residual of MobileNetV2: 1 x 1 to `hidden` (left out where nothing grows), depthwise, linear 1 x 1.

    `squeeze` stands after the depthwise convolution. The input is added where the shape stays.
    """

    def __init__(
        self, inside: int, hidden: int, outside: int, kernel: int = 3, stride: int = 1, act: Act = nn.ReLU6,
        squeeze: nn.Module | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.expand = conv_norm(inside, hidden, 1, act=act) if hidden != inside else nn.Identity()
        self.depthwise = conv_norm(hidden, hidden, kernel, stride, hidden, act)
        self.squeeze = squeeze or nn.Identity()
        self.project = conv_norm(hidden, outside, 1, act=None)
        self.adds = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.squeeze(self.depthwise(self.expand(x))))
        return x + y if self.adds else y


class Concat(nn.Module):
    """The channels of several paths behind one another."""

    def __init__(self, *paths: nn.Module) -> None:
        super().__init__()
        self.paths = nn.ModuleList(paths)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([path(x) for path in self.paths], 1)


def repeats(count: int, depth: float) -> int:
    """Return how often a block stands when a network is made `depth` times as deep, rounded up."""
    return math.ceil(count * depth)
