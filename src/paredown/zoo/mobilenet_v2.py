"""MobileNetV2 (Sandler, Howard, Zhu, Zhmoginov, Chen 2018, arXiv 1801.04381, table 2)."""

from torch import nn

from paredown.zoo.blocks import Inverted, between, conv_norm, divisible, head, pictures

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, blocks, stride of the first block."""


def mobilenet_v2(shape: tuple[int, ...], classes: int, width: float = 1.0) -> nn.Sequential:
    """Return MobileNetV2; 3,504,872 parameters and 300,774,272 MACs on 3 x 224 x 224 with 1,000 classes.

    width: multiplies the channels, rounded to multiples of 8, and the last layer's 1,280 only above 1; 1.4 gives
    6,108,776 parameters and 582,195,824 MACs (the paper's table says 6.9 M, which no public build has).
    Raises BadInput.
    """
    between("mobilenet_v2", "width", width, 0.05, 4.0)
    inside = divisible(32 * width)
    layers: list[nn.Module] = [conv_norm(pictures("mobilenet_v2", shape), inside, 3, 2, act=nn.ReLU6)]
    for expansion, channels, blocks, stride in STAGES:
        outside = divisible(channels * width)
        for at in range(blocks):
            layers.append(Inverted(inside, inside * expansion, outside, stride=stride if at == 0 else 1))
            inside = outside
    last = divisible(1280 * max(1.0, width))
    return nn.Sequential(*layers, conv_norm(inside, last, 1, act=nn.ReLU6), head(last, classes, 0.2))
