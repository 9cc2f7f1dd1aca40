"""A small dense family: a few plain convolutions and a linear head, with every size free."""

from torch import nn

from paredown.core.errors import BadInput


def dense(
    shape: tuple[int, ...],
    classes: int,
    widths: tuple[int, ...] = (16,),
    kernel: int = 3,
    stem: tuple[int, int] = (3, 1),
    reduce: int = 1,
    head: str = "flat",
) -> nn.Sequential:
    """Return average pooling by `reduce`; for each width a convolution, batch norm, ReLU and halving; then the head.

    shape: (channels, height, width). widths: channels of each convolution. kernel: side of the kernels after the first.
    stem: side and stride of the first kernel; a stride above 1 stands in for the halving after it. reduce: the input's
    resolution is divided by it. A strided first convolution is padded, the others are only where fewer than 4 rows would
    be left; there is no halving of fewer than 6 rows. head: "flat", a linear layer on all positions, or
    "pool", on the mean over positions. Raises BadInput for sizes that do not fit.
    """
    if len(shape) != 3:
        raise BadInput(f"model dense wants pictures (channels, height, width), not samples of shape {shape}; use mlp")
    channels, *sides = shape
    layers: list[nn.Module] = [nn.AvgPool2d(reduce)] if reduce > 1 else []
    sides = [side // reduce for side in sides]
    for at, wide in enumerate(widths):
        side, stride = stem if at == 0 else (kernel, 1)
        padding = side // 2 if stride > 1 or min(sides) - side + 1 < 4 else 0
        layers += [nn.Conv2d(channels, wide, side, stride, padding, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
        sides = [(s + 2 * padding - side) // stride + 1 for s in sides]
        channels = wide
        if min(sides) >= 6 and stride == 1:
            layers.append(nn.MaxPool2d(2))
            sides = [s // 2 for s in sides]
        if min(sides) < 1:
            raise BadInput(
                f"model dense with reduce={reduce}, stem={stem} leaves nothing of a {shape[1]} x {shape[2]} picture"
            )
    if head == "pool":
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * sides[0] * sides[1], classes))
