"""A linear layer or convolution as two smaller ones, by singular value decomposition."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.net import Net
from paredown.graph.slots import Free
from paredown.graph.spec import Node, Slot, Spec, Value

PLAIN = {"stride": 1, "padding": 0, "dilation": 1}
"""What a convolution's spatial arguments are along a dimension where it does nothing."""


def truncated(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return (left m×rank, right rank×n) whose product is the nearest matrix of that rank in the Frobenius norm.

    Both carry the square root of the singular values. Computed in float64; Eckart & Young 1936.
    """
    u, s, v = torch.linalg.svd(matrix.detach().double(), full_matrices=False)
    root = s[:rank].sqrt()
    left, right = u[:, :rank] * root, root[:, None] * v[:rank]
    return left.to(matrix.dtype).contiguous(), right.to(matrix.dtype).contiguous()


def energy_rank(matrix: Tensor, fraction: float) -> int:
    """Return the smallest rank whose squared singular values sum to at least `fraction` of all."""
    energy = torch.linalg.svdvals(matrix.detach().double()).square().cumsum(0)
    if energy[-1] <= 0:
        return 1
    return min(len(energy), int((energy < fraction * energy[-1] * (1 - 1e-12)).sum()) + 1)


def as_matrix(weight: Tensor, scheme: str) -> Tensor:
    """Return a layer's weight as the matrix to factorise.

    "channel": (output, input · kernel). "spatial", for a two-dimensional kernel: (output · width, input · height).
    """
    if scheme == "channel":
        return weight.flatten(1)
    out, _, _, width = weight.shape
    return weight.permute(0, 3, 1, 2).reshape(out * width, -1)


def as_weights(left: Tensor, right: Tensor, shape: tuple[int, ...], scheme: str) -> tuple[Tensor, Tensor]:
    """Return (first layer's weight, second layer's weight) from the two factors of `as_matrix`."""
    rank = right.shape[0]
    if scheme == "channel":
        return right.reshape(rank, *shape[1:]), left.reshape(shape[0], rank, *[1] * (len(shape) - 2))
    first = right.reshape(rank, shape[1], shape[2], 1)
    return first, left.reshape(shape[0], shape[3], rank).permute(0, 2, 1).unsqueeze(2).contiguous()


@part("factorize.svd", Card(title="Low-rank factorization by SVD", paper="arxiv:1404.0736", year=2014,
                            authors="Denton, Zaremba, Bruna, LeCun, Fergus; spatial: Jaderberg, Vedaldi, Zisserman",
                            source="arxiv:1404.0736, section 3.2.1; arxiv:1405.3866, section 2.2 (scheme 2)",
                            changes=frozenset({"params", "macs"}), gives=frozenset({"factored"}),
                            forbids=frozenset({"masked", "quantized", "shared"})))  # fmt: skip
@dataclass(frozen=True)
class Svd:
    """Split linear layers and convolutions in two where that saves parameters.

    by: "energy" keeps that share of the squared singular values; "params" keeps at most that share of the weights.
    keep: the share, 0.01 to 0.999. scheme: "channel" makes a k×k convolution to `rank` channels and a 1×1 one;
    "spatial" a k×1 and a 1×k convolution (two-dimensional kernels larger than 1×1; others are split by channel).

    The second layer has the bias. A layer is left alone when two smaller ones would not have fewer weights.
    Differs from the papers: the plain truncated SVD of the weight, weighted neither by data nor by the loss.
    """

    by: str = knob("energy", among=("energy", "params"))
    keep: float = knob(0.9, low=0.01, high=0.999)
    scheme: str = knob("channel", among=("channel", "spatial"))

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with some layers split; those left alone are noted by their weight's name."""
        out = net.copy()
        for name, node in net.weighted():
            if why := _refusal(net, name, node):
                work.skip(name, why)
                continue
            weight = net.slot(name)().detach()
            scheme = self.scheme if weight.dim() == 4 and min(weight.shape[2:]) > 1 else "channel"
            matrix = as_matrix(weight, scheme)
            rank = self._rank(matrix)
            if rank < 1 or rank * sum(matrix.shape) >= weight.numel():
                work.skip(name, f"at rank {rank} two layers would not have fewer weights than its {weight.numel()}")
                continue
            _split(out, name, as_weights(*truncated(matrix, rank), tuple(weight.shape), scheme), scheme)
        return out

    def _rank(self, matrix: Tensor) -> int:
        if self.by == "energy":
            return energy_rank(matrix, self.keep)
        return min(math.floor(self.keep * matrix.numel() / sum(matrix.shape)), *matrix.shape)


def _refusal(net: Net, name: str, node: Node) -> str:
    users = net.spec.slot_users()[name]
    if not isinstance(net.slot(name), Free):
        return f"it is held as {type(net.slot(name)).__name__}"
    if node.op.startswith("conv_transpose"):
        return "a transposed convolution is not split"
    if any(user.op != node.op or user.slot("weight") != name for user in users):
        return "it is also used in another way"
    if any(user.op != "linear" and user.get("groups") != 1 for user in users):
        return "a grouped convolution is not split"
    return ""


def _split(net: Net, name: str, weights: tuple[Tensor, Tensor], scheme: str) -> None:
    """Put two layers in place of every layer that uses the slot `name`."""
    stem = name.removesuffix("weight").removesuffix(".")
    first, second = (f"{stem}.{part}.weight".removeprefix(".") for part in ("first", "second"))
    for slot, weight in zip((first, second), weights, strict=True):
        net.set_slot(slot, Free(weight))
    nodes: list[Node] = []
    for node in net.spec.nodes:
        if node.slots() and node.args.get("weight") == name:
            nodes += _pair(node, Slot(first), Slot(second), scheme)
        else:
            nodes.append(node)
    net.rewire(Spec(net.spec.inputs, tuple(nodes), net.spec.output))


def _pair(node: Node, first: Slot, second: Slot, scheme: str) -> tuple[Node, Node]:
    before = Node(
        f"{node.name}_first", node.op, {k: v for k, v in node.args.items() if k != "bias"} | {"weight": first}
    )
    after = Node(node.name, node.op, {"input": Value(before.name), "weight": second, **_bias(node)})
    if node.op == "linear":
        return before, after
    if scheme == "channel":
        return before, Node(node.name, node.op.removesuffix(".padding"), after.args)
    return before.with_args(**_along(node, 0)), after.with_args(**_along(node, 1))


def _bias(node: Node) -> dict[str, Any]:
    return {"bias": node.args["bias"]} if node.args.get("bias") is not None else {}


def _along(node: Node, dim: int) -> dict[str, Any]:
    """Return a convolution's spatial arguments with those of the other dimension made plain."""
    changes = {}
    for name, plain in PLAIN.items():
        value = node.get(name)
        changes[name] = value if isinstance(value, str) else [v if d == dim else plain for d, v in enumerate(value)]
    return changes
