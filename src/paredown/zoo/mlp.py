"""Fully connected networks, for vectors and for small pictures."""

import math

from torch import nn


def mlp(shape: tuple[int, ...], classes: int, widths: tuple[int, ...] = (32,)) -> nn.Sequential:
    """Return flattening, a batch norm that standardises the input, a linear layer and ReLU per width, and a linear head."""
    size = math.prod(shape)
    layers: list[nn.Module] = [nn.Flatten(), nn.BatchNorm1d(size, affine=False)]
    for wide in widths:
        layers += [nn.Linear(size, wide, bias=False), nn.BatchNorm1d(wide), nn.ReLU()]
        size = wide
    return nn.Sequential(*layers, nn.Linear(size, classes))


def logistic(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Return multinomial logistic regression: flattening and one linear layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))
