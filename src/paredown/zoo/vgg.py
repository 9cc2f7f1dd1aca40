"""VGG (Simonyan, Zisserman 2015, arXiv 1409.1556, table 1: columns A, B, D and E)."""

from torch import nn

from paredown.zoo.blocks import between, pictures

DEPTHS = {
    "vgg_11": (1, 1, 2, 2, 2),
    "vgg_13": (2, 2, 2, 2, 2),
    "vgg_16": (2, 2, 3, 3, 3),
    "vgg_19": (2, 2, 4, 4, 4),
}
"""3 x 3 convolutions of each stage; a max pooling ends it."""


def _vgg(name: str, shape: tuple[int, ...], classes: int, norm: bool, width: int, hidden: int) -> nn.Sequential:
    between(name, "width", width, 1, 1024)
    between(name, "hidden", hidden, 1, 65536)
    inside = pictures(name, shape, 32)
    layers: list[nn.Module] = []
    for stage, depth in enumerate(DEPTHS[name]):
        for _ in range(depth):
            outside = width * 2 ** min(stage, 3)
            layers += [
                nn.Conv2d(inside, outside, 3, padding=1),
                *([nn.BatchNorm2d(outside)] if norm else []),
                nn.ReLU(),
            ]
            inside = outside
        layers.append(nn.MaxPool2d(2))
    size = inside * (shape[1] // 32) * (shape[2] // 32)
    layers += [nn.Flatten(), nn.Linear(size, hidden), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, classes))


def vgg_11(
    shape: tuple[int, ...], classes: int, norm: bool = False, width: int = 64, hidden: int = 4096
) -> nn.Sequential:
    """Return VGG-11 (A); 132,863,336 parameters and 7,609,090,048 MACs on 3 x 224 x 224 with 1,000 classes.

    norm: batch norm after each convolution. width: channels of the first stage. hidden: units of the two hidden linear
    layers. Pictures have 32 x 32 or more. Raises BadInput.
    """
    return _vgg("vgg_11", shape, classes, norm, width, hidden)


def vgg_13(
    shape: tuple[int, ...], classes: int, norm: bool = False, width: int = 64, hidden: int = 4096
) -> nn.Sequential:
    """Return VGG-13 (B); 133,047,848 parameters and 11,308,466,176 MACs on 3 x 224 x 224 with 1,000 classes."""
    return _vgg("vgg_13", shape, classes, norm, width, hidden)


def vgg_16(
    shape: tuple[int, ...], classes: int, norm: bool = False, width: int = 64, hidden: int = 4096
) -> nn.Sequential:
    """Return VGG-16 (D); 138,357,544 parameters and 15,470,264,320 MACs on 3 x 224 x 224 with 1,000 classes."""
    return _vgg("vgg_16", shape, classes, norm, width, hidden)


def vgg_19(
    shape: tuple[int, ...], classes: int, norm: bool = False, width: int = 64, hidden: int = 4096
) -> nn.Sequential:
    """Return VGG-19 (E); 143,667,240 parameters and 19,632,062,464 MACs on 3 x 224 x 224 with 1,000 classes."""
    return _vgg("vgg_19", shape, classes, norm, width, hidden)
