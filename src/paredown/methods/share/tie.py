"""Layers that share one weight."""

from dataclasses import dataclass
from typing import Any

import torch

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.latent import learnable
from paredown.graph.net import Net
from paredown.graph.residual import branches
from paredown.graph.slots import Free
from paredown.graph.spec import Node, Slot, Spec, mapped

Place = tuple[int, int, str, tuple[int, ...], Any]


def places(net: Net) -> dict[str, Place]:
    """Return {slot of a convolution's or linear layer's weight: its place in its block}, in order.

    A block is a residual branch, the innermost; a layer outside of all of them is one by itself. A place is how many
    layers the block has, which of them this is, its operator, the weight's shape and the groups.
    """
    own = {node.name: str(name) for name, node in net.weighted()}
    nodes = {str(name): node for name, node in net.weighted()}
    blocks = {name: [name] for name in nodes}
    for branch in sorted(branches(net), key=lambda found: -len(found.nodes)):  # inner ones last
        inside = [own[name] for name in branch.nodes if name in own]
        blocks.update(dict.fromkeys(inside, inside))
    final = {name: [other for other in nodes if blocks[other] is blocks[name]] for name in nodes}
    return {name: (len(final[name]), final[name].index(name), *_kind(net, name, nodes[name])) for name in nodes}


def _kind(net: Net, name: str, node: Node) -> tuple[str, tuple[int, ...], Any]:
    return node.op, tuple(net.slot(name)().shape), node.get("groups") if "conv" in node.op else 1


def rewired(spec: Spec, instead: dict[str, str]) -> Spec:
    """Return the architecture that reads other slots in the place of some."""

    def swap(leaf: Any) -> Any:
        return Slot(instead.get(leaf, leaf)) if isinstance(leaf, Slot) else leaf

    nodes = tuple(Node(node.name, node.op, mapped(node.args, swap)) for node in spec.nodes)
    return Spec(spec.inputs, nodes, spec.output)


@part("share.tie", Card(title="Weights tied across layers", paper="arxiv:1909.11942", year=2020,
                        authors="Lan, Chen, Goodman, Gimpel, Sharma, Soricut",
                        source="ALBERT, section 3.1: cross-layer parameter sharing",
                        changes={"params", "nonzero", "bits", "bytes"},
                        forbids={"quantized", "shared", "masked"}))  # fmt: skip
@dataclass(frozen=True)
class Tie:
    """Let layers in the same place of consecutive blocks use one weight: one tensor, trained and stored once.

    A block is a residual branch; in a network without them each layer is one. Layers share if they are the same layer
    of their block, with the same operator, shape and groups. blocks: how many in a row share, or 0 for all that there are.
    start: the shared weight begins as the "mean" of those it replaces, or as the "first". Biases and norms stay each
    layer's own. What the network computes changes much; train afterwards.

    Differs from the paper: a trained network is tied, not one that is tied from the start; norms and biases are not shared.
    """

    blocks: int = knob(2, low=0, high=1000)
    start: str = knob("mean", among=("mean", "first"))

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with tied weights; weights without a partner are noted."""
        out, instead = net.copy(), dict[str, str]()
        for together in self._groups(out, work):
            if len(together) < 2:
                shape = tuple(out.slot(together[0])().shape)
                work.skip(together[0], f"no block next to it has another weight of shape {shape} in its place")
                continue
            values = torch.stack([out.slot(name)().detach() for name in together])
            out.set_slot(together[0], Free(values.mean(0) if self.start == "mean" else values[0]))
            instead.update(dict.fromkeys(together[1:], together[0]))
        out.rewire(rewired(out.spec, instead))
        return out

    def _groups(self, net: Net, work: Work) -> list[list[str]]:
        """Return the weights that are to share, in order; lists of one are those without a partner."""
        users, found = net.spec.slot_users(), dict[Place, list[str]]()
        place = places(net)
        for name in map(str, learnable(net, work.skip)):
            if len(users[name]) > 1:
                work.skip(name, "it is tied already")
            else:
                found.setdefault(place[name], []).append(name)
        size = self.blocks or max([1, *map(len, found.values())])
        return [names[at : at + size] for names in found.values() for at in range(0, len(names), size)]
