"""What a weight passes on of a flow of ones, without any data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.work import Work
from paredown.graph.curves import dense
from paredown.graph.net import Net
from paredown.graph.slots import Free
from paredown.graph.spec import Node, Slot

SHIFTS = ("bias", "running_mean")
PASSED = frozenset({"layer_norm", "group_norm", "instance_norm"})
"""Norms that take their statistics from the input; a sum of what they return is always the same."""


@torch.no_grad()
def positive(net: Net) -> Net:
    """Return a copy in float64 and eval mode with every weight at its absolute value and every shift at zero.

    Shifts: biases of layers and norms, and running means; a batch norm is left with |γ| / σ.
    """
    out = dense(net).double()
    shifts = {node.args.get(name) for node in out.spec.nodes for name in SHIFTS}
    for name in out.slot_names():
        slot = out.slot(name)
        if Slot(name) in shifts:
            slot.value.zero_()
        elif isinstance(slot, Free):
            slot.value.abs_()
    return out


def flow(net: Net) -> Tensor:
    """Return R, the sum of the scores for an input of ones; norms of the input's own statistics pass it on as it is."""
    seen: dict[str, Any] = {}

    def watch(node: Node, value: Any) -> Any:
        instead = seen[str(node.args["input"])] if node.op in PASSED and str(node.args["input"]) in seen else None
        seen[node.name] = value if instead is None else instead
        return instead

    inputs = [torch.ones_like(x, dtype=torch.float64) for x in net.example()]
    seen.update({name: x for (name, _), x in zip(net.spec.inputs, inputs, strict=True)})
    leaves = torch.utils._pytree.tree_leaves(net.run(*inputs, watch=watch))
    return torch.stack([leaf.sum() for leaf in leaves if leaf.is_floating_point()]).sum()


@part("saliency.synflow", Card(title="SynFlow: iterative synaptic flow pruning", paper="arxiv:2006.05467", year=2020,
                               authors="Tanaka, Kunin, Yamins, Ganguli",
                               source="Pruning neural networks without any data by iteratively conserving synaptic flow, section 6, equation 3"))  # fmt: skip
@dataclass(frozen=True)
class Synflow:
    """|w| · dR/d|w| with R the sum of the scores that an input of ones gets from the absolute weights.

    Use it with `scope="global"`, `rounds=100` and the exponential schedule of `prune.weights`: what it conserves, the
    sum over a layer's weights, keeps a layer from running empty only if scores are taken afresh.

    Differs from the paper: biases and running means count as zero, so that the sums of all layers are equal and folding
    norms changes no score; layer, group and instance norms are passed by. Other activations than ReLU work as they do.
    """

    def saliencies(self, net: Net, names: Sequence[str], work: Work) -> dict[str, Tensor]:
        """Return each weight's share of the flow, in float64; no data is used."""
        held = positive(net)
        at = [held.slot(name).value for name in names]
        found = torch.autograd.grad(flow(held), at, allow_unused=True) if at else ()
        none = [torch.zeros_like(w) for w in at]
        return {n: z if g is None else (w * g).detach() for n, w, g, z in zip(names, at, found, none, strict=True)}
