"""Weights that a network computes from stored ones (standardised, scaled), stored as they come out in the finished network."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from paredown.graph.capture import live
from paredown.graph.frozen import Frozen, Plain, Stored
from paredown.graph.net import Net
from paredown.graph.slots import Fixed, Free
from paredown.graph.spec import Node, Slot, Spec, Value, mapped, references

_KEPT = frozenset({"zeros", "fake_quantize_per_tensor_affine", "_fake_quantize_learnable_per_tensor_affine"})
"""Operators whose results are not stored: zeros are none's weights, and levels are told by their quantizer."""

_MOVES = frozenset({
    "view", "reshape", "flatten.using_ints", "unflatten.int", "t", "transpose.int", "permute", "expand", "repeat",
    "squeeze", "squeeze.dim", "squeeze.dims", "unsqueeze", "cat", "stack", "chunk", "split.Tensor", "split_with_sizes",
    "unbind.int", "getitem", "slice.Tensor", "narrow", "select.int", "index_select", "embedding", "flip", "roll", "pad",
    "to.dtype", "sym_size.int",
})  # fmt: skip
"""Operators that compute nothing: what they make of a stored tensor is as well made when it is used."""


def without_computed(frozen: Frozen, net: Net) -> Frozen:
    """Return the network with values that depend on no input stored where they were computed. `net` stays as it is.

    A value is stored where the file takes no more room by it, so that low-bit codes, masks, tables that are looked up and
    tied weights stay what they are. Whatever the room, it is where a norm on the way takes its statistics of stored
    tensors, which no file can say: codes behind it become floats. What the network computes does not change.
    """
    constant = _constant(frozen.spec)
    read = {value for node in frozen.spec.nodes if node.name not in constant for value in node.values()}
    ends = [name for name in constant if name in read and not _kinds(constant, name) <= _MOVES]
    for name, value in _values(frozen.spec, net, constant, ends).items():
        frozen = _stored_at(frozen, name, value, whatever=_measured(constant, name))
    return frozen


def with_stored_weights(net: Net) -> tuple[Net, list[str]]:
    """Return a copy in which weights that layers compute from stored tensors are stored as they come out, and their names.

    What the network computes does not change; training then moves the weight itself, no longer what it was computed from.
    Weights that are only moved (transposed, reshaped) stay what they are. A tensor that nothing else reads lends its name.
    """
    constant = _constant(net.spec)
    read = {str(node.args["weight"]) for node in net.spec.nodes if isinstance(node.args.get("weight"), Value)}
    ends = [name for name in constant if name in read and not _kinds(constant, name) <= _MOVES]
    out, names = net.copy(), []
    for name, value in _values(net.spec, net, constant, ends).items():
        before, spec = out.spec.slot_users(), _reading(out.spec, name, name)
        gone = [old for old in before if old not in spec.slot_users() and not isinstance(out.slot(old), Fixed)]
        slot = max(gone, key=lambda old: out.slot(old)().numel()) if gone else name
        out.set_slot(slot, Free(value.to(out.dtype)))
        out.rewire(_reading(out.spec, name, slot))
        names.append(slot)
    return out, names


def _constant(spec: Spec) -> dict[str, Node]:
    """Return the nodes that depend on slots alone, but those that the network returns."""
    returned, found = set(references(spec.output)), {}
    for node in spec.nodes:
        able = node.op not in _KEPT and (node.slots() or node.values()) and Value(node.name) not in returned
        if able and all(value in found for value in node.values()):
            found[node.name] = node
    return found


def _before(constant: Mapping[str, Node], name: str) -> dict[str, Node]:
    """Return the nodes that a constant value depends on, itself included."""
    found, open_ = {name: constant[name]}, [constant[name]]
    while open_:
        fresh = [value for value in open_.pop().values() if value not in found]
        found.update((value, constant[value]) for value in fresh)
        open_.extend(constant[value] for value in fresh)
    return found


def _kinds(constant: Mapping[str, Node], name: str) -> set[str]:
    return {node.op for node in _before(constant, name).values()}


def _measured(constant: Mapping[str, Node], name: str) -> bool:
    """Return whether a norm on the way to a constant value keeps no statistics of its own."""
    return any("running_mean" in n.args and n.args["running_mean"] is None for n in _before(constant, name).values())


@torch.no_grad()
def _values(spec: Spec, net: Net, constant: Mapping[str, Node], ends: list[str]) -> dict[str, Tensor]:
    """Return {name: the tensor that this constant node computes} of those that compute one."""
    if not ends:
        return {}
    part = Spec(spec.inputs[:1], tuple(constant.values()), [Value(name) for name in ends])
    small = Net(part, {slot: net.slot(slot) for slot in part.slot_users()})
    small.training = False  # not eval(): the slots are the network's own, and keep their mode
    return {
        name: value.cpu() for name, value in zip(ends, small(torch.zeros(1)), strict=True) if isinstance(value, Tensor)
    }


def _stored_at(frozen: Frozen, name: str, value: Tensor, whatever: bool) -> Frozen:
    """Return the network with a value stored in the place of the node `name`, or as it was; see `without_computed`."""
    held = Plain((value.float() if value.is_floating_point() else value).contiguous().numpy())
    before, spec = frozen.spec.slot_users(), _reading(frozen.spec, name, slot := _free_name(frozen, name))
    gone = [old for old in before if old not in spec.slot_users()]
    if not whatever and _room(held) > sum(_room(frozen.tensors[old]) for old in gone):
        return frozen
    if gone:  # the weight that the value was computed from, mostly, lends it its name
        slot = max(gone, key=lambda old: np.prod(frozen.tensors[old].shape))
        spec = _reading(frozen.spec, name, slot)
    return Frozen(spec, {**{old: stored for old, stored in frozen.tensors.items() if old not in gone}, slot: held})


def _reading(spec: Spec, name: str, slot: str) -> Spec:
    """Return the architecture with a slot read in the place of a value, without the nodes that nothing reads then."""

    def change(leaf: object) -> object:
        return Slot(slot) if type(leaf) is Value and leaf == name else leaf

    nodes = [Node(node.name, node.op, mapped(node.args, change)) for node in spec.nodes]
    return Spec(spec.inputs, live(nodes, spec.output), spec.output)


def _free_name(frozen: Frozen, name: str) -> str:
    while name in frozen.tensors:
        name += "_"
    return name


def _room(stored: Stored) -> int:
    """Return roughly what a tensor takes in a file, in bytes: zeros of plain values take nothing."""
    if isinstance(stored, Plain):
        return int(np.count_nonzero(stored.array)) * stored.array.itemsize
    return sum(array.nbytes for array in vars(stored).values() if isinstance(array, np.ndarray))
