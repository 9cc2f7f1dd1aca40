"""Residual networks for small pictures (He, Zhang, Ren, Sun 2016, section 4.2)."""

from torch import Tensor, nn
from torch.nn.functional import relu

from paredown.core.errors import BadInput


class _Block(nn.Module):
    """Two 3 x 3 convolutions around which the input is added; option A of the paper is a projection here (option B)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.short: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.short = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        y = relu(self.norm1(self.conv1(x)))
        return relu(self.norm2(self.conv2(y)) + self.short(x))


def resnet_small(shape: tuple[int, ...], classes: int, depth: int = 20, width: int = 16) -> nn.Sequential:
    """Return the 6n + 2 layer residual network with three stages of width, 2 · width and 4 · width channels.

    Raises BadInput when `depth` is not 6n + 2 or the samples are no pictures.
    """
    if (depth - 2) % 6 or depth < 8:
        raise BadInput(f"model resnet_small has depth 8, 14, 20, 32, 44 or 56, not {depth}")
    if len(shape) != 3:
        raise BadInput(f"model resnet_small wants pictures (channels, height, width), not samples of shape {shape}")
    layers: list[nn.Module] = [nn.Conv2d(shape[0], width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    inside = width
    for stage in range(3):
        for at in range((depth - 2) // 6):
            outside = width * 2**stage
            layers.append(_Block(inside, outside, 2 if stage and at == 0 else 1))
            inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, classes))
