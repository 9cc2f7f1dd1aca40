"""Norms whose statistics are over channels, as they are when some of those channels are masked.

A layer norm has no place for a masked channel: its statistics are over what is there. The masked original of a network
that was cut therefore takes them over the kept channels only, spelled out here in sums.
"""

import math
from typing import Any

import torch

from paredown.graph.flow import Flow
from paredown.graph.labels import Track
from paredown.graph.net import Net
from paredown.graph.resize import Kept
from paredown.graph.slots import Fixed
from paredown.graph.spec import Node, Slot, Spec, Value

OVER = frozenset({"layer_norm", "rms_norm", "group_norm", "mean.dim"})
"""Operators that may take their statistics over channels."""


def crossing(flow: Flow, node: Node) -> Track | None:
    """Return the value that a norm or a mean reads, if it takes its statistics over all of that value's channels."""
    if node.op not in OVER:
        return None
    leaf = node.args.get("input", node.args.get("self"))
    track = flow.values.get(leaf) if isinstance(leaf, Value) else None
    if not isinstance(track, Track) or track.dim is None:
        return None
    if node.op == "mean.dim":
        return track if track.dim in reduced(node, track) else None
    if node.op == "group_norm":
        return track if node.args["num_groups"] == 1 and track.dim == 1 else None
    return track if track.dim >= len(track.shape) - len(node.args["normalized_shape"]) else None


def reduced(node: Node, track: Track) -> list[int]:
    """Return the dimensions that a mean is over."""
    dims, rank = node.args["dim"], len(track.shape)
    return sorted({dim % rank for dim in ([dims] if isinstance(dims, int) else dims or range(rank))})


def with_masked_norms(net: Net, flow: Flow, gone: set[int]) -> Net:
    """Return `net`, its norms over channels of which some are gone spelled out over the others; in place."""
    kept, nodes = Kept(flow, gone), []
    for node in net.spec.nodes:
        track = crossing(flow, node)
        mask = None if track is None else kept.mask(track.labels)
        if track is None or mask is None or mask.all():
            nodes.append(node)
            continue
        shape = [-1 if dim == track.dim else 1 for dim in range(len(track.shape))]
        slot = f"{node.name}.kept"
        net.set_slot(slot, Fixed(torch.from_numpy(mask).view(shape).to(net.dtype)))
        spelled = _spelled_mean if node.op == "mean.dim" else _spelled
        nodes += spelled(node, track, Slot(slot), float(mask.mean()))
    net.rewire(Spec(net.spec.inputs, tuple(nodes), net.spec.output))
    return net


def _spelled_mean(node: Node, track: Track, mask: Slot, share: float) -> list[Node]:
    """Return the nodes of a mean over the kept channels."""
    dims = reduced(node, track)
    kept = Node(f"{node.name}.masked", "mul.Tensor", {"self": node.args["self"], "other": mask})
    total = {"self": Value(kept.name), "dim": dims, "keepdim": node.get("keepdim")}
    summed = Node(f"{node.name}.sum", "sum.dim_IntList", total)
    count = share * math.prod(track.shape[dim] for dim in dims)
    return [kept, summed, Node(node.name, "div.Tensor", {"self": Value(summed.name), "other": count})]


def _spelled(node: Node, track: Track, mask: Slot, share: float) -> list[Node]:
    """Return the nodes of (x − mean) / sqrt(variance + eps) · weight + bias over the kept channels."""
    rank = len(track.shape)
    lead = 1 if node.op == "group_norm" else rank - len(node.args["normalized_shape"])
    dims, nodes = list(range(lead, rank)), list[Node]()
    count = share * math.prod(track.shape[lead:])

    def add(name: str, op: str, **args: Any) -> Value:
        nodes.append(Node(f"{node.name}.{name}", op, args))
        return Value(nodes[-1].name)

    def average(name: str, of: Value) -> Value:
        total = add(f"{name}_sum", "sum.dim_IntList", self=of, dim=dims, keepdim=True)
        return add(name, "div.Tensor", self=total, other=count)

    centred = add("masked", "mul.Tensor", self=node.args["input"], other=mask)
    if node.op != "rms_norm":
        mean = average("mean", centred)
        apart = add("apart", "sub.Tensor", self=centred, other=mean)
        centred = add("centred", "mul.Tensor", self=apart, other=mask)
    eps = node.get("eps")
    variance = average("variance", add("squares", "square", self=centred))
    safe = add("safe", "add.Tensor", self=variance, other=torch.finfo(torch.float32).eps if eps is None else eps)
    out = add("normed", "mul.Tensor", self=centred, other=add("root", "rsqrt", self=safe))
    for name, op in (("weight", "mul.Tensor"), ("bias", "add.Tensor")):
        leaf = node.args.get(name)
        if leaf is not None:
            if node.op == "group_norm":
                leaf = add(f"{name}_rows", "view", self=leaf, size=[-1, *[1] * (rank - 2)])
            out = add(f"with_{name}", op, self=out, other=leaf)
    nodes[-1] = Node(node.name, nodes[-1].op, nodes[-1].args)
    return nodes
