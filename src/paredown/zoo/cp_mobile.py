"""CP-Mobile for acoustic scenes (Schmid et al. 2023), in the size of DCASE 2024's baseline (task 1)."""

from torch import nn

from paredown.zoo.blocks import Residual, between, conv_norm, divisible, pictures

STAGES = ((0, ((1, 1), (1, 1), (1, 2))), (1, ((2, 1), (1, 1))), (2, ((1, 1),)))
"""Power of the multiplier that a stage's channels have, and the strides of its blocks over bands and frames."""


def _block(inside: int, hidden: int, outside: int, stride: tuple[int, int]) -> nn.Module:
    """Return an inverted residual with ReLU after the sum; where it strides, the input is averaged before it is added."""
    depthwise = conv_norm(hidden, hidden, 3, stride, hidden)
    main = nn.Sequential(conv_norm(inside, hidden, 1), depthwise, conv_norm(hidden, outside, 1, act=None))
    if inside != outside:
        return nn.Sequential(main, nn.ReLU())
    return Residual(main, None if stride == (1, 1) else nn.AvgPool2d(3, stride, 1))


def cp_mobile(
    shape: tuple[int, ...], classes: int, width: int = 32, multiplier: float = 1.8, expansion: float = 2.1
) -> nn.Sequential:
    """Return CP-Mobile; 61,148 parameters and 29,416,448 MACs on 1 x 256 x 65 with 10 classes (29,419,156 by NeSsi).

    width: channels of the first stage. multiplier: how many times more the next has. expansion: within a block.
    Raises BadInput.
    """
    between("cp_mobile", "width", width, 8, 1024)
    between("cp_mobile", "multiplier", multiplier, 0.1, 8.0)
    between("cp_mobile", "expansion", expansion, 0.1, 16.0)
    inside = divisible(width)
    layers: list[nn.Module] = [conv_norm(pictures("cp_mobile", shape), inside // 4, 3, 2)]
    layers.append(conv_norm(inside // 4, inside, 3, 2))
    for power, strides in STAGES:
        outside = divisible(divisible(width) * multiplier**power)
        for stride in strides:
            layers.append(_block(inside, divisible(inside * expansion), outside, stride))
            inside = outside
    last = nn.Sequential(nn.Conv2d(inside, classes, 1, bias=False), nn.BatchNorm2d(classes))
    return nn.Sequential(*layers, last, nn.AdaptiveAvgPool2d(1), nn.Flatten())
