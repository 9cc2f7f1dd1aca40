"""Labels through layers that make, read or keep channels: convolutions, norms, elementwise operators, reductions."""

from typing import Any

import numpy as np

from paredown.graph.flow import Axes, Axis, Flow, rule
from paredown.graph.labels import Track
from paredown.graph.ops import CONVOLUTIONS
from paredown.graph.rules_product import multiplied
from paredown.graph.spec import Node, Slot

ALONE = (
    "relu", "relu6", "hardtanh", "clamp", "clamp_min", "hardswish", "hardsigmoid", "sigmoid", "silu", "gelu", "tanh",
    "leaky_relu", "elu", "selu", "mish", "softplus", "neg", "abs", "square", "sqrt", "rsqrt", "exp", "log",
    "pow.Tensor_Scalar", "rsub.Scalar", "dropout", "feature_dropout", "alpha_dropout", "to.dtype", "zeros_like",
    "ones_like", "fake_quantize_per_tensor_affine",
)  # fmt: skip
"""Operators that change every position by itself."""

POOLED = {
    "max_pool1d": 1, "max_pool2d": 2, "max_pool3d": 3, "avg_pool1d": 1, "avg_pool2d": 2, "avg_pool3d": 3,
    "adaptive_avg_pool1d": 1, "adaptive_avg_pool2d": 2, "adaptive_max_pool2d": 2, "upsample_nearest2d.vec": 2,
    "upsample_bilinear2d.vec": 2, "upsample_bicubic2d.vec": 2,
}  # fmt: skip
"""Operators that work on each channel by itself, and how many last dimensions they mix."""


def _main(flow: Flow, node: Node) -> Track | None:
    return flow.track(node.args.get("self", node.args.get("input")))


def _shape(flow: Flow, node: Node) -> tuple[int, ...]:
    return flow.shapes[node.name]


@rule(*ALONE)
def _alone(flow: Flow, node: Node) -> Track | None:
    return _main(flow, node)


@rule("add.Tensor", "sub.Tensor", "mul.Tensor", "div.Tensor", "maximum", "minimum")
def _meet(flow: Flow, node: Node) -> Track | None:
    leaves = [node.args["self"], node.args["other"]]
    tracks = [flow.track(leaf) for leaf in leaves if not _wide(flow, leaf)]
    out = [_aligned(track, _shape(flow, node)) for track in tracks if track is not None]
    if not out:
        return flow.stop(node, "computes with stored tensors only") if node.slots() else None
    met = out[0] if len(out) == 1 else _merged(flow, node, *out)
    for leaf in leaves:
        if _wide(flow, leaf):
            met = _scaled(flow, node, met, leaf)
    return met


def _wide(flow: Flow, leaf: Any) -> bool:
    return isinstance(leaf, Slot) and sum(size > 1 for size in flow.slot_shape(leaf)) > 1


def _aligned(track: Track, out: tuple[int, ...]) -> Track:
    lead = len(out) - len(track.shape)
    return track.reshaped((1,) * lead + track.shape, None if track.dim is None else track.dim + lead)


def _merged(flow: Flow, node: Node, first: Track, second: Track) -> Track:
    """Tie the channels of two values that meet; a value that is stretched over the other's channels must stay."""
    if first.dim is None:
        first, second = second, first
    if first.dim is None:
        return first.reshaped(_shape(flow, node), None)
    if second.dim not in (None, first.dim):
        return flow.stop(node, "crosses channels of two dimensions")
    made, (a, b) = _shape(flow, node), (first.shape[first.dim], second.shape[first.dim])
    if a == b:
        flow.labels.tie(first.labels, second.labels)
    stretched, kept = (second, first) if a >= b else (first, second)
    if a != b:
        flow.labels.freeze(stretched.labels, f"{node.op} at {node.name} stretches it over other channels")
    return kept.reshaped(made, kept.dim)


def _scaled(flow: Flow, node: Node, met: Track, slot: Slot) -> Track:
    """Tie a stored tensor of several long dimensions to the value it meets, along that value's channels."""
    shape = flow.slot_shape(slot)
    at = None if met.dim is None else met.dim - len(_shape(flow, node)) + len(shape)
    fits = at is not None and at >= 0 and met.dim is not None and shape[at] == met.shape[met.dim] > 1
    why = f"{node.op} at {node.name} meets all of {slot}"
    for dim in range(len(shape)):
        if fits and dim == at:
            flow.labels.tie(met.labels, flow.axis((str(slot), dim)))
        else:
            flow.labels.freeze(flow.axis((str(slot), dim)), why)
    if not fits and (at is None or at >= 0) and any(size > 1 for size in shape):
        flow.labels.freeze(met.labels, why)
    return met.reshaped(_shape(flow, node), met.dim)


@rule(*POOLED)
def _pooled(flow: Flow, node: Node) -> Track:
    track, made = _main(flow, node), _shape(flow, node)
    if track is None or (track.dim is not None and track.dim >= len(made) - POOLED[node.op]):
        return flow.stop(node, "mixes positions along the channels")
    return track.reshaped(made, track.dim)


@rule("mean", "mean.dim", "sum.dim_IntList", "amax", "amin", "linalg_vector_norm")
def _reduced(flow: Flow, node: Node) -> Track:
    track, made = _main(flow, node), _shape(flow, node)
    dims = node.args.get("dim")
    count = 0 if track is None else len(track.shape)
    gone = {d % count for d in ([dims] if isinstance(dims, int) else dims or range(count))} if count else set()
    if track is not None and track.dim in gone and node.op == "mean.dim":
        return flow.neutral(made)
    if track is None or track.dim in gone:
        return flow.stop(node, "reduces over channels")
    keep = node.op != "mean" and node.get("keepdim")
    dim = track.dim if track.dim is None or keep else track.dim - sum(d < track.dim for d in gone)
    return track.reshaped(made, dim)


@rule("softmax.int", "log_softmax.int", "cumsum")
def _along(flow: Flow, node: Node) -> Track:
    track = _main(flow, node)
    if track is None or track.dim == node.args["dim"] % len(track.shape):
        return flow.stop(node, "works across channels")
    return track


@rule(*CONVOLUTIONS)
def _convolved(flow: Flow, node: Node) -> Track:
    track, weight = _main(flow, node), flow.matrix(node.args["weight"])
    if track is None or weight is None:
        return flow.stop(node, "has a computed weight (edit.store_weights makes it a stored one)")
    made = _shape(flow, node)
    dim = len(made) - len(weight.keys) + 1
    groups, transposed = node.get("groups"), node.op.startswith("conv_transpose")
    out_key, in_key = (weight.keys[1], weight.keys[0]) if transposed else (weight.keys[0], weight.keys[1])
    if groups == 1:
        flow.bind(track, dim, in_key, f"{node.name} reads along another dimension")
        flow.readers.setdefault(in_key, []).append(node.name)
        labels = flow.axis(out_key)
    else:
        if track.dim not in (dim, None):
            flow.labels.freeze(track.labels, f"{node.name} reads along another dimension")
        reads = track.labels if track.dim == dim else np.repeat(track.labels[:1], track.shape[dim])
        labels, out_key = _grouped(flow, weight, (reads, groups), transposed)
    flow.makers.setdefault(out_key, []).append(node.name)
    _tie_slots(flow, node, labels, ("bias",))
    return Track(made, dim, labels)


def _grouped(flow: Flow, weight: Axes, reads: tuple[np.ndarray, int], transposed: bool) -> tuple[np.ndarray, Axis]:
    """Tie a grouped convolution so that plain slices remain possible: whole groups, or the same place in each group."""
    ins, groups = reads[0].reshape(reads[1], -1), reads[1]
    outer, inner = flow.axis(weight.keys[0]), flow.axis(weight.keys[1])
    rows = outer.reshape(groups, -1)
    if groups >= ins.shape[1]:
        flow.labels.freeze(inner, f"{weight.keys[1][0]} is cut by whole groups")
        flow.labels.tie(rows, rows[:, :1])
        flow.labels.tie(ins, rows[:, :1])
        made = np.repeat(rows[:, 0], len(inner)) if transposed else outer
        return made, weight.keys[0]
    flow.labels.tie(rows, rows[:1])
    flow.labels.tie(ins, ins[:1])
    flow.labels.tie(ins[0], rows[0] if transposed else inner)
    flow.readers.setdefault(weight.keys[0] if transposed else weight.keys[1], [])
    return (np.tile(inner, groups), weight.keys[1]) if transposed else (outer, weight.keys[0])


def _tie_slots(flow: Flow, node: Node, labels: np.ndarray, names: tuple[str, ...]) -> None:
    """Tie one-dimensional slots (bias, norm's scale) to channel labels; a computed one freezes them."""
    for name in names:
        leaf = node.args.get(name)
        if isinstance(leaf, Slot):
            flow.labels.tie(labels, flow.axis((str(leaf), 0)))
        elif leaf is not None:
            flow.hold(leaf, f"{node.name} computes with it")
            flow.labels.freeze(labels, f"the {name} of {node.name} is computed")


@rule("linear")
def _linear(flow: Flow, node: Node) -> Track:
    return _product(flow, node, node.args["input"], node.args["weight"], transposed=False)


@rule("matmul", "mm", "addmm")
def _matmul(flow: Flow, node: Node) -> Track:
    if node.op == "addmm":
        track = _product(flow, node, node.args["mat1"], node.args["mat2"], transposed=True)
        _tie_slots(flow, node, track.labels, ("self",))
        return track
    return _product(flow, node, node.args["self"], node.args["mat2" if node.op == "mm" else "other"], transposed=True)


def _product(flow: Flow, node: Node, value: Any, matrix: Any, transposed: bool) -> Track:
    weight = flow.matrix(matrix)
    if weight is None and node.op in ("matmul", "mm"):
        return multiplied(flow, node, value, matrix)
    track = flow.track(value)
    if weight is None or track is None or len(weight.keys) != 2:
        return flow.stop(node, "multiplies what cannot be followed")
    out_key, in_key = weight.keys[::-1] if transposed else weight.keys
    if track.dim is not None and track.dim < len(track.shape) - 1:
        return _along_others(flow, node, track)
    flow.bind(track, len(track.shape) - 1, in_key, f"{node.name} reads along another dimension")
    flow.readers.setdefault(in_key, []).append(node.name)
    flow.makers.setdefault(out_key, []).append(node.name)
    labels = flow.axis(out_key)
    _tie_slots(flow, node, labels, ("bias",))
    made = _shape(flow, node)
    return Track(made, len(made) - 1, labels)


def _along_others(flow: Flow, node: Node, track: Track) -> Track:
    """Let channels pass that a product leaves apart, because it is over another dimension (a mixer's tokens)."""
    for leaf in node.slots():
        flow.hold(leaf, f"{node.op} at {node.name} is over positions")
    return track.reshaped(_shape(flow, node), track.dim)


@rule("embedding")
def _embedding(flow: Flow, node: Node) -> Track:
    weight = flow.matrix(node.args["weight"])
    if weight is None:
        return flow.stop(node, "has a computed table")
    flow.labels.freeze(flow.axis(weight.keys[0]), f"{node.name} looks entries up by number")
    flow.makers.setdefault(weight.keys[1], []).append(node.name)
    made = _shape(flow, node)
    return Track(made, len(made) - 1, flow.axis(weight.keys[1]))


@rule("batch_norm", "instance_norm")
def _normed(flow: Flow, node: Node) -> Track:
    track = _main(flow, node)
    names = ("weight", "bias", "running_mean", "running_var")
    if track is None or track.dim not in (1, None):
        return flow.stop(node, "normalises along another dimension")
    _tie_slots(flow, node, track.labels, names)
    return track


@rule("group_norm")
def _group_normed(flow: Flow, node: Node) -> Track:
    track = _main(flow, node)
    if track is None or track.dim not in (1, None):
        return flow.stop(node, "normalises along another dimension")
    if track.dim == 1 and node.args["num_groups"] > 1:
        for group in track.labels.reshape(node.args["num_groups"], -1):
            flow.labels.tie_all(group)
    _tie_slots(flow, node, track.labels, ("weight", "bias"))
    return track


@rule("layer_norm", "rms_norm")
def _layer_normed(flow: Flow, node: Node) -> Track:
    track = _main(flow, node)
    first = 0 if track is None else len(track.shape) - len(node.args["normalized_shape"])
    if track is None or (track.dim is None and len(node.args["normalized_shape"]) > 1):
        return flow.stop(node, "takes its statistics over what cannot be followed")
    for leaf in node.slots():
        if track.dim is not None and track.dim < first:
            flow.hold(leaf, f"{node.name} scales positions, not channels")
        else:
            dim = len(track.shape) - 1 if track.dim is None else track.dim
            flow.labels.tie(track.labels, flow.axis((str(leaf), dim - first)))
    return track


@rule("prelu")
def _prelu(flow: Flow, node: Node) -> Track:
    track, weight = _main(flow, node), node.args["weight"]
    if track is None or not isinstance(weight, Slot):
        return flow.stop(node, "has a computed slope")
    if len(flow.axis((str(weight), 0))) == 1:
        flow.hold(weight, f"{node.name} has one slope for all channels")
    elif track.dim in (1, None):
        _tie_slots(flow, node, track.labels, ("weight",))
    else:
        return flow.stop(node, "has its slopes along another dimension")
    return track
