"""A small dense family: a few plain convolutions and a linear head, with every size free."""

from torch import nn

from paredown.core.errors import BadInput


def dense(
    shape: tuple[int, ...],
    classes: int,
    widths: tuple[int, ...] = (16,),
    kernel: int = 3,
    groups: int = 1,
    reduce: int = 1,
    head: str = "flat",
) -> nn.Sequential:
    """Return average pooling by `reduce`, then per width a convolution, batch norm, ReLU and halving, then the head.

    shape: (channels, height, width). widths: channels of each convolution. kernel: side of every kernel, odd.
    groups: of every convolution but the first. reduce: input resolution is divided by it. head: "flat" (a linear layer
    on all positions) or "pool" (on the mean over positions). Raises BadInput for sizes that do not fit.
    """
    if len(shape) != 3:
        raise BadInput(f"model dense wants pictures (channels, height, width), not samples of shape {shape}; use mlp")
    channels, height, width = shape
    layers: list[nn.Module] = [nn.AvgPool2d(reduce)] if reduce > 1 else []
    height, width = height // reduce, width // reduce
    for at, wide in enumerate(widths):
        split = groups if at and channels % groups == 0 and wide % groups == 0 else 1
        layers += [nn.Conv2d(channels, wide, kernel, padding=kernel // 2, groups=split, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
        channels = wide
        if min(height, width) >= 2:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    if height < 1 or width < 1:
        raise BadInput(f"reduce={reduce} leaves nothing of a {shape[1]} x {shape[2]} picture")
    if head == "pool":
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    else:
        layers += [nn.Flatten(), nn.Linear(channels * height * width, classes)]
    return nn.Sequential(*layers)
