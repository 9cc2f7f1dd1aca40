"""Layers exchanged for several smaller ones: which can be, their slots' and nodes' names, and what each takes over."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.slots import Free
from paredown.graph.spec import Node, Slot, Spec, Value
from paredown.graph.windows import LAYERS

PLAIN = {"stride": 1, "padding": 0, "dilation": 1}
"""What a convolution's spatial arguments are along a dimension where it does nothing."""

Expand = Callable[[Node, Callable[[str], str]], Sequence[Node]]
"""From a layer's node and a maker of free node names to the nodes in its place; the last has the layer's own name."""


def refusal(net: Net, name: str, node: Node) -> str:
    """Return why the layers that use a weight are not split, or ""."""
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


def refusal_on_data(net: Net, name: str, node: Node) -> str:
    """Return why a layer is not split by what it is given on samples, or ""."""
    if why := refusal(net, name, node):
        return why
    if len(net.spec.slot_users()[name]) > 1:
        return "several layers share it, and each is given inputs of its own"
    return "" if node.op in LAYERS else f"windows of {node.op} are not laid out"


def kernel_refusal(weight: Tensor) -> str:
    """Return why a weight has no kernel that a tensor decomposition could keep, or ""."""
    if weight.dim() == 2:
        return "a linear layer has no kernel; factorize.svd splits it"
    return "a convolution over one place has no kernel; factorize.svd splits it" if weight[0, 0].numel() == 1 else ""


def named(name: str, part: str) -> Slot:
    """Return the name of a part of a weight: "0.weight" and "first" give "0.first.weight"."""
    stem = name.removesuffix("weight").removesuffix(".")
    return Slot(f"{stem}.{part}.weight".removeprefix("."))


def exchange_(net: Net, name: str, slots: Mapping[Slot, nn.Module], expand: Expand) -> None:
    """Put other nodes, which read `slots`, in the place of every layer that uses the weight `name`; in place."""
    for slot, held in slots.items():
        net.set_slot(slot, held)
    taken = {node.name for node in net.spec.nodes} | {name for name, _ in net.spec.inputs}
    nodes: list[Node] = []
    for node in net.spec.nodes:
        if node.slot("weight") == name:
            nodes += expand(node, lambda part, node=node: _fresh(f"{node.name}_{part}", taken))  # type: ignore[misc]
        else:
            nodes.append(node)
    net.rewire(Spec(net.spec.inputs, tuple(nodes), net.spec.output))


def _fresh(wanted: str, taken: set[str]) -> str:
    while wanted in taken:
        wanted += "_"
    taken.add(wanted)
    return wanted


def split_(net: Net, name: str, weights: tuple[Tensor, Tensor], scheme: str) -> None:
    """Put two layers in place of every layer that uses the weight `name`: see `low_rank.as_weights`."""
    first, second = named(name, "first"), named(name, "second")
    exchange_(
        net, name, {first: Free(weights[0]), second: Free(weights[1])},
        lambda node, fresh: pair(node, (first, second), scheme, fresh("first")),
    )  # fmt: skip


def pair(node: Node, slots: tuple[Slot, Slot], scheme: str, before: str) -> tuple[Node, Node]:
    """Return two nodes in a layer's place; the second has its name and bias, the first is called `before`."""
    first = node_without_bias(node, before).with_args(weight=slots[0])
    if node.op == "linear" or scheme == "channel":
        return first, pointwise(node, node.name, Value(before), slots[1]).with_args(**bias_of(node))
    after = Node(node.name, node.op, {"input": Value(before), "weight": slots[1], **along(node, 1), **bias_of(node)})
    return first.with_args(**along(node, 0)), after


def node_without_bias(node: Node, name: str) -> Node:
    """Return a layer's node under another name, without its bias."""
    return Node(name, node.op, {k: v for k, v in node.args.items() if k != "bias"})


def pointwise(node: Node, name: str, source: Value, weight: Slot) -> Node:
    """Return a linear layer, or a 1×1 convolution of the same number of dimensions as `node`."""
    return Node(name, node.op.removesuffix(".padding"), {"input": source, "weight": weight})


def bias_of(node: Node) -> dict[str, Any]:
    """Return the bias among a layer's arguments, if it has one."""
    return {"bias": node.args["bias"]} if node.args.get("bias") is not None else {}


def along(node: Node, dim: int) -> dict[str, Any]:
    """Return a convolution's spatial arguments with those of all other dimensions made plain."""
    changes = {}
    for name, plain in PLAIN.items():
        value = node.get(name)
        changes[name] = value if isinstance(value, str) else [v if d == dim else plain for d, v in enumerate(value)]
    return changes


def kernels(net: Net, skip: Callable[[str, str], None], first: bool = True) -> Iterator[tuple[str, Node, Tensor]]:
    """Yield (slot name, node, weight) of every convolution with a kernel that can be exchanged; `skip` is told of the others.

    first: the network's first layer too.
    """
    for node in net.spec.nodes:
        if node.op in WEIGHTED and isinstance(node.args["weight"], Value):
            skip(f"{node.name}.weight", "it is computed, not stored")
    for at, (name, node) in enumerate(net.weighted()):
        weight = net.slot(name)().detach()
        why = refusal(net, name, node) or kernel_refusal(weight)
        if why or (at == 0 and not first):
            skip(name, why or "the first layer stays as it is; first=true converts it too")
        else:
            yield name, node, weight
