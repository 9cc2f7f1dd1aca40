"""Gradients of a loss, and products with its Hessian, at weights that are held in any form."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from paredown.graph.curves import dense
from paredown.graph.net import Net

Loss = Callable[[Net], Tensor]


def filled(found: Sequence[Tensor | None], at: Sequence[Tensor]) -> list[Tensor]:
    """Return gradients, with zeros for the tensors that the loss does not read."""
    return [torch.zeros_like(value) if g is None else g for g, value in zip(found, at, strict=True)]


def slopes(net: Net, names: Sequence[str], loss: Loss, bend: bool = False) -> tuple[list[Tensor], list[Tensor]]:
    """Return (weights, gradients of the loss there) in the order of `names`, in eval mode.

    loss: of a copy of the network whose weights are plain. bend: the gradients can be differentiated once more.
    """
    held = dense(net)
    at = [held.slot(name).value for name in names]
    if not at:
        return [], []
    return at, filled(torch.autograd.grad(loss(held), at, create_graph=bend, allow_unused=True), at)


def bent(slopes: Sequence[Tensor], at: Sequence[Tensor], along: Sequence[Tensor]) -> list[Tensor]:
    """Return H v: the gradient of gᵀv, from differentiable gradients `slopes` and a constant direction `along`.

    H is the Hessian over all of `at` together (Pearlmutter 1994).
    """
    product = sum(((g * v.detach()).sum() for g, v in zip(slopes, along, strict=True)), torch.zeros(()))
    if not product.requires_grad:
        return [torch.zeros_like(value) for value in at]
    return filled(torch.autograd.grad(product, list(at), allow_unused=True), at)
