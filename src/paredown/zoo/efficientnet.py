"""EfficientNet (Tan, Le 2019, arXiv 1905.11946, table 1)."""

from torch import nn

from paredown.zoo.blocks import Inverted, Squeeze, between, conv_norm, divisible, head, pictures, repeats

STAGES = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
"""Expansion, kernel, channels, blocks, stride of the first block."""


def efficientnet_b0(
    shape: tuple[int, ...], classes: int, width: float = 1.0, depth: float = 1.0, dropout: float = 0.2
) -> nn.Sequential:
    """Return EfficientNet-B0; 5,288,548 parameters and 385,814,752 MACs on 3 x 224 x 224 with 1,000 classes.

    width, depth: compound scaling; B1 is (1.0, 1.1) at 240, B2 (1.1, 1.2) at 260, B3 (1.2, 1.4) at 300. Raises BadInput.
    Differs from the paper: no stochastic depth.
    """
    name = "efficientnet_b0"
    between(name, "width", width, 0.05, 8.0)
    between(name, "depth", depth, 0.05, 8.0)
    inside = divisible(32 * width)
    layers: list[nn.Module] = [conv_norm(pictures(name, shape), inside, 3, 2, act=nn.SiLU)]
    for expansion, kernel, channels, blocks, stride in STAGES:
        outside = divisible(channels * width)
        for at in range(repeats(blocks, depth)):
            hidden = inside * expansion
            squeeze = Squeeze(hidden, max(1, inside // 4), nn.SiLU)
            layers.append(Inverted(inside, hidden, outside, kernel, stride if at == 0 else 1, nn.SiLU, squeeze))
            inside = outside
    last = divisible(1280 * width)
    return nn.Sequential(*layers, conv_norm(inside, last, 1, act=nn.SiLU), head(last, classes, dropout))
