"""Small example networks for the contract suites. Each call gives the same weights."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paredown.graph.capture import capture
from paredown.graph.net import Net


class Block(nn.Module):
    """Convolution, batch norms with statistics, a residual connection, a depthwise convolution, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.n1 = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.deep, self.n2 = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8)
        self.point, self.wide = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 12, 3, padding=1)
        self.fc = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.n1(self.stem(x)))
        x = x + self.point(F.relu(self.n2(self.deep(x))))
        return self.fc(F.relu(self.wide(x)).mean((2, 3)))


def small_conv() -> Net:
    """Return a convolutional network for 1×8×8 inputs and ten classes; its norms have seen data."""
    return _conv().copy()


def small_mlp() -> Net:
    """Return a multilayer perceptron for 64 inputs and ten classes."""
    return _mlp().copy()


@functools.cache
def _conv() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Block().train()
        for _ in range(3):
            model(torch.rand(16, 1, 8, 8))
        return capture(model.eval(), torch.rand(2, 1, 8, 8))


@functools.cache
def _mlp() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10))
        return capture(model, torch.rand(2, 64))


def inputs_for(net: Net, count: int = 4, seed: int = 0) -> tuple[Tensor, ...]:
    """Return `count` random samples for each of the network's inputs, in its type."""
    draw = torch.Generator().manual_seed(seed)
    return tuple(torch.rand((count, *shape), generator=draw).to(net.dtype) for _, shape in net.spec.inputs)
