"""A convolutional network on the digits that one width for all layers does not suit: two bits everywhere ruin it."""

import functools

import torch
from torch import nn

from contracts.digits_task import digits
from paredown.core.plan import Plan
from paredown.graph.capture import capture
from paredown.graph.fold import fold_batchnorm
from paredown.graph.net import Net
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.train.data import Data
from paredown.train.fit import fit


@functools.cache
def pictures(seed: int) -> tuple[Data, Data]:
    """Return (train, test) as 1 × 8 × 8."""
    train, test = digits(seed)
    return Data(train.x.view(-1, 1, 8, 8), train.y), Data(test.x.view(-1, 1, 8, 8), test.y)


@functools.cache
def pooled(seed: int) -> Net:
    """Return 8-16-32 convolutions with global pooling, trained for 10 epochs, the norms folded."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for before, after in ((1, 8), (8, 16), (16, 32)):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if after < 32 else []
        model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
        net = capture(model, torch.rand(2, 1, 8, 8))
        fit(net, pictures(seed)[0], CrossEntropy(), plan=Plan(epochs=10, lr=1e-2), seed=seed)
    return fold_batchnorm(net)[0].eval()
