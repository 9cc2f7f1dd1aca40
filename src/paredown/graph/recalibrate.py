"""Batch norms whose statistics are those of given samples, for networks whose weights have just changed."""

from typing import Any

import torch
from torch import Tensor

from paredown.graph.net import Net
from paredown.graph.slots import Fixed
from paredown.graph.spec import Node


def keeping(net: Net) -> list[Node]:
    """Return the batch norms that keep running statistics of their own."""
    return [n for n in net.spec.nodes if n.op == "batch_norm" and n.slot("running_mean") and n.slot("running_var")]


@torch.no_grad()
def recalibrate_(net: Net, x: Tensor) -> None:
    """Set the statistics of every batch norm, in place, to those of what it reads when `x` runs through as one batch.

    Each norm sees what the earlier ones make with their new statistics; variances are the biased ones that normalise a
    batch. All else runs as in eval mode.
    """
    norms = {node.name: node for node in keeping(net)}
    wanted = {str(node.args["input"]) for node in norms.values()}
    seen: dict[str, Tensor] = {net.spec.inputs[0][0]: x}

    def watch(node: Node, value: Any) -> Tensor | None:
        made = None
        if node.name in norms:
            made = _renormed(net, node, seen[str(node.args["input"])])
        if node.name in wanted:
            seen[node.name] = value if made is None else made
        return made

    if norms:
        net.eval().run(x, watch=watch)


def _renormed(net: Net, node: Node, value: Tensor) -> Tensor:
    over = [dim for dim in range(value.dim()) if dim != 1]
    mean, var = value.mean(over), value.var(over, unbiased=False)
    for name, held in (("running_mean", mean), ("running_var", var)):
        net.set_slot(str(node.args[name]), Fixed(held))
    scale, shift = (net.slot(slot)() if (slot := node.slot(name)) else None for name in ("weight", "bias"))
    return torch.nn.functional.batch_norm(value, mean, var, scale, shift, False, 0.0, node.get("eps"))
