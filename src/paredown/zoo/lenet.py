"""LeCun's networks for digits (LeCun, Bottou, Bengio, Haffner 1998), in the forms that compression papers use."""

from torch import nn

from paredown.core.errors import BadInput


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
