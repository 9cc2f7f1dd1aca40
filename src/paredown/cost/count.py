"""Counting a network, layer by layer and in total: what it stores, computes, moves and keeps in memory.

Convention "full" (`cost/arithmetic.py`), for one sample. Running statistics are not parameters.
"""

import math
from collections import Counter
from collections.abc import Iterable

from torch import nn

from paredown.core.cost import Cost, Layer
from paredown.cost.arithmetic import Arithmetic, Call, counted, held_params, slot_shape
from paredown.cost.memory import activations, peak_bytes, value_bits
from paredown.cost.operators.moves import VIEWS
from paredown.graph.blocks import Blocked
from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.slots import Codebook, Fixed, Grid
from paredown.graph.spec import Node, Slot
from paredown.graph.vectors import Hashed, VectorCodebook


def stored_bits(slot: nn.Module) -> int:
    """Return a slot's stored width in bits, uncoded: codes at their width, steps and centroids at 32, a mask at 1."""
    size = math.prod(slot_shape(slot))
    if isinstance(slot, Blocked | Grid | VectorCodebook | Hashed):
        return slot.stored_bits()
    if slot_form(slot) == "quantized":
        return size * int(slot.bits) + 32 * int(slot.step.numel())  # type: ignore[arg-type, operator]
    if isinstance(slot, Codebook):
        return size * slot.bits + 32 * slot.centroids.numel()
    return 32 * _nonzero(slot) + size if slot_form(slot) == "masked" else 32 * size


def slot_form(slot: nn.Module) -> str:
    """Return the form a slot is in: "" for plain float, else masked, quantized or shared."""
    return str(getattr(slot, "form", ""))


def _nonzero(slot: nn.Module) -> int:
    return int((slot.values if isinstance(slot, Hashed) else slot()).count_nonzero())


def layers(net: Net) -> tuple[Layer, ...]:
    """Return the cost of every node that computes, stores or copies, in order. A slot counts where it is first read."""
    shapes = net.shapes()
    widths = value_bits(net)
    nonzero = {name: _nonzero(net.slot(name)) for name in net.slot_names() if not isinstance(net.slot(name), Fixed)}
    rows: list[Layer] = []
    seen: set[str] = set()
    for node in net.spec.nodes:
        own = {str(slot): None for slot in node.slots() if slot not in seen and slot in nonzero}
        seen.update(own)
        row = _layer(Call(node, net, shapes), list(own), nonzero, widths)
        if own or row.kind != "data" or (row.reads and row.writes and node.op not in VIEWS):
            rows.append(row)
    return tuple(rows)


def _layer(call: Call, own: list[str], nonzero: dict[str, int], widths: dict[str, int]) -> Layer:
    node, net, shapes = call.node, call.net, call.shapes
    operator = counted().get(node.op)
    work = operator.count(call) if operator else Arithmetic()
    weight = node.slot("weight")
    geometry = operator.geometry(call) if operator and operator.geometry else None
    return Layer(
        name=str(weight).removesuffix(".weight") if weight else node.name, op=node.op, slot=str(weight or ""),
        kind=_kind(call), shape=tuple(shapes.get(node.name, ())),
        params=sum(held_params(net.slot(s)) for s in own), nonzero=sum(nonzero[s] for s in own),
        stored_bits=sum(stored_bits(net.slot(s)) for s in own),
        weight_bits=weight_bits(node, net), activation_bits=_input_bits(node, widths),
        macs=work.macs, mults=work.mults, adds=work.adds, compares=work.compares, specials=work.specials,
        reads=sum(math.prod(shapes[v]) for v in dict.fromkeys(node.values()) if v in shapes), writes=_writes(call),
        weights=call.size("weight") if weight in nonzero else 0, weights_nonzero=_weights_nonzero(net, weight, nonzero),
        geometry=geometry, code_bits=_code_bits(node, net),
    )  # fmt: skip


def _weights_nonzero(net: Net, weight: Slot | None, nonzero: dict[str, int]) -> int:
    """Return how many of the numbers that a node multiplies by are not zero; hashed values stand in many places."""
    if weight is not None and isinstance(net.slot(weight), Hashed):
        return int(net.slot(weight)().count_nonzero())
    return nonzero.get(str(weight), 0)


def _kind(call: Call) -> str:
    """Return the kind of layer, one of `core.cost.KINDS`; convolutions are told apart by their loops."""
    operator = counted().get(call.node.op)
    if operator is None:
        return "data"
    loops = operator.geometry(call) if operator.geometry else None
    if operator.kind != "convolution" or loops is None:
        return operator.kind
    if loops.groups > 1 and loops.groups == loops.channels_in:
        return "depthwise"
    return "pointwise" if set(loops.kernel) == {1} else "convolution"


def _writes(call: Call) -> int:
    """Return the number of values a node makes; of an operator with several outputs, those that are read."""
    if call.node.name in call.shapes:
        return call.outputs
    parts = (user for user in call.net.spec.users(call.node.name) if user.op == "getitem")
    return sum(math.prod(call.shapes.get(part.name, (0,))) for part in parts)


def weight_bits(node: Node, net: Net) -> int:
    """Return the width of the numbers a node multiplies by: codes at their width, float and codebooks at 32."""
    slot = node.slot("weight")
    held = net.slot(slot) if slot is not None else None
    return int(held.bits) if held is not None and slot_form(held) == "quantized" else 32


def _code_bits(node: Node, net: Net) -> int | None:
    """Return the bits of all the codes that a node multiplies by, where its channels have widths of their own."""
    slot = node.slot("weight")
    held = net.slot(slot) if slot is not None else None
    return held.code_bits() if isinstance(held, Grid) and held.widths is not None else None


def _input_bits(node: Node, widths: dict[str, int]) -> int:
    """Return the width of the values that flow into a node: the widest of them."""
    return max((widths[value] for value in node.values() if value in widths), default=32)


def count(net: Net) -> Cost:
    """Return the network's counted cost; `bops` is MACs × weight bits × activation bits."""
    return total(net, layers(net))


def total(net: Net, rows: Iterable[Layer]) -> Cost:
    """Return the counted cost of a network whose layers are counted already."""
    rows = list(rows)
    by_bits: Counter[str] = Counter()
    for row in rows:
        if row.macs:
            by_bits[f"w{row.weight_bits}a{row.activation_bits}"] += row.macs
    sums = {
        key: sum(getattr(row, key) for row in rows)
        for key in ("params", "nonzero", "macs", "macs_nonzero", "mults", "adds", "compares", "specials", "bops")
    }
    return Cost(
        **sums, bits=sum(row.stored_bits for row in rows), activations=activations(net),
        ram_bytes=peak_bytes(net), ram_inplace_bytes=peak_bytes(net, inplace="pointwise"),
        traffic_bytes=-(-sum(row.traffic_bits for row in rows) // 8), macs_by_bits=dict(by_bits),
        uncounted=tuple(sorted({node.op for node in net.spec.nodes} - set(counted()))),
    )  # fmt: skip


def papers(rows: Iterable[Layer]) -> dict[str, object]:
    """Return {"params", "macs", "uncounted"} as papers count: the MACs of convolutions and linear layers alone.

    `uncounted` names the operators that compute and are left out: matrix products, attention, norms, pooling and so on.
    """
    rows = list(rows)
    counted_ones = [row for row in rows if row.op in WEIGHTED]
    left = {row.op for row in rows if row.op not in WEIGHTED and row.mults + row.adds + row.compares + row.specials}
    params, macs = sum(row.params for row in rows), sum(row.macs for row in counted_ones)
    return {"params": params, "macs": macs, "uncounted": sorted(left)}
