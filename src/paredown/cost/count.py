"""Counting a network: parameters, nonzero values, stored bits, multiply-accumulates by bit width, peak memory.

Convention: a MAC is one multiply-accumulate, and convolutions, linear layers and matrix products are what has them (the
papers' convention); what else computes is listed as uncounted. Batch 1. Running statistics are not parameters.
"""

import math
from typing import Any

from torch import nn

from paredown.core.cost import Cost
from paredown.graph.net import Net
from paredown.graph.ops import CONVOLUTIONS, WEIGHTED
from paredown.graph.slots import Codebook, Fixed
from paredown.graph.spec import Node, Slot, Value, references

FREE = frozenset(
    {
        "flatten.using_ints",
        "view",
        "reshape",
        "permute",
        "transpose.int",
        "t",
        "contiguous",
        "clone",
        "alias",
        "detach",
        "getitem",
        "chunk",
        "split.Tensor",
        "split_with_sizes",
        "unbind.int",
        "squeeze",
        "squeeze.dim",
        "squeeze.dims",
        "unsqueeze",
        "unflatten.int",
        "dropout",
        "feature_dropout",
        "alpha_dropout",
        "sym_size.int",
        "relu",
        "max_pool1d",
        "max_pool2d",
        "max_pool3d",
        "cat",
        "narrow",
        "slice.Tensor",
        "select.int",
        "pad",
        "expand",
        "channel_shuffle",
        "pixel_shuffle",
        "pixel_unshuffle",
        "roll",
        "repeat",
        "stack",
        "fake_quantize_per_tensor_affine",
        "clamp",
        "clamp_min",
        "hardtanh",
        "relu6",
        "adaptive_max_pool2d",
        "amax",
        "amin",
        "maximum",
        "minimum",
    }
)
"""Operators that move or compare values: no multiplication and no addition."""

VIEWS = frozenset(
    {
        "flatten.using_ints",
        "view",
        "reshape",
        "squeeze",
        "squeeze.dim",
        "squeeze.dims",
        "unsqueeze",
        "unflatten.int",
        "dropout",
        "feature_dropout",
        "alpha_dropout",
        "alias",
        "detach",
        "contiguous",
        "chunk",
        "split.Tensor",
        "split_with_sizes",
        "unbind.int",
    }
)
"""Operators whose output shares its input's memory."""

Shapes = dict[str, tuple[int, ...]]


def macs(node: Node, net: Net, shapes: Shapes) -> int:
    """Return a node's multiply-accumulates at batch 1."""

    def shape(argument: str) -> tuple[int, ...]:
        given = node.args[argument]
        return slot_shape(net.slot(given)) if isinstance(given, Slot) else shapes[given]

    out = math.prod(shapes[node.name]) if node.name in shapes else 0
    if node.op in CONVOLUTIONS:
        places = math.prod(shape("input")) if "transpose" in node.op else out
        return places * math.prod(shape("weight")[1:])
    if node.op == "linear":
        return out * shape("weight")[1]
    if node.op in ("matmul", "bmm", "mm", "addmm"):
        return out * shape("mat1" if node.op == "addmm" else "self")[-1]
    if node.op == "scaled_dot_product_attention":
        query, key = shape("query"), shape("key")
        return math.prod(query[:-1]) * key[-2] * (query[-1] + shape("value")[-1])
    return 0


def slot_shape(slot: nn.Module) -> tuple[int, ...]:
    """Return the shape of what a slot stores."""
    held = getattr(slot, "codes", getattr(slot, "value", None))
    assert held is not None
    return tuple(held.shape)


def stored_bits(slot: nn.Module) -> int:
    """Return a slot's stored width in bits, uncoded: codes at their width, steps and centroids at 32, a mask at 1."""
    size = math.prod(slot_shape(slot))
    if slot_form(slot) == "quantized":
        return size * int(slot.bits) + 32 * int(slot.step.numel())  # type: ignore[arg-type, operator]
    if isinstance(slot, Codebook):
        return size * slot.bits + 32 * slot.centroids.numel()
    nonzero = int((slot() != 0).sum())
    return 32 * nonzero + size if slot_form(slot) == "masked" else 32 * size


def slot_form(slot: nn.Module) -> str:
    """Return the form a slot is in: "" for plain float, else masked, quantized or shared."""
    return str(getattr(slot, "form", ""))


def is_parameter(slot: nn.Module, users: list[Node]) -> bool:
    """Whether a slot counts as parameters: anything but running statistics and constants."""
    return not isinstance(slot, Fixed) and bool(users)


def layers(net: Net) -> list[dict[str, Any]]:
    """Return a row for each node that computes or stores: name, op, output shape, params, nonzero, bits, zeros, macs."""
    shapes = net.shapes()
    rows, seen = [], set()
    for node in net.spec.nodes:
        own = [s for s in node.slots() if s not in seen and not isinstance(net.slot(s), Fixed)]
        seen.update(own)
        work = macs(node, net, shapes)
        if not own and not work:
            continue
        values = [net.slot(s) for s in own]
        weight = node.slot("weight")
        rows.append({
            "name": str(weight).removesuffix(".weight") if weight else node.name, "op": node.op, "slot": str(weight or ""),
            "shape": list(shapes.get(node.name, ())), "params": sum(math.prod(slot_shape(v)) for v in values),
            "nonzero": sum(int((v() != 0).sum()) for v in values), "width": weight_bits(node, net),
            "bits": sum(stored_bits(v) for v in values), "macs": work,
        })  # fmt: skip
    return rows


def weight_bits(node: Node, net: Net) -> int:
    """Return the width of the numbers a node multiplies by: codes at their width, float and codebooks at 32."""
    slot = node.slot("weight")
    held = net.slot(slot) if slot is not None else None
    return int(held.bits) if held is not None and slot_form(held) == "quantized" else 32


def activation_bits(node: Node, net: Net) -> int:
    """Return the width of the values that flow into a node: as its quantizer says, else 32."""
    source = node.args.get("input")
    if isinstance(source, Value):
        for maker in net.spec.nodes:
            if maker.name == source and maker.op == "fake_quantize_per_tensor_affine":
                return int(maker.args["quant_max"] - maker.args["quant_min"] + 1).bit_length() - 1
    return 32


def peak_bytes(net: Net, bytes_per_value: int = 4) -> int:
    """Return the largest sum of live activations over the schedule, in bytes: while a node runs, its inputs and output
    and all that is needed later are live. Views share their input's memory; nothing else is done in place.
    """
    shapes = net.shapes()
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    owner = _owners(net)
    for node in net.spec.nodes:
        if node.op == "getitem" and owner[node.name] not in shapes:
            sizes[owner[node.name]] = sizes.get(owner[node.name], 0) + sizes[node.name]
    last: dict[str, int] = {}
    for at, node in enumerate(net.spec.nodes):
        for value in [node.name, *node.values()]:
            last[owner[value]] = at
    for value in references(net.spec.output):
        last[owner[value]] = len(net.spec.nodes)
    live = {name for name, _ in net.spec.inputs}
    most = sum(sizes[name] for name in live)
    for at, node in enumerate(net.spec.nodes):
        live.add(owner[node.name])
        most = max(most, sum(sizes.get(name, 0) for name in live))
        live = {name for name in live if last.get(name, -1) > at}
    return most * bytes_per_value


def _owners(net: Net) -> dict[str, str]:
    """Return {value: the value whose memory it is in}. A tuple of tensors holds its parts; a size has no memory."""
    owner: dict[str, str] = {name: name for name, _ in net.spec.inputs}
    for node in net.spec.nodes:
        sources = node.values()
        owner[node.name] = owner[sources[0]] if sources and node.op in {*VIEWS, "getitem"} else node.name
    return owner


def count(net: Net) -> Cost:
    """Return the network's counted cost; `bops` is MACs × weight bits × activation bits."""
    shapes = net.shapes()
    by_bits: dict[str, int] = {}
    bops = 0
    for node in net.spec.nodes:
        if work := macs(node, net, shapes):
            weight, activation = weight_bits(node, net), activation_bits(node, net)
            key = f"w{weight}a{activation}"
            by_bits[key] = by_bits.get(key, 0) + work
            bops += work * weight * activation
    stored = [net.slot(name) for name, users in net.spec.slot_users().items() if is_parameter(net.slot(name), users)]
    uncounted = sorted(
        {n.op for n in net.spec.nodes if n.op not in FREE and n.op not in WEIGHTED and not macs(n, net, shapes)}
    )
    return Cost(
        params=sum(math.prod(slot_shape(s)) for s in stored), nonzero=sum(int((s() != 0).sum()) for s in stored),
        bits=sum(stored_bits(s) for s in stored), macs=sum(by_bits.values()), bops=bops, ram_bytes=peak_bytes(net),
        macs_by_bits=by_bits, uncounted=tuple(uncounted),
    )  # fmt: skip
