"""MobileNetV3 (Howard et al. 2019, arXiv 1905.02244, tables 1 and 2)."""

from torch import nn

from paredown.zoo.blocks import Inverted, Squeeze, between, conv_norm, divisible, pictures

LARGE = (
    (3, 16, 16, "RE", 1),
    (3, 64, 24, "RE", 2),
    (3, 72, 24, "RE", 1),
    (5, 72, 40, "SE RE", 2),
    (5, 120, 40, "SE RE", 1),
    (5, 120, 40, "SE RE", 1),
    (3, 240, 80, "HS", 2),
    (3, 200, 80, "HS", 1),
    (3, 184, 80, "HS", 1),
    (3, 184, 80, "HS", 1),
    (3, 480, 112, "SE HS", 1),
    (3, 672, 112, "SE HS", 1),
    (5, 672, 160, "SE HS", 2),
    (5, 960, 160, "SE HS", 1),
    (5, 960, 160, "SE HS", 1),
)
SMALL = (
    (3, 16, 16, "SE RE", 2),
    (3, 72, 24, "RE", 2),
    (3, 88, 24, "RE", 1),
    (5, 96, 40, "SE HS", 2),
    (5, 240, 40, "SE HS", 1),
    (5, 240, 40, "SE HS", 1),
    (5, 120, 48, "SE HS", 1),
    (5, 144, 48, "SE HS", 1),
    (5, 288, 96, "SE HS", 2),
    (5, 576, 96, "SE HS", 1),
    (5, 576, 96, "SE HS", 1),
)
"""Kernel, hidden and outgoing channels, squeeze-and-excitation (SE) and nonlinearity (RE: ReLU, HS: h-swish), stride."""

Rows = tuple[tuple[int, int, int, str, int], ...]


def _mobilenet_v3(
    name: str, shape: tuple[int, ...], classes: int, width: float, rows: Rows, last: int
) -> nn.Sequential:
    between(name, "width", width, 0.05, 4.0)
    inside = divisible(16 * width)
    layers: list[nn.Module] = [conv_norm(pictures(name, shape), inside, 3, 2, act=nn.Hardswish)]
    for kernel, expanded, channels, kind, stride in rows:
        hidden, outside = divisible(expanded * width), divisible(channels * width)
        squeeze = Squeeze(hidden, divisible(hidden / 4), gate=nn.Hardsigmoid) if "SE" in kind else None
        act = nn.Hardswish if "HS" in kind else nn.ReLU
        layers.append(Inverted(inside, hidden, outside, kernel, stride, act, squeeze))
        inside = outside
    wide, top = 6 * inside, divisible(last * width)
    layers += [conv_norm(inside, wide, 1, act=nn.Hardswish), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(wide, top), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(top, classes))


def mobilenet_v3_large(shape: tuple[int, ...], classes: int, width: float = 1.0) -> nn.Sequential:
    """Return MobileNetV3-Large; 5,483,032 parameters and 216,589,760 MACs on 3 x 224 x 224 with 1,000 classes."""
    return _mobilenet_v3("mobilenet_v3_large", shape, classes, width, LARGE, 1280)


def mobilenet_v3_small(shape: tuple[int, ...], classes: int, width: float = 1.0) -> nn.Sequential:
    """Return MobileNetV3-Small; 2,542,856 parameters and 56,510,400 MACs on 3 x 224 x 224 with 1,000 classes."""
    return _mobilenet_v3("mobilenet_v3_small", shape, classes, width, SMALL, 1024)
