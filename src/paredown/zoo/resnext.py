"""ResNeXt (Xie et al. 2017, arXiv 1611.05431) and the squeeze-and-excitation networks (Hu, Shen, Sun 2018, 1709.01507)."""

from functools import partial

from torch import nn

from paredown.zoo.blocks import Residual, Squeeze, between, conv_norm, head, pictures
from paredown.zoo.resnet import bottleneck, shortcut, stages, stem


def resnext_50(shape: tuple[int, ...], classes: int, groups: int = 32, each: int = 4) -> nn.Sequential:
    """Return ResNeXt-50; 25,028,904 parameters and 4,230,479,872 MACs on 3 x 224 x 224 with 1,000 classes.

    groups, each: the first stage's 3 x 3 convolutions have `groups` groups of `each` channels (32x4d). Raises BadInput.
    """
    between("resnext_50", "groups", groups, 1, 256)
    between("resnext_50", "each", each, 1, 256)

    def block(inside: int, width: int, stride: int) -> Residual:
        return bottleneck(inside, width, stride, groups * each * width // 64, groups)

    layers = stages(64, block, 4, 64, (3, 4, 6, 3))
    return nn.Sequential(stem(pictures("resnext_50", shape), 64), *layers, head(2048, classes))


def se_resnet_50(shape: tuple[int, ...], classes: int, width: int = 64, reduction: int = 16) -> nn.Sequential:
    """Return SE-ResNet-50; 28,088,024 parameters and 4,091,699,200 MACs on 3 x 224 x 224 with 1,000 classes.

    reduction: how many times fewer channels the gates go through. Raises BadInput.
    """
    between("se_resnet_50", "width", width, 4, 1024)
    between("se_resnet_50", "reduction", reduction, 1, 4 * width)

    def block(inside: int, wide: int, stride: int) -> Residual:
        return bottleneck(inside, wide, stride, squeeze=Squeeze(4 * wide, 4 * wide // reduction))

    layers = stages(width, block, 4, width, (3, 4, 6, 3))
    return nn.Sequential(stem(pictures("se_resnet_50", shape), width), *layers, head(32 * width, classes))


def _senet_block(inside: int, width: int, stride: int, groups: int) -> Residual:
    outside = 4 * width
    main = nn.Sequential(
        conv_norm(inside, 2 * width, 1), conv_norm(2 * width, outside, 3, stride, groups),
        conv_norm(outside, outside, 1, act=None), Squeeze(outside, outside // 16),
    )  # fmt: skip
    return Residual(main, shortcut(inside, outside, stride, 1 if stride == 1 else 3))


def senet_154(shape: tuple[int, ...], classes: int, width: int = 64, groups: int = 64) -> nn.Sequential:
    """Return SENet-154; 115,088,984 parameters and 20,688,363,520 MACs on 3 x 224 x 224 with 1,000 classes."""
    between("senet_154", "width", width, 4, 1024)
    between("senet_154", "groups", groups, 1, 2 * width)
    channels = pictures("senet_154", shape)
    begin = [conv_norm(channels, width, 3, 2), conv_norm(width, width), conv_norm(width, 2 * width)]
    layers = stages(2 * width, partial(_senet_block, groups=groups), 4, width, (3, 8, 36, 3))
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    return nn.Sequential(*begin, pool, *layers, head(32 * width, classes, 0.2))
