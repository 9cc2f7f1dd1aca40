"""ShuffleNet v1 (Zhang, Zhou, Lin, Sun 2018, arXiv 1707.01083) and v2 (Ma, Zhang, Zheng, Sun 2018, arXiv 1807.11164)."""

import torch
from torch import Tensor, nn

from paredown.zoo.blocks import among, conv_norm, head, pictures

BLOCKS = (4, 8, 4)
V1_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
"""Channels of the first stage by number of groups; each stage doubles them."""
V2_CHANNELS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
"""Channels of the stages and of the last convolution by width."""


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Return the channels in the order 0, n/g, 2n/g, …, 1, n/g + 1, …: each group gets some of every group."""
    _, channels, height, width = x.shape
    return x.view(-1, groups, channels // groups, height, width).transpose(1, 2).reshape(-1, channels, height, width)


class _Unit(nn.Module):
    """Grouped 1 x 1, shuffle, depthwise 3 x 3, grouped 1 x 1; the input is added, or at stride 2 its pooling appended."""

    def __init__(self, inside: int, outside: int, stride: int, groups: int, first: int) -> None:
        super().__init__()
        middle, made = outside // 4, outside - inside if stride == 2 else outside
        self.groups, self.stride = groups, stride
        self.reduce = conv_norm(inside, middle, 1, groups=first)
        self.expand = nn.Sequential(
            conv_norm(middle, middle, 3, stride, middle, act=None), conv_norm(middle, made, 1, groups=groups, act=None)
        )
        self.pool = nn.AvgPool2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(shuffled(self.reduce(x), self.groups))
        return torch.relu(torch.cat([self.pool(x), y], 1) if self.stride == 2 else x + y)


def shufflenet_v1(shape: tuple[int, ...], classes: int, groups: int = 3, width: float = 1.0) -> nn.Sequential:
    """Return ShuffleNet 1x (g = 3); 1,865,728 parameters and 137,460,672 MACs on 3 x 224 x 224 with 1,000 classes.

    groups: 1, 2, 3, 4 or 8 of the 1 x 1 convolutions. width: multiplies the channels of the stages; 0.25, 0.5, 1, 1.5 or
    2. Raises BadInput.
    """
    among("shufflenet_v1", "groups", groups, V1_CHANNELS)
    among("shufflenet_v1", "width", width, (0.25, 0.5, 1.0, 1.5, 2.0))
    inside = 24
    layers: list[nn.Module] = [conv_norm(pictures("shufflenet_v1", shape), inside, 3, 2), nn.MaxPool2d(3, 2, 1)]
    for stage, blocks in enumerate(BLOCKS):
        outside = int(V1_CHANNELS[groups] * width) * 2**stage
        for at in range(blocks):
            first = groups if stage or at else 1
            layers.append(_Unit(inside, outside, 1 if at else 2, groups, first))
            inside = outside
    return nn.Sequential(*layers, head(inside, classes))


class _Split(nn.Module):
    """One half of the channels stays (at stride 2: all go through both paths), the other is convolved; then they shuffle."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        half, taken = outside // 2, inside if stride == 2 else outside // 2
        self.stride = stride
        self.side: nn.Module = nn.Identity()
        if stride == 2:
            self.side = nn.Sequential(conv_norm(inside, inside, 3, 2, inside, act=None), conv_norm(inside, half, 1))
        self.main = nn.Sequential(
            conv_norm(taken, half, 1), conv_norm(half, half, 3, stride, half, act=None), conv_norm(half, half, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        stays, goes = (x, x) if self.stride == 2 else x.chunk(2, 1)
        return shuffled(torch.cat([self.side(stays), self.main(goes)], 1), 2)


def shufflenet_v2(shape: tuple[int, ...], classes: int, width: float = 1.0) -> nn.Sequential:
    """Return ShuffleNet v2 1x; 2,278,604 parameters and 144,907,992 MACs on 3 x 224 x 224 with 1,000 classes.

    width: 0.5, 1, 1.5 or 2, the paper's. Raises BadInput.
    """
    among("shufflenet_v2", "width", width, V2_CHANNELS)
    *stages, last = V2_CHANNELS[width]
    inside = 24
    layers: list[nn.Module] = [conv_norm(pictures("shufflenet_v2", shape), inside, 3, 2), nn.MaxPool2d(3, 2, 1)]
    for outside, blocks in zip(stages, BLOCKS, strict=True):
        for at in range(blocks):
            layers.append(_Split(inside, outside, 1 if at else 2))
            inside = outside
    return nn.Sequential(*layers, conv_norm(inside, last, 1), head(last, classes))
