"""Products of what a layer's weights are multiplied with, summed over samples: what least squares needs to know."""

from collections.abc import Sequence

import torch
from torch import Tensor

from paredown.graph.net import Net
from paredown.graph.spec import Node, Spec, Value
from paredown.graph.windows import windows

TOGETHER = 64
"""Samples whose windows are laid out at a time."""


@torch.no_grad()
def value_at(net: Net, x: Tensor, name: str) -> Tensor:
    """Return the value `name` of a network in eval mode for the inputs `x`; what comes after it is not computed."""
    names = [node.name for node in net.spec.nodes]
    if name not in names:
        return x
    spec = Spec(net.spec.inputs, net.spec.nodes[: names.index(name) + 1], Value(name))
    part = Net(spec, {slot: net.slot(slot) for slot in spec.slot_users()}).eval()
    return torch.cat([part(some) for some in x.split(TOGETHER)])


def columns(node: Node, x: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """Return a layer's windows as [groups, weights of an output, windows of all samples], in the weight's order."""
    laid = windows(node, x, kernel)
    samples, groups, inputs, taps, places = laid.shape
    return laid.permute(1, 2, 3, 0, 4).reshape(groups, inputs * taps, samples * places)


@torch.no_grad()
def crossed(node: Node, x: Tensor, other: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """Return the mean over windows of x xₒᵀ for two inputs of a layer, [groups, weights of an output, the same], in float64."""
    total, count = torch.zeros((), dtype=torch.float64, device=x.device), 0
    for some, others in zip(x.split(TOGETHER), other.split(TOGETHER), strict=True):
        left, right = columns(node, some, kernel).double(), columns(node, others, kernel).double()
        total, count = total + left @ right.transpose(1, 2), count + left.shape[2]
    return total / max(1, count)


@torch.no_grad()
def gathered(net: Net, nodes: Sequence[Node], x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return {node: (mean of x xᵀ, mean of x)} over the windows of each ungrouped layer, in float64; the net runs once.

    Both are in the order of the weight's entries for an output, [inputs, inputs] and [inputs]. The network is in eval mode.
    """
    kernels = {node.name: tuple(net.slot(str(node.args["weight"]))().shape[2:]) for node in nodes}
    sources: dict[str, list[Node]] = {}
    for node in nodes:
        sources.setdefault(str(node.args["input"]), []).append(node)
    sums: dict[str, tuple[Tensor, Tensor, int]] = {}

    def see(source: str, value: Tensor) -> None:
        for node in sources.get(source, ()):
            laid = columns(node, value, kernels[node.name])[0].double()
            second, first, count = sums.get(node.name, (laid.new_zeros(()), laid.new_zeros(()), 0))
            sums[node.name] = second + laid @ laid.T, first + laid.sum(1), count + laid.shape[1]

    training = net.training
    for some in x.split(TOGETHER):
        see(net.spec.inputs[0][0], some)
        net.eval().run(some, watch=lambda node, value: see(node.name, value) if node.name in sources else None)
    net.train(training)
    return {name: (second / count, first / count) for name, (second, first, count) in sums.items()}
