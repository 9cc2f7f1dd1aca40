"""MobileNetV1 (Howard et al. 2017, arXiv 1704.04861, table 1)."""

from torch import nn

from paredown.zoo.blocks import between, conv_norm, head, pictures

LAYERS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""Channels and stride of each depthwise separable convolution."""


def mobilenet_v1(shape: tuple[int, ...], classes: int, width: float = 1.0) -> nn.Sequential:
    """Return MobileNetV1; 4,231,976 parameters and 568,740,352 MACs on 3 x 224 x 224 with 1,000 classes.

    width: multiplies all channels (the paper's alpha: 1, 0.75, 0.5, 0.25). Raises BadInput.
    """
    between("mobilenet_v1", "width", width, 0.05, 4.0)
    inside = max(1, int(32 * width))
    layers: list[nn.Module] = [conv_norm(pictures("mobilenet_v1", shape), inside, 3, 2)]
    for channels, stride in LAYERS:
        outside = max(1, int(channels * width))
        layers += [conv_norm(inside, inside, 3, stride, inside), conv_norm(inside, outside, 1)]
        inside = outside
    return nn.Sequential(*layers, head(inside, classes))
