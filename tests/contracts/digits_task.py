"""The digits as they were when Part H was measured: scaled, 75/25 stratified, one split a seed."""

import functools

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from paredown.core.plan import Plan
from paredown.graph.capture import capture
from paredown.graph.net import Net
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.train.data import Data
from paredown.train.fit import fit


@functools.cache
def digits(seed: int) -> tuple[Data, Data]:
    """Return (train, test)."""
    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x / 16, y, test_size=0.25, stratify=y, random_state=seed)
    train_x, test_x, train_y, test_y = (torch.from_numpy(part) for part in parts)
    return Data(train_x.float(), train_y.long()), Data(test_x.float(), test_y.long())


@functools.cache
def _mlp(seed: int) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = capture(nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10)), torch.rand(2, 64))
        fit(net, digits(seed)[0], CrossEntropy(), plan=Plan(epochs=60, lr=3e-3), seed=seed)
    return net


def mlp(seed: int) -> Net:
    """Return Part H's network 64-100-10, trained."""
    return _mlp(seed).copy()


@torch.no_grad()
def accuracy(net: Net, data: Data) -> float:
    """Return the share of the labels that the network finds, in per cent."""
    labels: Tensor = net.eval()(data.x).argmax(1)
    return 100 * float((labels == data.y).float().mean())
