"""GoogLeNet (Szegedy et al. 2015, arXiv 1409.4842), Inception v3 (2016, 1512.00567) and Xception (Chollet 2017, 1610.02357)."""

import itertools

from torch import nn

from paredown.zoo.blocks import Concat, Residual, conv_norm, head, pictures

Side = int | tuple[int, int]
Step = tuple[int, Side] | tuple[int, Side, int]
"""Channels and kernel; with a third number, the stride of an unpadded convolution."""

GOOGLENET = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)
"""1 x 1; 1 x 1 then 3 x 3; 1 x 1 then 5 x 5; channels after pooling: of modules 3a, 3b, 4a to 4e, 5a and 5b."""


def googlenet(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Return GoogLeNet without side heads; 6,624,904 parameters and 1,498,376,192 MACs on 3 x 224 x 224, 1,000 classes.

    Raises BadInput. Differs from the paper, as libraries do: batch norm, and 3 x 3 in place of 5 x 5 kernels.
    """
    layers: list[nn.Module] = [
        conv_norm(pictures("googlenet", shape, 15), 64, 7, 2),
        nn.MaxPool2d(3, 2, ceil_mode=True),
    ]
    layers += [conv_norm(64, 64, 1), conv_norm(64, 192, 3), nn.MaxPool2d(3, 2, ceil_mode=True)]
    inside = 192
    for at, (one, narrow, three, slim, five, pooled) in enumerate(GOOGLENET):
        pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_norm(inside, pooled, 1))
        paths = _chain(inside, (one, 1)), _chain(inside, (narrow, 1), (three, 3)), _chain(inside, (slim, 1), (five, 3))
        layers.append(Concat(*paths, pool))
        inside = one + three + five + pooled
        if at in (1, 6):
            layers.append(nn.MaxPool2d(3 if at == 1 else 2, 2, ceil_mode=True))
    return nn.Sequential(*layers, head(inside, classes, 0.2))


def _chain(inside: int, *steps: Step) -> nn.Sequential:
    """Return a convolution for each (channels, kernel); with a third number, that stride, and no padding."""
    layers = []
    for channels, kernel, *strides in steps:
        stride, padding = (strides[0], 0) if strides else (1, None)
        layers.append(conv_norm(inside, channels, kernel, stride, padding=padding))
        inside = channels
    return nn.Sequential(*layers)


def _pooled(inside: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.AvgPool2d(3, 1, 1), conv_norm(inside, channels, 1))


def _squares(inside: int, pooled: int) -> Concat:
    """Return the module of 35 x 35 places (figure 5 of the paper)."""
    five = _chain(inside, (48, 1), (64, 5))
    threes = _chain(inside, (64, 1), (96, 3), (96, 3))
    return Concat(_chain(inside, (64, 1)), five, threes, _pooled(inside, pooled))


def _lines(inside: int, middle: int) -> Concat:
    """Return the module of 17 x 17 places (figure 6), through `middle` channels."""
    across, down = (1, 7), (7, 1)
    once = _chain(inside, (middle, 1), (middle, across), (192, down))
    twice = _chain(inside, (middle, 1), (middle, down), (middle, across), (middle, down), (192, across))
    return Concat(_chain(inside, (192, 1)), once, twice, _pooled(inside, 192))


def _fans(inside: int) -> Concat:
    """Return the module of 8 x 8 places (figure 7)."""
    fans = [Concat(conv_norm(384, 384, (1, 3)), conv_norm(384, 384, (3, 1))) for _ in range(2)]
    short = nn.Sequential(_chain(inside, (384, 1)), fans[0])
    long = nn.Sequential(_chain(inside, (448, 1), (384, 3)), fans[1])
    return Concat(_chain(inside, (320, 1)), short, long, _pooled(inside, 192))


def inception_v3(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Return Inception v3 without side head; 23,834,568 parameters and 5,713,216,096 MACs on 3 x 299 x 299, 1,000 classes.

    Pictures have 75 x 75 or more. Raises BadInput.
    """
    begin = _chain(pictures("inception_v3", shape, 75), (32, 3, 2), (32, 3, 1), (64, 3)), nn.MaxPool2d(3, 2)
    then = _chain(64, (80, 1), (192, 3, 1)), nn.MaxPool2d(3, 2)
    halve = Concat(_chain(288, (384, 3, 2)), _chain(288, (64, 1), (96, 3), (96, 3, 2)), nn.MaxPool2d(3, 2))
    lines = [_lines(768, middle) for middle in (128, 160, 160, 192)]
    line = _chain(768, (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2))
    quarter = Concat(_chain(768, (192, 1), (320, 3, 2)), line, nn.MaxPool2d(3, 2))
    squares = _squares(192, 32), _squares(256, 64), _squares(288, 64)
    fans = _fans(1280), _fans(2048)
    return nn.Sequential(*begin, *then, *squares, halve, *lines, quarter, *fans, head(2048, classes, 0.5))


def _separable(inside: int, outside: int) -> list[nn.Module]:
    """Return a depthwise and a 1 x 1 convolution with nothing between, and batch norm."""
    depthwise = nn.Conv2d(inside, inside, 3, padding=1, groups=inside, bias=False)
    return [depthwise, nn.Conv2d(inside, outside, 1, bias=False), nn.BatchNorm2d(outside)]


def _flow(channels: tuple[int, ...], halves: bool, begins: bool = True) -> Residual:
    """Return ReLU and a separable convolution for each pair of `channels`, around which the input is added."""
    main: list[nn.Module] = []
    for at, (inside, outside) in enumerate(itertools.pairwise(channels)):
        main += [*([nn.ReLU()] if at or begins else []), *_separable(inside, outside)]
    if not halves:
        return Residual(nn.Sequential(*main), act=nn.Identity)
    short = conv_norm(channels[0], channels[-1], 1, 2, act=None)
    return Residual(nn.Sequential(*main, nn.MaxPool2d(3, 2, 1)), short, nn.Identity)


def xception(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Return Xception; 22,855,952 parameters and 8,357,403,496 MACs on 3 x 299 x 299 with 1,000 classes.

    Pictures have 7 x 7 or more. Raises BadInput.
    """
    begin = _chain(pictures("xception", shape, 7), (32, 3, 2), (64, 3, 1))
    entry = [_flow((64, 128, 128), True, False), _flow((128, 256, 256), True), _flow((256, 728, 728), True)]
    middle = [_flow((728, 728, 728, 728), False) for _ in range(8)]
    last = [_flow((728, 728, 1024), True), *_separable(1024, 1536), nn.ReLU(), *_separable(1536, 2048), nn.ReLU()]
    return nn.Sequential(begin, *entry, *middle, *last, head(2048, classes))
