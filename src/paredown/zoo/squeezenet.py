"""SqueezeNet (Iandola et al. 2016, arXiv 1602.07360, table 1) and SqueezeNext (Gholami et al. 2018, arXiv 1803.10615)."""

from torch import nn

from paredown.zoo.blocks import Concat, Residual, between, conv_norm, head, pictures

FIRE = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
"""Squeezed channels, and expanded channels of each kernel."""


def _fire(inside: int, squeezed: int, expanded: int) -> nn.Sequential:
    one = nn.Sequential(nn.Conv2d(squeezed, expanded, 1), nn.ReLU())
    three = nn.Sequential(nn.Conv2d(squeezed, expanded, 3, padding=1), nn.ReLU())
    return nn.Sequential(nn.Conv2d(inside, squeezed, 1), nn.ReLU(), Concat(one, three))


def _squeezenet(shape: tuple[int, ...], classes: int, first: nn.Conv2d, pooled: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = [first, nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)]
    inside = first.out_channels
    for at, (squeezed, expanded) in enumerate(FIRE, 2):
        layers.append(_fire(inside, squeezed, expanded))
        inside = 2 * expanded
        if at in pooled:
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
    layers += [nn.Dropout(0.5), nn.Conv2d(inside, classes, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def squeezenet_1_0(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Return SqueezeNet 1.0; 1,248,424 parameters and 818,924,576 MACs on 3 x 224 x 224 with 1,000 classes."""
    return _squeezenet(shape, classes, nn.Conv2d(pictures("squeezenet_1_0", shape, 21), 96, 7, 2), (4, 8))


def squeezenet_1_1(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Return SqueezeNet 1.1; 1,235,496 parameters and 349,151,936 MACs on 3 x 224 x 224 with 1,000 classes."""
    return _squeezenet(shape, classes, nn.Conv2d(pictures("squeezenet_1_1", shape, 17), 64, 3, 2), (3, 5))


def _next_block(inside: int, outside: int, stride: int) -> Residual:
    share = 1 if stride == 2 else 4 if inside > outside else 2
    half, quarter = inside // share, inside // (2 * share)
    main = nn.Sequential(
        conv_norm(inside, half, 1, stride), conv_norm(half, quarter, 1), conv_norm(quarter, half, (1, 3)),
        conv_norm(half, half, (3, 1)), conv_norm(half, outside, 1),
    )  # fmt: skip
    return Residual(main, None if stride == 1 and inside == outside else conv_norm(inside, outside, 1, stride))


def squeezenext(shape: tuple[int, ...], classes: int, width: float = 1.0) -> nn.Sequential:
    """Return 1.0-SqNxt-23 (v1); 718,280 parameters and 281,916,416 MACs on 3 x 227 x 227 with 1,000 classes."""
    between("squeezenext", "width", width, 0.125, 8.0)
    inside = int(64 * width)
    layers: list[nn.Module] = [conv_norm(pictures("squeezenext", shape, 7), inside, 7, 2, padding=1)]
    layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
    for stage, blocks in enumerate((6, 6, 8, 1)):
        for at in range(blocks):
            outside = int(32 * 2**stage * width)
            layers.append(_next_block(inside, outside, 2 if stage and at == 0 else 1))
            inside = outside
    last = int(128 * width)
    return nn.Sequential(*layers, conv_norm(inside, last, 1), head(last, classes))
