"""DCASE's counters: NeSsi for multiply-accumulates (2022 on), and the sizes that the limits of each year are on.

NeSsi counts the window of a max pooling, one MAC an element, and two a channel for a batch norm; biases of
convolutions and activations are free. In the 2022 baseline it booked a dense layer behind a flatten with the last
dimension of what was flattened, not with all of it; `quirk` does the same.
"""

import math
from collections.abc import Callable

from torch import nn

from paredown.cost.arithmetic import Call, held_params, stored_entries
from paredown.graph.net import Net
from paredown.graph.ops import CONVOLUTIONS
from paredown.graph.slots import Codebook, Fixed
from paredown.graph.vectors import Hashed, VectorCodebook

NORMS = frozenset({"batch_norm", "instance_norm", "group_norm", "layer_norm"})
FLATTENS = frozenset({"flatten.using_ints", "view", "reshape"})


def convolution(kernel: tuple[int, ...], inside: int, places: int, outside: int) -> int:
    """Return the MACs of a convolution; `inside` is 1 for a depthwise one. Its bias is free."""
    return math.prod(kernel) * inside * places * outside


def max_pool(window: int, outputs: int) -> int:
    """Return the MACs booked for a max pooling: each element of each window."""
    return window * outputs


def dense(inside: int, outside: int) -> int:
    """Return the MACs of a dense layer. Its bias is free."""
    return inside * outside


def batch_norm(channels: int) -> int:
    """Return the MACs booked for a batch norm: its scale and its shift once a channel, wherever it is applied."""
    return 2 * channels


def count(net: Net, quirk: bool = False) -> dict[str, int]:
    """Return {node: MACs for one sample} of the nodes that have any.

    quirk: a dense layer behind a flatten counts the channels of what was flattened alone, as in the 2022 baseline.
    """
    shapes, found = net.shapes(), dict[str, int]()
    flattened = {n.name: n for n in net.spec.nodes if quirk and n.op in FLATTENS}
    for node in net.spec.nodes:
        call = Call(node, net, shapes)
        if node.op == "linear":
            behind = flattened.get(node.args["input"])
            inside = shapes[behind.args["self"]][1] if behind else call.shape("weight")[1]
            found[node.name] = dense(inside, call.outputs)
        elif node.op in _RULES:
            found[node.name] = _RULES[node.op](call)
    return {name: macs for name, macs in found.items() if macs}


def _convolution(call: Call) -> int:
    weight = call.shape("weight")
    places = call.size("input") // weight[0] if "transpose" in call.node.op else call.outputs // weight[0]
    return convolution(weight[2:], weight[1], places, weight[0])


def _max_pool(call: Call) -> int:
    kernel, dims = call.get("kernel_size"), int(call.node.op[-2])
    sides = [kernel] * dims if isinstance(kernel, int) else list(kernel) * (dims if len(kernel) == 1 else 1)
    return max_pool(math.prod(sides), call.outputs)


def _norm(call: Call) -> int:
    return batch_norm(call.size("weight")) if call.has("weight") else 0


_RULES: dict[str, Callable[[Call], int]] = {
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), _max_pool),
    **dict.fromkeys(NORMS, _norm),
}


def params(net: Net) -> int:
    """Return the number of parameters, zeros included; running statistics are none (2022 on)."""
    return sum(held_params(net.slot(name)) for name in net.slot_names() if _counts(net, name))


def weight_bits(net: Net) -> int:
    """Return the width in bits that the widest weight of a layer is held in; biases may be wider (2022)."""
    return max((int(getattr(net.slot(name), "bits", 32)) for name, _ in net.weighted()), default=0)


def param_bytes(net: Net) -> int:
    """Return the bytes of all parameters at the width they are held in, zeros included (2023 on).

    Codes take whole bytes, as the data types of the frameworks do. A codebook's centroids are parameters too; steps are
    not: the 2022 baseline's 46,512 bytes are its integer weights and biases alone.
    """
    return sum(_bytes(net.slot(name)) for name in net.slot_names() if _counts(net, name))


def nonzero_bytes(net: Net) -> int:
    """Return the bytes of the nonzero parameters at the width they are held in; batch norms are left out (2020, 2021)."""
    norms = {str(slot) for node in net.spec.nodes if node.op in NORMS for slot in node.slots()}
    return sum(_nonzero_bytes(net.slot(name)) for name in net.slot_names() if _counts(net, name) and name not in norms)


def _counts(net: Net, name: str) -> bool:
    return not isinstance(net.slot(name), Fixed)


def _item(slot: nn.Module) -> int:
    """Return the bytes of one held value: 4 for float, 1 or 2 for codes."""
    bits = int(getattr(slot, "bits", 32))
    return 1 if bits <= 8 else 2 if bits <= 16 else 4


def _centroids(slot: nn.Module) -> int:
    return 4 * slot.centroids.numel() if isinstance(slot, Codebook | VectorCodebook) else 0


def _bytes(slot: nn.Module) -> int:
    return stored_entries(slot) * _item(slot) + _centroids(slot)


def _nonzero_bytes(slot: nn.Module) -> int:
    if isinstance(slot, VectorCodebook | Hashed):
        return _bytes(slot)
    return int(slot().count_nonzero()) * _item(slot) + _centroids(slot)
