"""AlexNet in two halves (Krizhevsky, Sutskever, Hinton 2012) and in one ("one weird trick", Krizhevsky 2014, 1404.5997)."""

from torch import nn

from paredown.zoo.blocks import between, pictures


def _halved(size: int) -> int:
    """Return the side after a 3 x 3 max pooling of stride 2."""
    return (size - 3) // 2 + 1


def _sides(shape: tuple[int, ...], padding: int) -> tuple[int, int]:
    """Return the sides after the convolutions and the three max poolings."""
    first = [(side + 2 * padding - 11) // 4 + 1 for side in shape[1:]]
    return _halved(_halved(_halved(first[0]))), _halved(_halved(_halved(first[1])))


def _classifier(size: int, hidden: int, classes: int) -> list[nn.Module]:
    layers = [nn.Flatten(), nn.Dropout(0.5), nn.Linear(size, hidden), nn.ReLU()]
    return [*layers, nn.Dropout(0.5), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, classes)]


def alexnet(shape: tuple[int, ...], classes: int, hidden: int = 4096) -> nn.Sequential:
    """Return AlexNet in two halves; 60,965,224 parameters and 724,406,816 MACs on 3 x 227 x 227 with 1,000 classes.

    hidden: units of the two hidden linear layers. Raises BadInput.
    """
    between("alexnet", "hidden", hidden, 1, 65536)
    channels = pictures("alexnet", shape, 67)
    height, width = _sides(shape, 0)
    return nn.Sequential(
        nn.Conv2d(channels, 96, 11, 4), nn.ReLU(), nn.LocalResponseNorm(5, k=2.0), nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), nn.LocalResponseNorm(5, k=2.0), nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        *_classifier(256 * height * width, hidden, classes),
    )  # fmt: skip


def alexnet_one_tower(shape: tuple[int, ...], classes: int, hidden: int = 4096) -> nn.Sequential:
    """Return AlexNet in one tower; 61,100,840 parameters and 714,188,480 MACs on 3 x 224 x 224 with 1,000 classes.

    hidden: units of the two hidden linear layers. Raises BadInput.
    """
    between("alexnet_one_tower", "hidden", hidden, 1, 65536)
    channels = pictures("alexnet_one_tower", shape, 63)
    height, width = _sides(shape, 2)
    return nn.Sequential(
        nn.Conv2d(channels, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        *_classifier(256 * height * width, hidden, classes),
    )  # fmt: skip
