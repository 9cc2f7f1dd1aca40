"""Activation memory over the schedule: which tensors are alive while each node runs, and the most they take.

While a node runs, its inputs, its outputs and all that is read later are alive. Views share their input's memory.
How much is done in place is a choice:

- "none": every operator that is not a view fills new memory.
- "pointwise": activations, normalisations and elementwise arithmetic overwrite an input of the same size that nobody
  reads later; an activation after a convolution so costs nothing. The network's own inputs stay the caller's.
- "depthwise": depthwise convolutions too; the output takes the input's place channel by channel, with one output
  channel beside it (MCUNet's in-place depthwise: N + 1 maps instead of 2 N).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from paredown.core.errors import BadInput
from paredown.cost.arithmetic import Shapes, counted, slot_shape
from paredown.cost.operators.moves import VIEWS
from paredown.graph.net import Net
from paredown.graph.spec import Node, Slot, Value, references

INPLACE = ("none", "pointwise", "depthwise")
POINTWISE = frozenset({"activation", "normalisation", "elementwise"})
_ALONE = frozenset({"softmax.int", "log_softmax.int"})
"""Operators that are called activations but read more than one value for each that they write."""

QUANTIZERS = frozenset({"fake_quantize_per_tensor_affine", "_fake_quantize_learnable_per_tensor_affine"})


@dataclass(frozen=True)
class Moment:
    """The memory while one node runs: bytes in all, and bytes of each live tensor by the value that made it."""

    node: str
    bytes: int
    live: Mapping[str, int]


@dataclass
class _Buffers:
    """Which memory each value is in, how large it is, and until when it is read."""

    owner: dict[str, str]
    size: dict[str, int]
    last: dict[str, int]
    taken: dict[str, str] = field(default_factory=dict)
    """Memory that an operator in place took over, and whose it was."""

    def of(self, value: str) -> str:
        """Return the memory that a value is in."""
        found = self.owner[value]
        while found in self.taken:
            found = self.taken[found]
        return found


def peak_bytes(net: Net, bytes_per_value: float = 4, inplace: str = "none") -> int:
    """Return the largest sum of live activations over the schedule, in bytes, for one sample.

    bytes_per_value: of the values that no quantizer gives a width. inplace: one of INPLACE. Raises BadInput.
    """
    return max((moment.bytes for moment in timeline(net, bytes_per_value, inplace)), default=0)


def timeline(net: Net, bytes_per_value: float = 4, inplace: str = "none") -> tuple[Moment, ...]:
    """Return the live memory before the first node and while each node runs. Raises BadInput."""
    if inplace not in INPLACE:
        raise BadInput(f"in-place level {inplace!r} is unknown; allowed: {', '.join(INPLACE)}")
    shapes = net.shapes()
    buffers = _buffers(net, _sizes(net, shapes, bytes_per_value))
    live = {name for name, _ in net.spec.inputs}
    moments = [_moment("", live, buffers)]
    for at, node in enumerate(net.spec.nodes):
        extra = _merge(net, node, at, buffers, shapes) if _may(net, node, shapes, inplace) else 0
        live = {buffers.of(name) for name in [*live, node.name]}
        moments.append(_moment(node.name, live, buffers, extra))
        live = {name for name in live if buffers.last.get(name, -1) > at}
    return tuple(moments)


def activations(net: Net) -> int:
    """Return the number of values in all tensors that are made, the inputs too, pointwise operators working in place."""
    shapes = net.shapes()
    buffers = _buffers(net, _sizes(net, shapes, 1, quantized=False))
    for at, node in enumerate(net.spec.nodes):
        if _may(net, node, shapes, "pointwise"):
            _merge(net, node, at, buffers, shapes)
    return sum(buffers.size.get(name, 0) for name in {buffers.of(value) for value in buffers.owner})


def value_bits(net: Net) -> dict[str, int]:
    """Return the width of every value that a quantizer decides; the others are float.

    A quantizer's output has its width, and so has what only moves, compares or picks it, or shifts it by a number. A
    tensor that is only read by quantizers, through pointwise operators or not, is written in their width at once.
    """
    widths: dict[str, int] = {}
    for node in net.spec.nodes:
        sources = [widths.get(value, 0) for value in node.values()]
        if node.op in QUANTIZERS:
            widths[node.name] = int(node.get("quant_max") - node.get("quant_min") + 1).bit_length() - 1
        elif sources and all(sources) and _keeps_codes(node):
            widths[node.name] = max(sources)
    kept = {str(value) for value in references(net.spec.output)}
    readers: dict[str, list[Node]] = {}
    for node in net.spec.nodes:
        for value in node.values():
            readers.setdefault(value, []).append(node)
    for node in reversed(net.spec.nodes):
        users = readers.get(node.name, [])
        if node.name not in widths and node.name not in kept and users and all(_passes(u, widths) for u in users):
            widths[node.name] = max(widths[user.name] for user in users)
    return widths


def _passes(node: Node, widths: Mapping[str, int]) -> bool:
    return node.name in widths and (node.op in QUANTIZERS or _pointwise(node))


def _keeps_codes(node: Node) -> bool:
    operator = counted().get(node.op)
    return operator is not None and (
        operator.kind == "data"
        or node.op.startswith(("max_pool", "adaptive_max"))
        or node.op in ("relu", "amax", "amin")
        or (node.op in ("add.Tensor", "sub.Tensor") and not isinstance(node.args["other"], Value | Slot))
    )


def _pointwise(node: Node) -> bool:
    operator = counted().get(node.op)
    return operator is not None and operator.kind in POINTWISE and node.op not in _ALONE


def _sizes(net: Net, shapes: Shapes, bytes_per_value: float, quantized: bool = True) -> dict[str, int]:
    widths = value_bits(net) if quantized else {}
    sizes = {
        name: math.ceil(math.prod(shape) * (widths[name] / 8 if name in widths else bytes_per_value))
        for name, shape in shapes.items()
    }
    for node in net.spec.nodes:  # an operator with several outputs holds them all
        whole = str(node.args.get("self"))
        if node.op == "getitem" and whole not in shapes:
            sizes[whole] = sizes.get(whole, 0) + sizes[node.name]
    return sizes


def _buffers(net: Net, sizes: dict[str, int]) -> _Buffers:
    owner: dict[str, str] = {name: name for name, _ in net.spec.inputs}
    last: dict[str, int] = {}
    for at, node in enumerate(net.spec.nodes):
        sources = node.values()
        owner[node.name] = owner[sources[0]] if sources and node.op in VIEWS else node.name
        for value in [node.name, *sources]:
            last[owner[value]] = at
    for value in references(net.spec.output):
        last[owner[value]] = len(net.spec.nodes)
    return _Buffers(owner, sizes, last)


def _may(net: Net, node: Node, shapes: Shapes, inplace: str) -> bool:
    if inplace == "none" or node.name not in shapes:
        return False
    return _pointwise(node) or (inplace == "depthwise" and _depthwise(net, node, shapes))


def _depthwise(net: Net, node: Node, shapes: Shapes) -> bool:
    weight = node.slot("weight") if node.op in ("conv1d", "conv2d", "conv3d") else None
    if weight is None:
        return False
    channels = shapes[node.values()[0]][1]
    return channels > 1 and node.get("groups") == channels == slot_shape(net.slot(weight))[0]


def _merge(net: Net, node: Node, at: int, buffers: _Buffers, shapes: Shapes) -> int:
    """Put a node's output into the memory of an input that dies here, if it fits. Return the bytes needed beside it."""
    own = buffers.of(node.name)
    caller = {name for name, _ in net.spec.inputs}
    for value in _dying(node, at, buffers):
        into = buffers.of(value)
        if into in caller or buffers.size.get(own, 0) > buffers.size.get(into, 0):
            continue
        if _pointwise(node) and math.prod(shapes[value]) != math.prod(shapes[node.name]):
            continue
        buffers.taken[own] = into
        buffers.last[into] = buffers.last[own]
        return 0 if _pointwise(node) else buffers.size[own] // shapes[node.name][1]
    return 0


def _dying(node: Node, at: int, buffers: _Buffers) -> Iterator[str]:
    for value in node.values():
        if buffers.last[buffers.of(value)] == at:
            yield value


def _moment(node: str, live: set[str], buffers: _Buffers, extra: int = 0) -> Moment:
    sizes = {name: buffers.size[name] for name in sorted(live) if buffers.size.get(name)}
    return Moment(node, sum(sizes.values()) + extra, {**sizes, **({f"{node} beside": extra} if extra else {})})
