"""A convolution as one in groups of channels, put in order before and after; or as two, in groups that cross."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.chains import bias_of, exchange_, kernels, named, node_without_bias, pointwise
from paredown.graph.net import Net
from paredown.graph.partners import partners
from paredown.graph.slots import Fixed, Free
from paredown.graph.spec import Node, Slot, Value


def in_groups(weight: Tensor, outs: Tensor, ins: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (grouped weight [out, in / g, kernel…], order of the inputs before it, order of its outputs after it).

    outs, ins: the group of each output and input of `weight`. The grouped convolution of the ordered inputs, its outputs
    ordered, computes with the weights inside the groups.
    """
    onto, into = outs.argsort(stable=True), ins.argsort(stable=True)
    groups = int(ins.max()) + 1
    rows, columns = onto.view(groups, -1), into.view(groups, -1)
    blocks = [weight[o][:, i] for o, i in zip(rows, columns, strict=True)]
    return torch.cat(blocks).contiguous(), into, onto.argsort()


def ungrouped(weight: Tensor, into: Tensor, onto: Tensor) -> Tensor:
    """Return the weight [out, in, kernel…] of the one convolution that `in_groups`' three parts are: zero across groups."""
    size, groups = weight.shape[1], len(into) // weight.shape[1]
    whole = weight.new_zeros(len(weight), len(into), *weight.shape[2:])
    for at, block in enumerate(weight.chunk(groups)):
        rows = torch.arange(at * len(block), (at + 1) * len(block))
        whole[rows[:, None], into[at * size : (at + 1) * size]] = block
    return whole[onto]


def crossed(weight: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return (primary [in, in / L, kernel…], secondary [out, L, 1…]) of the least squared error, L = groups.

    With M = in / L: output (m, l) sees input (l', m') through secondary[(m, l), l'] · primary[(l', m), m'], so that each part of
    the weight for one m and one l' is a matrix [outputs of m, M · kernel] of rank one.
    """
    out, into, *kernel = weight.shape
    wide = into // groups
    parts = weight.detach().double().reshape(wide, out // wide, groups, wide * math.prod(kernel)).transpose(1, 2)
    u, s, v = torch.linalg.svd(parts, full_matrices=False)
    root = s[..., :1].sqrt()
    primary = (root * v[..., 0, :]).transpose(0, 1).reshape(into, wide, *kernel)
    secondary = (u[..., 0] * root).transpose(1, 2).reshape(out, groups, *[1] * len(kernel))
    return primary.to(weight.dtype).contiguous(), secondary.to(weight.dtype).contiguous()


def uncrossed(primary: Tensor, secondary: Tensor) -> Tensor:
    """Return the weight [out, in, kernel…] of the one convolution that two in crossing groups are."""
    wide, groups = primary.shape[1], secondary.shape[1]
    first = primary.unflatten(0, (groups, wide))
    second = secondary.flatten(1).unflatten(0, (wide, -1))
    return torch.einsum("mol,lmi...->moli...", second, first).flatten(0, 1).flatten(1, 2)


def size(shape: Sequence[int], groups: int, scheme: str) -> int:
    """Return the weights of what a convolution becomes; "crossed" with in = out: L · M² · S + M · L² (Zhang et al. 2017)."""
    whole = math.prod(shape) // groups
    if scheme == "permuted":
        return whole
    return shape[1] * shape[1] // groups * math.prod(shape[2:]) + shape[0] * groups


@part("factorize.grouped", Card(title="Grouped and interleaved group convolutions", paper="arxiv:1707.02725", year=2017,
                                authors="Zhang, Qi, Xiao, Wang; grouped: Krizhevsky, Sutskever, Hinton; Ioannou, Robertson, Cipolla, Criminisi",
                                source="Interleaved Group Convolutions, section 3, equations 1-6; grouped: arxiv:1605.06489, section 3",
                                changes={"params", "macs"}, gives={"factored"},
                                forbids={"masked", "quantized", "shared"}))  # fmt: skip
@dataclass(frozen=True)
class Grouped:
    """Make a convolution one in groups of channels; then train.

    groups: how many. scheme: "permuted" chooses which outputs go with which inputs so that the groups hold most of the squared
    weights, takes the channels into that order, convolves, and takes the outputs back; 1 / groups of the weights and operations
    are left. "crossed" makes two: one in `groups` groups, its outputs interleaved, and a 1×1 one in in / groups groups, so that every
    output still sees every input (L partitions of M channels, and M of L). starts: drawn orders that "permuted" begins
    from, beside a spectral one. first: convert the network's first layer too.

    Orders are stored as whole numbers, and are no parameters; those that would change nothing are left out. Layers
    whose channels are not divided evenly stay as they are. Differs from the papers: fitted to a convolution that is there,
    by its weights alone, instead of trained from the start; inputs and outputs may differ in number; with "crossed" the outputs
    are fitted in their own order, so that nothing is permuted back. A norm behind the layer is better folded before.
    """

    groups: int = knob(2, low=2, high=256, log=True)
    scheme: str = knob("permuted", among=("permuted", "crossed"))
    starts: int = knob(8, low=0, high=1000, search=False)
    first: bool = knob(False, among=(False, True), search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with some convolutions in groups; those left alone are noted by their weight's name."""
        out = net.copy()
        for name, node, weight in kernels(net, work.skip, self.first):
            if why := self._obstacle(net, name, node, weight):
                work.skip(name, why)
            elif self.scheme == "crossed":
                _cross(out, name, weight, self.groups)
            else:
                energy = weight.square().flatten(2).sum(2)
                _permute(out, name, weight, partners(energy, self.groups, self.starts, work.seed))
        return out

    def _obstacle(self, net: Net, name: str, node: Node, weight: Tensor) -> str:
        """Return why a convolution that could be split cannot be grouped, or ""."""
        out, into = weight.shape[:2]
        if into % self.groups or out % (into // self.groups if self.scheme == "crossed" else self.groups):
            return f"its {out} outputs and {into} inputs are not divided evenly into {self.groups} groups"
        if size(weight.shape, self.groups, self.scheme) >= weight.numel():
            return f"in {self.groups} groups it would not have fewer weights than its {weight.numel()}"
        if self.scheme == "crossed":
            return "" if weight.dim() == 4 else "only two-dimensional convolutions are interleaved"
        users = net.spec.slot_users()
        biases = [user.args.get("bias") for user in users[name]]
        if any(isinstance(b, Value) or (b is not None and not isinstance(net.slot(b), Free)) for b in biases):
            return "its bias is no plain stored one, which could be put in order"
        return "" if all(b is None or len(users[b]) == 1 for b in biases) else "another layer reads its bias too"


def _permute(net: Net, name: str, weight: Tensor, groups: tuple[Tensor, Tensor]) -> None:
    """Put a grouped convolution and the orders around it in the place of every layer that uses a weight."""
    made, into, onto = in_groups(weight, *groups)
    for bias in {user.slot("bias") for user in net.spec.slot_users()[name]}:
        if bias is not None:
            net.set_slot(bias, Free(net.slot(bias)().detach()[onto.argsort()]))
    orders = {key: order for key, order in (("into", into), ("onto", onto)) if (order.diff() != 1).any()}
    at = {key: Slot(named(name, key).removesuffix("weight") + "order") for key in orders}
    slots: dict[Slot, nn.Module] = {at[key]: Fixed(order.to(weight.device)) for key, order in orders.items()}
    grouped = named(name, "grouped")
    count = weight.shape[1] // made.shape[1]

    def expand(node: Node, fresh: Callable[[str], str]) -> list[Node]:
        nodes, source = [], node.args["input"]
        if "into" in at:
            nodes.append(_ordered(fresh("into"), source, at["into"]))
            source = Value(nodes[-1].name)
        last = "onto" not in at
        layer = node_without_bias(node, node.name if last else fresh("grouped"))
        nodes.append(layer.with_args(input=source, weight=grouped, groups=count, **bias_of(node)))
        return nodes if last else [*nodes, _ordered(node.name, Value(nodes[-1].name), at["onto"])]

    exchange_(net, name, {grouped: Free(made), **slots}, expand)


def _ordered(name: str, source: Value, order: Slot) -> Node:
    return Node(name, "index_select", {"self": source, "dim": 1, "index": order})


def _cross(net: Net, name: str, weight: Tensor, groups: int) -> None:
    """Put two convolutions in crossing groups in the place of every layer that uses a weight."""
    first, second = named(name, "primary"), named(name, "secondary")
    primary, secondary = crossed(weight, groups)

    def expand(node: Node, fresh: Callable[[str], str]) -> list[Node]:
        before = node_without_bias(node, fresh("primary")).with_args(weight=first, groups=groups)
        mixed = Node(fresh("mixed"), "channel_shuffle", {"self": Value(before.name), "groups": groups})
        after = pointwise(node, node.name, Value(mixed.name), second)
        return [before, mixed, after.with_args(groups=primary.shape[1], **bias_of(node))]

    exchange_(net, name, {first: Free(primary), second: Free(secondary)}, expand)
