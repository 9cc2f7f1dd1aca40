"""DenseNet (Huang, Liu, van der Maaten, Weinberger 2017, arXiv 1608.06993)."""

import torch
from torch import Tensor, nn

from paredown.core.errors import BadInput
from paredown.zoo.blocks import between, head, pictures
from paredown.zoo.resnet import stem


def _norm_conv(inside: int, outside: int, kernel: int) -> list[nn.Module]:
    conv = nn.Conv2d(inside, outside, kernel, padding=kernel // 2, bias=False)
    return [nn.BatchNorm2d(inside), nn.ReLU(), conv]


class _Grow(nn.Module):
    """Appends `growth` channels, made through 4 · growth where there is a bottleneck."""

    def __init__(self, inside: int, growth: int, bottleneck: bool) -> None:
        super().__init__()
        through = _norm_conv(inside, 4 * growth, 1) if bottleneck else []
        self.make = nn.Sequential(*through, *_norm_conv(4 * growth if bottleneck else inside, growth, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.make(x)], 1)


def _dense(
    inside: int, growth: int, blocks: tuple[int, ...], bottleneck: bool, kept: float
) -> tuple[nn.Sequential, int]:
    """Return the blocks with transitions between them that keep a share of the channels, and the channels at the end."""
    layers: list[nn.Module] = []
    for at, block in enumerate(blocks):
        if at:
            layers += [*_norm_conv(inside, int(inside * kept), 1), nn.AvgPool2d(2)]
            inside = int(inside * kept)
        layers += [_Grow(inside + step * growth, growth, bottleneck) for step in range(block)]
        inside += block * growth
    return nn.Sequential(*layers, nn.BatchNorm2d(inside), nn.ReLU()), inside


def densenet_121(shape: tuple[int, ...], classes: int, growth: int = 32) -> nn.Sequential:
    """Return DenseNet-121; 7,978,856 parameters and 2,834,161,664 MACs on 3 x 224 x 224 with 1,000 classes.

    growth: channels that each layer appends; the first convolution has twice as many. Pictures have 29 x 29 or more.
    Raises BadInput.
    """
    between("densenet_121", "growth", growth, 1, 256)
    channels = pictures("densenet_121", shape, 29)
    layers, outside = _dense(2 * growth, growth, (6, 12, 24, 16), True, 0.5)
    return nn.Sequential(stem(channels, 2 * growth), layers, head(outside, classes))


def densenet_small(
    shape: tuple[int, ...], classes: int, depth: int = 100, growth: int = 12, bottleneck: bool = True
) -> nn.Sequential:
    """Return DenseNet-BC for small pictures; depth 100 has 769,162 parameters and 287,929,692 MACs on 3 x 32 x 32.

    depth: 6n + 4. bottleneck: whether layers and transitions are compressed (BC); depth 40 without has 1,019,722 and
    264,812,928. Pictures have 4 x 4 or more. Raises BadInput.
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or (depth - 4) % 6 or depth < 10:
        raise BadInput(f"model densenet_small has a depth of 6n + 4, like 40 or 100, not {depth}")
    between("densenet_small", "growth", growth, 1, 256)
    inside = 2 * growth if bottleneck else 16
    first = nn.Conv2d(pictures("densenet_small", shape, 4), inside, 3, padding=1, bias=False)
    block = (depth - 4) // (6 if bottleneck else 3)
    layers, outside = _dense(inside, growth, (block,) * 3, bottleneck, 0.5 if bottleneck else 1.0)
    return nn.Sequential(first, layers, head(outside, classes))
