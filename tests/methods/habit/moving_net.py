"""A small network whose masks may move."""

import torch

from contracts.nets import small_mlp
from paredown.graph.masks import Moving
from paredown.graph.net import Net


def moving_net(density: float = 0.3, seed: int = 7) -> Net:
    """Return a multilayer perceptron with drawn masks that may move."""
    net, draw = small_mlp(), torch.Generator().manual_seed(seed)
    for name, _ in net.weighted():
        value = net.slot(name).value
        mask = torch.rand(value.shape, generator=draw) < density if density < 1 else torch.ones_like(value)
        net.set_slot(name, Moving(value * mask, mask))
    return net


def masks(net: Net) -> dict[str, torch.Tensor]:
    """Return a copy of every mask."""
    return {name: net.slot(name).mask.clone() for name, _ in net.weighted()}
