"""A trained network on digits, and ways of quantizing it with one planted disease each."""

import functools

import torch
from tests.contracts.digits_task import digits
from torch import nn

from paredown.core.catalog import build
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.diagnose.twins import with_node
from paredown.graph.capture import capture
from paredown.graph.net import Net
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.train.data import Data
from paredown.train.fit import fit

CONV1, CONV2, FULL, LAST = "0.weight", "2.weight", "6.weight", "8.weight"


@functools.cache
def pictures() -> tuple[Data, Data]:
    """Return (train, test) as pictures."""
    return tuple(Data(part.x.view(-1, 1, 8, 8), part.y) for part in digits(0))


@functools.cache
def _trained() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 10),
        ]  # fmt: skip
        train = pictures()[0]
        net = capture(nn.Sequential(*layers), train.x[:2])
        fit(net, train, CrossEntropy(), plan=Plan(epochs=12, lr=5e-3), seed=0)
    return net.eval()


def trained() -> Net:
    """Return the float network."""
    return _trained().copy()


def rounded(net: Net, **settings) -> Net:
    """Return the network after `quantize.uniform`."""
    train = pictures()[0]
    work = Work({"calib": (train.x[:256], train.y[:256])})
    return build({"part": "quantize.uniform", **settings}).apply(net, work).eval()


def uneven(net: Net, spread: float = 1.5) -> Net:
    """Return the same function with channels of the first layer whose ranges differ 10^(2 · spread) times, or so."""
    scale = torch.logspace(-spread, spread, 8)
    with torch.no_grad():
        net.slot(CONV1).value.mul_(scale.view(-1, 1, 1, 1))
        net.slot("0.bias").value.mul_(scale)
        net.slot(CONV2).value.div_(scale.view(1, -1, 1, 1))
    return net


def rescaled(net: Net, name: str, factor: float) -> Net:
    """Return the network with one quantizer's step multiplied."""
    node = net.spec.node(name)
    return with_node(net, node.with_args(scale=node.args["scale"] * factor))
