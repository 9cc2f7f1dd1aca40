"""Residual networks (He, Zhang, Ren, Sun 2016, arXiv 1512.03385), for small pictures and for ImageNet's."""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import relu

from paredown.core.errors import BadInput
from paredown.zoo.blocks import Residual, among, between, conv_norm, head, pictures


class _Padded(nn.Module):
    """Option A of the paper: every second position, and zeros for the channels that are more."""

    def __init__(self, more: int, stride: int) -> None:
        super().__init__()
        self.more, self.stride = more, stride

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))


class _Block(nn.Module):
    """Two 3 x 3 convolutions around which the input is added, through option A or a projection (option B)."""

    def __init__(self, inside: int, outside: int, stride: int, option: str = "B") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.short: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            projected = conv_norm(inside, outside, 1, stride, act=None)
            self.short = projected if option == "B" else _Padded(outside - inside, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = relu(self.norm1(self.conv1(x)))
        return relu(self.norm2(self.conv2(y)) + self.short(x))


def resnet_small(
    shape: tuple[int, ...], classes: int, depth: int = 20, width: int = 16, option: str = "B"
) -> nn.Sequential:
    """Return the 6n + 2 layer residual network with three stages of width, 2 · width and 4 · width channels.

    option: "B", a projection where the shape changes, or the paper's "A", every second position and zeros; with "A",
    depth 20 has 269,722 parameters and 40,551,040 MACs on 3 x 32 x 32. Raises BadInput when `depth` is not 6n + 2 or
    the samples are no pictures.
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or (depth - 2) % 6 or depth < 8:
        raise BadInput(f"model resnet_small has depth 8, 14, 20, 32, 44, 56 or 110, not {depth}")
    among("resnet_small", "option", option, ("A", "B"))
    between("resnet_small", "width", width, 1, 1024)
    channels = pictures("resnet_small", shape)
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    inside = width
    for stage in range(3):
        for at in range((depth - 2) // 6):
            outside = width * 2**stage
            layers.append(_Block(inside, outside, 2 if stage and at == 0 else 1, option))
            inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, classes))


def stem(channels: int, width: int) -> nn.Sequential:
    """Return the 7 x 7 convolution and the max pooling that ImageNet's networks begin with; stride 4 in all."""
    return nn.Sequential(conv_norm(channels, width, 7, 2), nn.MaxPool2d(3, 2, 1))


def basic(inside: int, width: int, stride: int) -> Residual:
    """Return two 3 x 3 convolutions to `width` channels, and the shortcut."""
    main = nn.Sequential(conv_norm(inside, width, 3, stride), conv_norm(width, width, 3, act=None))
    return Residual(main, shortcut(inside, width, stride))


def bottleneck(
    inside: int, width: int, stride: int, middle: int = 0, groups: int = 1, squeeze: nn.Module | None = None
) -> Residual:
    """Return 1 x 1, 3 x 3, 1 x 1 convolutions through `middle` (else `width`) to 4 · width channels, and the shortcut.

    The stride stands in the 3 x 3 convolution ("v1.5"), not in the first as in the paper.
    """
    middle = middle or width
    main = [conv_norm(inside, middle, 1), conv_norm(middle, middle, 3, stride, groups)]
    main.append(conv_norm(middle, 4 * width, 1, act=None))
    return Residual(nn.Sequential(*main, *([squeeze] if squeeze else [])), shortcut(inside, 4 * width, stride))


def shortcut(inside: int, outside: int, stride: int, kernel: int = 1) -> nn.Module | None:
    """Return a projection where the shape changes, else None."""
    return None if stride == 1 and inside == outside else conv_norm(inside, outside, kernel, stride, act=None)


def stages(inside: int, block: Any, expansion: int, width: int, depths: tuple[int, ...]) -> list[nn.Module]:
    """Return blocks `block(inside, width, stride)`; from stage to stage the width doubles and the sides halve."""
    layers = []
    for stage, depth in enumerate(depths):
        for at in range(depth):
            layers.append(block(inside, width * 2**stage, 2 if stage and at == 0 else 1))
            inside = width * 2**stage * expansion
    return layers


def _resnet(name: str, shape: tuple[int, ...], classes: int, width: int, depths: tuple[int, ...]) -> nn.Sequential:
    between(name, "width", width, 1, 1024)
    block, expansion = (basic, 1) if name in ("resnet_18", "resnet_34") else (bottleneck, 4)
    layers = stages(width, block, expansion, width, depths)
    return nn.Sequential(stem(pictures(name, shape), width), *layers, head(8 * width * expansion, classes))


def resnet_18(shape: tuple[int, ...], classes: int, width: int = 64) -> nn.Sequential:
    """Return ResNet-18; 11,689,512 parameters and 1,814,073,344 MACs on 3 x 224 x 224 with 1,000 classes."""
    return _resnet("resnet_18", shape, classes, width, (2, 2, 2, 2))


def resnet_34(shape: tuple[int, ...], classes: int, width: int = 64) -> nn.Sequential:
    """Return ResNet-34; 21,797,672 parameters and 3,663,761,408 MACs on 3 x 224 x 224 with 1,000 classes."""
    return _resnet("resnet_34", shape, classes, width, (3, 4, 6, 3))


def resnet_50(shape: tuple[int, ...], classes: int, width: int = 64) -> nn.Sequential:
    """Return ResNet-50 v1.5; 25,557,032 parameters and 4,089,184,256 MACs on 3 x 224 x 224 with 1,000 classes."""
    return _resnet("resnet_50", shape, classes, width, (3, 4, 6, 3))


def resnet_101(shape: tuple[int, ...], classes: int, width: int = 64) -> nn.Sequential:
    """Return ResNet-101 v1.5; 44,549,160 parameters and 7,801,405,440 MACs on 3 x 224 x 224 with 1,000 classes."""
    return _resnet("resnet_101", shape, classes, width, (3, 4, 23, 3))


def resnet_152(shape: tuple[int, ...], classes: int, width: int = 64) -> nn.Sequential:
    """Return ResNet-152 v1.5; 60,192,808 parameters and 11,513,626,624 MACs on 3 x 224 x 224 with 1,000 classes."""
    return _resnet("resnet_152", shape, classes, width, (3, 8, 36, 3))
