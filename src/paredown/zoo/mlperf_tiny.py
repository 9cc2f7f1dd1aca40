"""The four networks of MLPerf Tiny (Banbury et al. 2021, arXiv 2106.07597; mlcommons/tiny v1.2), convolutions with biases."""

import math

from torch import nn

from paredown.zoo.blocks import Residual, between, head, pictures
from paredown.zoo.mobilenet_v1 import LAYERS

Sides = tuple[int, int]


def _around(side: int, kernel: int, stride: int) -> Sides:
    """Return the zeros before and after a side, the odd one after, for ceil(side / stride) positions (TensorFlow's SAME)."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def _conv(inside: int, outside: int, kernel: Sides, stride: int, sides: Sides, groups: int = 1) -> list[nn.Module]:
    """Return a convolution with bias, behind a padding of its own where it is uneven."""
    high, wide = (_around(side, k, stride) for side, k in zip(sides, kernel, strict=True))
    if high[0] == high[1] and wide[0] == wide[1]:
        return [nn.Conv2d(inside, outside, kernel, stride, (high[0], wide[0]), groups=groups)]
    return [nn.ZeroPad2d((*wide, *high)), nn.Conv2d(inside, outside, kernel, stride, groups=groups)]


def _unit(inside: int, outside: int, kernel: Sides, stride: int, sides: Sides, groups: int = 1) -> list[nn.Module]:
    """Return a convolution with bias, batch norm and ReLU."""
    return [*_conv(inside, outside, kernel, stride, sides, groups), nn.BatchNorm2d(outside), nn.ReLU()]


def _halved(sides: Sides, stride: int = 2) -> Sides:
    return -(-sides[0] // stride), -(-sides[1] // stride)


def ds_cnn(shape: tuple[int, ...], classes: int, width: int = 64) -> nn.Sequential:
    """Return DS-CNN-S for keyword spotting; 23,756 parameters and 2,656,768 MACs on 1 x 49 x 10 with 12 classes.

    width: channels of all layers. Raises BadInput.
    """
    between("ds_cnn", "width", width, 1, 1024)
    channels, sides = pictures("ds_cnn", shape), (shape[1], shape[2])
    layers = [*_unit(channels, width, (10, 4), 2, sides), nn.Dropout(0.2)]
    for _ in range(4):
        layers += _unit(width, width, (3, 3), 1, _halved(sides), width)
        layers += _unit(width, width, (1, 1), 1, _halved(sides))
    return nn.Sequential(*layers, nn.Dropout(0.4), head(width, classes))


def mobilenet_v1_vww(shape: tuple[int, ...], classes: int, width: float = 0.25) -> nn.Sequential:
    """Return the quarter MobileNetV1 for visual wake words; 216,322 parameters and 7,489,664 MACs on 3 x 96 x 96, 2 classes.

    width: multiplies all channels. Raises BadInput.
    """
    between("mobilenet_v1_vww", "width", width, 0.05, 4.0)
    inside = max(1, int(32 * width))
    channels, sides = pictures("mobilenet_v1_vww", shape), (shape[1], shape[2])
    layers = _unit(channels, inside, (3, 3), 2, sides)
    sides = _halved(sides)
    for wide, stride in LAYERS:
        outside = max(1, int(wide * width))
        layers += _unit(inside, inside, (3, 3), stride, sides, inside)
        sides = _halved(sides, stride)
        layers += _unit(inside, outside, (1, 1), 1, sides)
        inside = outside
    return nn.Sequential(*layers, head(inside, classes))


def resnet_8(shape: tuple[int, ...], classes: int, width: int = 16) -> nn.Sequential:
    """Return ResNet-8 for image classification; 78,186 parameters and 12,501,632 MACs on 3 x 32 x 32 with 10 classes.

    width: channels of the first stage. Its shortcuts are convolutions with a bias and without norm. Raises BadInput.
    """
    between("resnet_8", "width", width, 1, 1024)
    channels, sides = pictures("resnet_8", shape), (shape[1], shape[2])
    layers = _unit(channels, width, (3, 3), 1, sides)
    inside = width
    for stride, outside in ((1, width), (2, 2 * width), (2, 4 * width)):
        after = _halved(sides, stride)
        main = [*_unit(inside, outside, (3, 3), stride, sides), *_conv(outside, outside, (3, 3), 1, after)]
        short = nn.Conv2d(inside, outside, 1, stride) if stride == 2 else None
        layers.append(Residual(nn.Sequential(*main, nn.BatchNorm2d(outside)), short))
        inside, sides = outside, after
    return nn.Sequential(*layers, head(inside, classes))


def autoencoder(shape: tuple[int, ...], classes: int, width: int = 128, code: int = 8) -> nn.Sequential:
    """Return the fully connected autoencoder for anomaly detection; 267,928 parameters and 264,192 MACs on 640 values.

    classes: how many values come out; 640 where the input is to be rebuilt. width, code: units of the eight hidden layers
    and of the narrowest. Raises BadInput.
    """
    between("autoencoder", "width", width, 1, 65536)
    between("autoencoder", "code", code, 1, 65536)
    size = math.prod(shape)
    layers: list[nn.Module] = [nn.Flatten()]
    for wide in (*[width] * 4, code, *[width] * 4):
        layers += [nn.Linear(size, wide), nn.BatchNorm1d(wide), nn.ReLU()]
        size = wide
    return nn.Sequential(*layers, nn.Linear(size, classes))
