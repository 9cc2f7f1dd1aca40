"""Finished networks for the tests of files: random ones, and a trained one for the digits."""

import functools

import numpy as np
import torch
from torch import nn

from paredown.core.plan import Plan
from paredown.core.task import Task
from paredown.data.tasks import load
from paredown.graph.capture import capture
from paredown.graph.frozen import Frozen, Plain, Rounded, Shared, Stored
from paredown.graph.net import Net
from paredown.graph.spec import Node, Slot, Spec, Value
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.train.data import Data
from paredown.train.fit import fit
from paredown.zoo.dense import dense

STEPS = (0.25, 0.0625 * 1.375, 3.0, 1e-9, 0.1, 1 / 3)
"""Three that four significant bits hold, three that they do not."""


def tensor(draw: np.random.Generator, shape: tuple[int, ...]) -> Stored:
    """Return a stored tensor of some kind with random content."""
    kind = draw.integers(0, 8)
    if kind < 3:
        bits = int(draw.integers(2, 17))
        high = 2 ** (bits - 1)
        codes = np.round(draw.normal(0, high / 3, shape)).clip(-high, high - 1)
        codes = codes.astype(np.int8 if bits <= 8 else np.int16)
        if kind == 0:
            return Rounded(codes, np.float32(draw.choice(STEPS)).reshape(()), bits)
        steps = (shape[0], *[1] * (len(shape) - 1))
        return Rounded(codes, draw.choice(STEPS, shape[0]).astype(np.float32).reshape(steps), bits)
    if kind == 3:
        size = int(draw.integers(1, 257))
        return Shared(draw.integers(0, size, shape).astype(np.uint8), draw.normal(size=size).astype(np.float32))
    values = draw.normal(size=shape).astype(np.float32)
    if kind == 5:
        values = values.astype(np.float16).astype(np.float32)
    if kind == 6:
        values *= draw.random(shape) < 0.2
        values[draw.random(shape) < 0.1] = -0.0
    if kind == 7:
        values = (100 * values).astype(draw.choice(["int64", "int32", "uint8", "int8", "bool", "float16"]))
    return Plain(values)


def network(seed: int) -> Frozen:
    """Return a network of random layers with stored tensors of all kinds."""
    draw = np.random.default_rng(seed)
    wide = int(draw.integers(1, 9))
    nodes, tensors, last = [], {}, Value("x")
    for at in range(draw.integers(1, 5)):
        out = int(draw.integers(1, 9))
        tensors[f"layer{at}.weight"] = tensor(draw, (out, wide))
        args = {"input": last, "weight": Slot(f"layer{at}.weight")}
        if draw.random() < 0.6:
            tensors[f"layer{at}.bias"] = tensor(draw, (out,))
            args["bias"] = Slot(f"layer{at}.bias")
        nodes.append(Node(f"linear_{at}", "linear", args))
        minimum = {} if draw.random() < 0.5 else {"min_val": float(draw.normal()), "max_val": 2}
        nodes.append(Node(f"act_{at}", "hardtanh", {"self": Value(f"linear_{at}"), **minimum}))
        wide, last = out, Value(f"act_{at}")
        if draw.random() < 0.3:
            args = {"tensors": [last, Value(f"linear_{at}")], "dim": -1}
            nodes.append(Node(f"cat_{at}", "cat", args))
            wide, last = 2 * wide, Value(f"cat_{at}")
    output = [last, {"scores": Value(nodes[0].name), "nothing": None, "number": 3}] if seed % 3 else last
    return Frozen(Spec((("x", (int(draw.integers(1, 9)),)),), tuple(nodes), output), tensors)


@functools.cache
def digits() -> Task:
    """Return the digits task."""
    return load("digits")


@functools.cache
def _trained() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = capture(dense((1, 8, 8), 10, (8, 8)), torch.rand(2, 1, 8, 8))
        fit(net, Data.of(digits(), "train"), CrossEntropy(), plan=Plan(epochs=8, lr=1e-2), seed=0)
    return net.eval()


def trained() -> Net:
    """Return a small convolutional network that knows the digits."""
    return _trained().copy()


def mlp() -> Net:
    """Return a network whose layers have 40 × 64 and 10 × 40 weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return capture(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10)), torch.rand(2, 1, 8, 8)
        )
