"""EfficientViT (Cai, Li, Hu, Gan, Han 2023, arXiv 2205.14756): linear attention at several scales."""

import torch
from torch import Tensor, nn

from paredown.zoo.blocks import Residual, conv_norm, pictures

HEAD = 16
"""Channels of an attention head."""


def linear_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return ReLU attention in time linear in n; all are (…, n, d) (equation 2).

    The sum of the weights is carried as one more channel of `value`.
    """
    query, key = torch.relu(query), torch.relu(key)
    y = query @ (key.transpose(-1, -2) @ nn.functional.pad(value, (0, 1), value=1.0))
    return y[..., :-1] / (y[..., -1:] + 1e-5)


class _Context(nn.Module):
    """Linear attention among places, on single places and on 5 x 5 neighbourhoods; the input is added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.near = nn.Sequential(
            nn.Conv2d(3 * width, 3 * width, 5, padding=2, groups=3 * width, bias=False),
            nn.Conv2d(3 * width, 3 * width, 1, groups=3 * width // HEAD, bias=False),
        )
        self.project = conv_norm(2 * width, width, 1, act=None)

    def forward(self, x: Tensor) -> Tensor:
        _, channels, height, width = x.shape
        once = self.qkv(x)
        split = torch.cat([once, self.near(once)], 1).view(-1, 2 * channels // HEAD, 3 * HEAD, height * width)
        y = linear_attention(*split.transpose(-1, -2).chunk(3, -1))
        return x + self.project(y.transpose(-1, -2).reshape(-1, 2 * channels, height, width))


def _inverted(inside: int, outside: int, stride: int, norms: bool) -> nn.Module:
    """Return an inverted residual of expansion 4; without `norms` only the last convolution has a norm, the others a bias."""
    hidden = 4 * inside
    if norms:
        first = conv_norm(inside, hidden, 1, act=nn.Hardswish)
        second = conv_norm(hidden, hidden, 3, stride, hidden, nn.Hardswish)
    else:
        first = nn.Sequential(nn.Conv2d(inside, hidden, 1), nn.Hardswish())
        second = nn.Sequential(nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden), nn.Hardswish())
    main = nn.Sequential(first, second, conv_norm(hidden, outside, 1, act=None))
    return main if stride == 2 else Residual(main, act=nn.Identity)


def _efficientvit(
    name: str, shape: tuple[int, ...], classes: int, widths: tuple[int, ...], depths: tuple[int, ...], tops: tuple[int, int]
) -> nn.Sequential:  # fmt: skip
    first = widths[0]
    layers: list[nn.Module] = [conv_norm(pictures(name, shape), first, 3, 2, act=nn.Hardswish)]
    for _ in range(depths[0]):
        depthwise = conv_norm(first, first, 3, 1, first, nn.Hardswish)
        layers.append(Residual(nn.Sequential(depthwise, conv_norm(first, first, 1, act=None)), act=nn.Identity))
    for stage in range(1, len(widths)):
        attends = stage > 2
        layers.append(_inverted(widths[stage - 1], widths[stage], 2, not attends))
        for _ in range(depths[stage] - (0 if attends else 1)):
            layers += [
                *([_Context(widths[stage])] if attends else []),
                _inverted(widths[stage], widths[stage], 1, not attends),
            ]
    wide, top = tops
    layers += [conv_norm(widths[-1], wide, 1, act=nn.Hardswish), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    layers += [nn.Linear(wide, top, bias=False), nn.LayerNorm(top), nn.Hardswish()]
    return nn.Sequential(*layers, nn.Linear(top, classes))


def efficientvit_b0(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Return EfficientViT-B0; 3,410,008 parameters, 97,674,240 MACs without attention's products on 3 x 224 x 224, 1,000 classes."""
    return _efficientvit("efficientvit_b0", shape, classes, (8, 16, 32, 64, 128), (1, 2, 2, 2, 2), (1024, 1280))


def efficientvit_b1(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Return EfficientViT-B1; 9,102,024 parameters, 510,684,672 MACs without attention's products on 3 x 224 x 224, 1,000 classes."""
    return _efficientvit("efficientvit_b1", shape, classes, (16, 32, 64, 128, 256), (1, 2, 3, 3, 4), (1536, 1600))
