"""DeepLabV3 on ResNet-50 (Chen, Papandreou, Schroff, Adam 2017, arXiv 1706.05587), with an output stride of 8.

It gives scores for every place, and is called by hand: it is no model of tasks with one answer a sample.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from paredown.core.errors import BadInput
from paredown.zoo.blocks import Residual, between, conv_norm
from paredown.zoo.resnet import bottleneck, shortcut, stem

RATES = (12, 24, 36)
"""Dilations of the pyramid; the paper's 6, 12, 18 at an output stride of 16, doubled."""


def _atrous(inside: int, outside: int, rate: int) -> nn.Sequential:
    """Return a 3 x 3 convolution whose kernel's places are `rate` apart, batch norm and ReLU."""
    conv = nn.Conv2d(inside, outside, 3, padding=rate, dilation=rate, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outside), nn.ReLU())


def _dilated(inside: int, width: int, rate: int) -> Residual:
    """Return ResNet's bottleneck without stride, its 3 x 3 convolution dilated."""
    main = nn.Sequential(
        conv_norm(inside, width, 1), _atrous(width, width, rate), conv_norm(width, 4 * width, 1, act=None)
    )
    return Residual(main, shortcut(inside, 4 * width, 1))


class _Pyramid(nn.Module):
    """A 1 x 1 convolution, dilated ones and the mean over all places, behind one another, through a 1 x 1 convolution."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList([conv_norm(inside, outside, 1), *[_atrous(inside, outside, rate) for rate in RATES]])
        self.mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_norm(inside, outside, 1))
        self.project = nn.Sequential(conv_norm(5 * outside, outside, 1), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        everywhere = self.mean(x).expand(-1, -1, *x.shape[2:])
        return self.project(torch.cat([*[path(x) for path in self.paths], everywhere], 1))


class DeepLab(nn.Module):
    """Scores (n, classes, height, width) of pictures (n, channels, height, width)."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [stem(channels, width)]
        inside = width
        for wide, depth, stride in ((width, 3, 1), (2 * width, 4, 2)):
            for at in range(depth):
                layers.append(bottleneck(inside, wide, 1 if at else stride))
                inside = 4 * wide
        for wide, rates in ((4 * width, (1, *[2] * 5)), (8 * width, (2, 4, 4))):
            for rate in rates:
                layers.append(_dilated(inside, wide, rate))
                inside = 4 * wide
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(_Pyramid(inside, 4 * width), _atrous(4 * width, 4 * width, 1))
        self.scores = nn.Conv2d(4 * width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.scores(self.head(self.body(x)))
        return interpolate(scores, x.shape[2:], mode="bilinear", align_corners=False)


def deeplab_v3(channels: int = 3, classes: int = 21, width: int = 64) -> DeepLab:
    """Return DeepLabV3-R50 without side head; 39,638,869 parameters and 168,652,962,240 MACs on 3 x 513 x 513.

    width: channels of ResNet's first stage. Raises BadInput.
    """
    between("deeplab_v3", "channels", channels, 1, 4096)
    between("deeplab_v3", "width", width, 1, 1024)
    if classes < 1:
        raise BadInput(f"model deeplab_v3 wants one class or more, not {classes}")
    return DeepLab(channels, classes, width)
