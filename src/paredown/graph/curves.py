"""How a loss bends: losses as a function of stored weights and of values that flow, and traces of Hessians."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from paredown.graph.net import Net
from paredown.graph.slots import Fixed, Free
from paredown.graph.spec import Node

BATCH = 1024
"""Samples at a time where nothing but the scores is wanted."""


@torch.no_grad()
def scores(net: nn.Module, x: Tensor) -> Tensor:
    """Return the first tensor that a network returns, for all samples, in batches; the network is in eval mode."""
    parts = (torch.utils._pytree.tree_leaves(net(rows))[0] for rows in x.split(BATCH))
    return torch.cat(list(parts))


def dense(net: Net) -> Net:
    """Return a copy in eval mode whose masked or coded tensors are plain ones, so that each has a gradient."""
    out = net.copy().eval()
    for name in out.slot_names():
        if not isinstance(out.slot(name), Free | Fixed):
            out.set_slot(name, Free(out.slot(name)()))
    return out


def loss_at(net: Net, x: Tensor, y: Tensor, values: Sequence[str]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return (mean cross-entropy, what is added to each of `values`, those values).

    What is added is zero, of the value's shape, and has a gradient: the loss's with respect to the value.
    """
    added: dict[str, Tensor] = {}
    seen: dict[str, Tensor] = {}

    def shifted(name: str, value: Tensor) -> Tensor:
        seen[name], added[name] = value.detach(), torch.zeros_like(value).requires_grad_()
        return value + added[name]

    def watch(node: Node, value: Tensor) -> Tensor | None:
        return shifted(node.name, value) if node.name in values else None

    first = net.spec.inputs[0][0]
    out = net.run(shifted(first, x) if first in values else x, watch=watch)
    scores = torch.utils._pytree.tree_leaves(out)[0]
    loss = torch.nn.functional.cross_entropy(scores, y)
    return loss, [added[name] for name in values], [seen[name] for name in values]


def curvature(loss: Tensor, at: Sequence[Tensor], probes: int, draw: torch.Generator) -> list[Tensor]:
    """Return for each tensor the mean of v ⊙ (H v) over Rademacher probes v: its sum estimates Tr(H) (Hutchinson 1990).

    H: the block of the loss's Hessian that belongs to that tensor and no other. Where H is diagonal, each entry is that of
    the diagonal exactly. One gradient and `probes` Hessian-vector products for each tensor (Dong et al. 2020, section 3.1).
    """
    gradients = torch.autograd.grad(loss, list(at), create_graph=True, allow_unused=True)
    return [_curvature(g, value, probes, draw) for g, value in zip(gradients, at, strict=True)]


def _curvature(gradient: Tensor | None, at: Tensor, probes: int, draw: torch.Generator) -> Tensor:
    total = torch.zeros_like(at)
    if gradient is None or gradient.grad_fn is None:
        return total
    for _ in range(probes):
        v = (torch.randint(0, 2, at.shape, generator=draw) * 2 - 1).to(at)
        (product,) = torch.autograd.grad(gradient, at, v, retain_graph=True, allow_unused=True)
        if product is not None:
            total += v * product
    return total / probes


def averaged(batches: Sequence[tuple[Tensor, Tensor]], of: Callable[[Tensor, Tensor], list[float]]) -> list[float]:
    """Return the mean of what `of` returns for each batch, weighted by the batches' sizes."""
    total: list[float] = []
    for x, y in batches:
        found = [len(y) * value for value in of(x, y)]
        total = [a + b for a, b in zip(total, found, strict=True)] if total else found
    count = sum(len(y) for _, y in batches)
    return [value / max(1, count) for value in total]
