"""LeCun's networks for digits (LeCun, Bottou, Bengio, Haffner 1998), in the forms that compression papers use."""

from torch import nn

from paredown.core.errors import BadInput
from paredown.zoo.blocks import pictures


def lenet_300_100(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Return the fully connected network of 300 and 100 units; 266,610 parameters on 28 x 28 pictures."""
    size = shape[0] * shape[1] * shape[2] if len(shape) == 3 else shape[0]
    return nn.Sequential(
        nn.Flatten(), nn.Linear(size, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, classes)
    )


def lenet_5(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Return Caffe's LeNet-5, with 20 and 50 channels and 500 units; 431,080 parameters on 28 x 28 pictures."""
    if len(shape) != 3 or min(shape[1:]) < 16:
        raise BadInput(f"model lenet_5 wants pictures of 16 x 16 or more, not samples of shape {shape}")
    side = [((s - 4) // 2 - 4) // 2 for s in shape[1:]]
    return nn.Sequential(
        nn.Conv2d(shape[0], 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(50 * side[0] * side[1], 500), nn.ReLU(), nn.Linear(500, classes),
    )  # fmt: skip


def lenet_5_full(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Return LeNet-5 of 1998 with a full third layer; 61,706 parameters and 416,520 MACs on 1 x 32 x 32.

    Raises BadInput. Differs from the paper: the maps of the third layer see all six before them, means are not scaled,
    and the last layer is linear; with the paper's table and trainable means there are 60,000 parameters.
    """
    channels = pictures("lenet_5_full", shape, 16)
    side = [((s - 4) // 2 - 4) // 2 for s in shape[1:]]
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(16 * side[0] * side[1], 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(),
        nn.Linear(84, classes),
    )  # fmt: skip
