"""A quantized network and its plain twin: the same nodes without quantizers, and the float network's weights in them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paredown.core.errors import BadInput
from paredown.graph.activations import CONSTANT, LEARNABLE
from paredown.graph.blocks import Blocked
from paredown.graph.fold import fold_batchnorm
from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.slots import Codebook, Fixed, Free, Grid
from paredown.graph.spec import Node, Spec, Value, mapped
from paredown.graph.vectors import Hashed, VectorCodebook

LOOSE = 0.01
"""A weight has moved where more than this share of it is further than a step from where it was."""


@dataclass(frozen=True, eq=False)
class Twins:
    """Two networks whose nodes and slots have the same names, so that any value of one can be held beside the other's.

    quantized: as it runs. plain: without quantizers and with float weights. before: the float network as it was given, its
    norms folded where the quantized one's are. names: how each layer is called, by the slot of its weight. unlike: why a
    weight has no float counterpart, by slot; plain then has the quantized network's own there. trained: the weights have
    been trained since the float network, and what they were before rounding is not known.
    """

    quantized: Net
    plain: Net
    before: Net
    names: Mapping[str, str]
    unlike: Mapping[str, str]
    trained: bool = False
    unrounded: bool = False

    def layers(self) -> list[tuple[str, Node]]:
        """Return (slot of the weight, node) of every convolution and linear layer with a stored weight."""
        return list(self.quantized.weighted())


def is_quantizer(node: Node) -> bool:
    """Return whether a node rounds what flows."""
    return node.op in (CONSTANT, LEARNABLE)


def without(net: Net, quantizers: set[str]) -> Net:
    """Return a copy in which what the named nodes round flows on as it is."""
    stands_for: dict[str, object] = {}

    def settle(leaf: object) -> object:
        return stands_for.get(leaf, leaf) if isinstance(leaf, Value) else leaf

    nodes = []
    for node in net.spec.nodes:
        settled = Node(node.name, node.op, mapped(node.args, settle))
        if node.name in quantizers:
            stands_for[Value(node.name)] = settled.args["self"]
        else:
            nodes.append(settled)
    out = net.copy()
    out.rewire(Spec(net.spec.inputs, tuple(nodes), mapped(net.spec.output, settle)))
    return out


def twins(quantized: Net, given: Net, unrounded: Mapping[str, Tensor] | None = None) -> Twins:
    """Return a quantized network beside the float network `given`. Raises BadInput where no layer is in both.

    Layers are found by the names of their weights, or by their order where names say less (files rename them); batch norms
    are folded in the copy of `given` when the quantized network has fewer. unrounded: {slot: value before rounding} of a
    network that was trained while it was rounded; these stand in the plain twin in place of the older weights.
    """
    quantized = quantized.copy().eval()
    before = given.copy().eval().to(next((t.device for t in quantized.buffers()), torch.device("cpu")))
    if _norms(quantized) < _norms(before):
        before = fold_batchnorm(before)[0].eval()
    plain = without(quantized, {node.name for node in quantized.spec.nodes if is_quantizer(node)})
    pairs, named = _matched(quantized, before)
    values, unlike = _values(quantized, before, pairs)
    if not values:
        raise BadInput(
            f"the float network has no layer of the quantized one's: {len(pairs)} of {len(list(quantized.weighted()))} "
            "correspond, none in shape; give the network that it was made from"
        )
    if named:
        values = {**_others(quantized, before, values), **values}
    held = _held(quantized, unrounded or {})
    moved = any(_moved(quantized, slot, values[slot]) > LOOSE for slot in pairs if slot in values)
    names = {slot: _shown(slot, pairs.get(slot), node) for slot, node in quantized.weighted()}
    known = bool(held) and {s for s, _ in quantized.weighted() if isinstance(quantized.slot(s), Grid)} <= set(held)
    for slot, value in (held if known else values).items():
        plain.set_slot(slot, Free(value) if value.is_floating_point() else Fixed(value))
    if known:
        unlike = {}
    return Twins(quantized, plain.eval(), before, names, unlike, moved and not known, known)


def _norms(net: Net) -> int:
    return sum(node.op == "batch_norm" for node in net.spec.nodes)


def _kind(node: Node) -> str:
    return node.op.split(".")[0]


def _matched(net: Net, like: Net) -> tuple[dict[str, str], bool]:
    """Return ({weight slot: the slot of its counterpart}, whether they are matched by name)."""
    ours, theirs = list(net.weighted()), list(like.weighted())
    kinds = {slot: _kind(node) for slot, node in theirs}
    by_name = {slot: slot for slot, node in ours if kinds.get(slot) == _kind(node)}
    same = [_kind(node) for _, node in ours] == list(kinds.values())
    by_order = {a: b for (a, _), (b, _) in zip(ours, theirs, strict=True)} if same else {}

    def agreeing(pairs: Mapping[str, str]) -> int:
        return sum(net.slot(a)().shape == like.slot(b)().shape for a, b in pairs.items())

    if by_order != by_name and agreeing(by_order) >= agreeing(by_name):
        return by_order, False
    return by_name, True


@torch.no_grad()
def _values(net: Net, like: Net, pairs: Mapping[str, str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return ({slot of a weight or bias: the float value}, {slot: why there is none})."""
    readers = {slot: node for slot, node in like.weighted()}
    values: dict[str, Tensor] = {}
    unlike: dict[str, str] = {}
    for slot, node in net.weighted():
        if slot not in pairs:
            unlike[slot] = "the float network has no such layer"
            continue
        theirs = like.slot(pairs[slot])().detach()
        if theirs.shape != net.slot(slot)().shape:
            sizes = "×".join(map(str, theirs.shape)), "×".join(map(str, net.slot(slot)().shape))
            unlike[slot] = f"the float network's weight is {sizes[0]}, this one {sizes[1]}"
            continue
        values[slot] = theirs.float().clone()
        bias, source = node.slot("bias"), readers[pairs[slot]].slot("bias")
        if bias is not None:
            value = like.slot(source)().detach() if source is not None else torch.zeros_like(net.slot(bias)())
            if value.shape == net.slot(bias)().shape:
                values[bias] = value.float().clone()
    return values, unlike


def _others(net: Net, like: Net, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the values that both networks store under one name besides layers': norms, constants."""
    both = (set(net.slot_names()) & set(like.slot_names())) - set(known)
    layers = {str(slot) for node in net.spec.nodes if node.op in WEIGHTED for slot in node.slots()}
    found = {name: like.slot(name)().detach().clone() for name in both - layers}
    return {name: value for name, value in found.items() if value.shape == net.slot(name)().shape}


def _held(net: Net, unrounded: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return those values before rounding that round to what the network stores: others belong to another network."""
    kept = {}
    for name in set(net.slot_names()) & set(unrounded):
        slot, value = net.slot(name), unrounded[name]
        if not isinstance(slot, Grid) or slot.codes.shape != value.shape:
            continue
        low, high = slot.codes.min(), slot.codes.max()
        codes = (value.to(slot.step.device) / slot.step).round().clamp(low, high)
        if float((codes == slot.codes).float().mean()) > 0.99:
            kept[name] = value.to(slot.step.device).float().clone()
    return kept


@torch.no_grad()
def _moved(net: Net, name: str, value: Tensor) -> float:
    """Return the share of a stored weight that is further from a float value than its form explains.

    On a grid: more than one step, the grid's ends left out; with one bit: of another sign. With shared values: more than
    the widest gap between two. In blocks: more than half. Shared vectors and hashed values explain any distance. Plain values, also those that a mask keeps: what one can see.
    """
    slot, held = net.slot(name), net.slot(name)()
    apart, largest = (held - value).abs(), value.abs().max()
    if isinstance(slot, Grid) and slot.bits == 1:
        return float(((held * value < 0) & (value.abs() > 0.1 * slot.step)).float().mean())
    if isinstance(slot, Grid):
        inside = value.abs() < slot.codes.abs().max() * slot.step
        return float(((apart > 1.02 * slot.step) & inside).float().mean())
    if isinstance(slot, Codebook):
        table = slot.centroids.sort().values
        gap = table.diff().max() if len(table) > 1 else largest
        inside = (value > table[0]) & (value < table[-1])
        return float(((apart > 1.02 * gap) & inside).float().mean())
    if isinstance(slot, VectorCodebook | Hashed):
        return 0.0
    loose = 0.5 if isinstance(slot, Blocked) else 0.01
    return float(((apart > loose * value.abs() + 1e-3 * largest) & (held != 0)).float().mean())


def moved(both: Twins, name: str) -> float:
    """Return the share of a layer's weight that is further from the float value than its form explains."""
    return 0.0 if name in both.unlike else _moved(both.quantized, name, both.plain.slot(name)().detach())


def _shown(slot: str, other: str | None, node: Node) -> str:
    """Return what a layer is called: by its weight's name; in files, which rename, by the float network's or the node's."""
    for name in (slot, other or ""):
        if name.endswith("weight") and name != "weight":
            short = name.removesuffix("weight").rstrip("._/")
            return f"layer {short}" if short.isdigit() else short
    return f"{node.op.split('.')[0]} {node.name}"


def with_slots(net: Net, slots: Mapping[str, torch.nn.Module]) -> Net:
    """Return a copy of a network with some slots exchanged."""
    out = net.copy()
    for name, slot in slots.items():
        out.set_slot(name, slot)
    return out.eval()


def with_node(net: Net, node: Node) -> Net:
    """Return a copy of a network with one node exchanged for one of the same name."""
    nodes = tuple(node if n.name == node.name else n for n in net.spec.nodes)
    out = net.copy()
    out.rewire(replace(net.spec, nodes=nodes))
    return out.eval()
