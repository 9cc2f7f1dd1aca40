"""MnasNet-B1 (Tan et al. 2019, arXiv 1807.11626), the form without squeezing that libraries ship."""

from torch import nn

from paredown.zoo.blocks import Inverted, between, conv_norm, divisible, head, pictures

STAGES = ((3, 3, 24, 3, 2), (3, 5, 40, 3, 2), (6, 5, 80, 3, 2), (6, 3, 96, 2, 1), (6, 5, 192, 4, 2), (6, 3, 320, 1, 1))
"""Expansion, kernel, channels, blocks, stride of the first block."""


def mnasnet(shape: tuple[int, ...], classes: int, width: float = 1.0) -> nn.Sequential:
    """Return MnasNet-B1; 4,383,312 parameters and 314,415,872 MACs on 3 x 224 x 224 with 1,000 classes.

    width: multiplies the channels before the last layer's 1,280, rounded to multiples of 8. Raises BadInput.
    """
    between("mnasnet", "width", width, 0.05, 4.0)
    stem, inside = divisible(32 * width), divisible(16 * width)
    layers: list[nn.Module] = [conv_norm(pictures("mnasnet", shape), stem, 3, 2), conv_norm(stem, stem, 3, 1, stem)]
    layers.append(conv_norm(stem, inside, 1, act=None))
    for expansion, kernel, channels, blocks, stride in STAGES:
        outside = divisible(channels * width)
        for at in range(blocks):
            hidden = inside * expansion
            layers.append(Inverted(inside, hidden, outside, kernel, stride if at == 0 else 1, nn.ReLU))
            inside = outside
    return nn.Sequential(*layers, conv_norm(inside, 1280, 1), head(1280, classes, 0.2))
