"""ATen operators that move, join and reduce values, as ONNX operators; one small function each. Needs no torch."""

import math
from typing import Any

import numpy as np

from paredown.core.errors import BadInput
from paredown.graph.spec import Node
from paredown.targets.onnx_graph import Graph, lowers


@lowers("mean", "sum", "mean.dim", "sum.dim_IntList", "amax", "amin")
def reduced(g: Graph, node: Node) -> str:
    kind = {
        "mean": "ReduceMean",
        "sum": "ReduceSum",
        "mean.dim": "ReduceMean",
        "sum.dim_IntList": "ReduceSum",
        "amax": "ReduceMax",
        "amin": "ReduceMin",
    }[node.op]
    dims, all_of_it = node.args.get("dim"), node.op in ("mean", "sum")
    axes = [g.ints(*dims)] if dims and not all_of_it else []
    return g.emit(kind, g.name(node.args["self"]), *axes, keepdims=0 if all_of_it else int(node.get("keepdim")))


@lowers("linalg_vector_norm")
def norm(g: Graph, node: Node) -> str:
    if node.get("ord") not in (1, 2):
        raise BadInput(f"a norm of order {node.get('ord')} cannot be written; allowed: 1 and 2")
    dims = node.get("dim")
    axes = [g.ints(*([dims] if isinstance(dims, int) else dims))] if dims is not None else []
    kind = "ReduceL2" if node.get("ord") == 2 else "ReduceL1"
    return g.emit(kind, g.name(node.args["self"]), *axes, keepdims=int(node.get("keepdim")))


@lowers("cumsum")
def summed_up(g: Graph, node: Node) -> str:
    return g.emit("CumSum", g.name(node.args["self"]), g.keep(np.array(node.args["dim"], dtype=np.int64)))


@lowers("to.dtype")
def retyped(g: Graph, node: Node) -> str:
    if node.args["dtype"] != "torch.float32":
        raise BadInput(f"a change to {node.args['dtype']} cannot be written; allowed: torch.float32")
    return g.emit("Cast", g.name(node.args["self"]), to=1)


@lowers("flatten.using_ints")
def flatten(g: Graph, node: Node) -> str:
    shape = g.shape(node.args["self"])
    start, end = node.get("start_dim") % len(shape), node.get("end_dim") % len(shape)
    return g.emit("Reshape", g.name(node.args["self"]), g.ints(*[0] * start, -1, *shape[end + 1 :]))


@lowers("view", "reshape")
def reshaped(g: Graph, node: Node) -> str:
    """A size taken from the batch becomes -1, the one that is left open; the others are worked out at batch 1."""
    given = list(node.args["size" if node.op == "view" else "shape"])
    sizes = [s if isinstance(s, int) else g.names[s] for s in given]
    free = [at for at, size in enumerate(given) if not isinstance(size, int)]
    if len(free) > 1:
        raise BadInput(f"{node.op} at {node.name} has the batch in {len(free)} places")
    if free:
        rest = math.prod(g.shape(node.args["self"])) // math.prod(s for s in sizes if s != -1)
        sizes = [-1 if at in free else rest if s == -1 else s for at, s in enumerate(sizes)]
    return g.emit("Reshape", g.name(node.args["self"]), g.ints(*sizes))


@lowers("unflatten.int")
def unflattened(g: Graph, node: Node) -> str:
    shape, dim = g.shape(node.args["self"]), node.args["dim"] % g.rank(node.args["self"])
    return g.emit("Reshape", g.name(node.args["self"]), g.ints(*[0] * dim, *node.args["sizes"], *shape[dim + 1 :]))


@lowers("squeeze.dim", "squeeze.dims", "unsqueeze")
def squeezed(g: Graph, node: Node) -> str:
    dims = node.args["dim"] if isinstance(node.args["dim"], list | tuple) else [node.args["dim"]]
    return g.emit("Unsqueeze" if node.op == "unsqueeze" else "Squeeze", g.name(node.args["self"]), g.ints(*dims))


@lowers("t")
def transposed_matrix(g: Graph, node: Node) -> str:
    return g.emit("Transpose", g.name(node.args["self"]), perm=[1, 0])


@lowers("sym_size.int")
def symbolic_size(g: Graph, node: Node) -> int:
    """Only reshapes read it, and they leave the batch open: they are told the size at batch 1."""
    return g.shape(node.args["self"])[node.args["dim"]]


@lowers("permute")
def permuted(g: Graph, node: Node) -> str:
    rank = g.rank(node.args["self"])
    return g.emit("Transpose", g.name(node.args["self"]), perm=[d % rank for d in node.args["dims"]])


@lowers("transpose.int")
def transposed_dims(g: Graph, node: Node) -> str:
    rank = g.rank(node.args["self"])
    perm = list(range(rank))
    a, b = node.args["dim0"] % rank, node.args["dim1"] % rank
    perm[a], perm[b] = perm[b], perm[a]
    return g.emit("Transpose", g.name(node.args["self"]), perm=perm)


@lowers("cat", "stack")
def joined(g: Graph, node: Node) -> str:
    names = [g.name(t) for t in node.args["tensors"]]
    if node.op == "stack":
        names = [g.emit("Unsqueeze", name, g.ints(node.get("dim"))) for name in names]
    return g.emit("Concat", *names, axis=node.get("dim"))


@lowers("chunk", "split.Tensor", "split_with_sizes", "unbind.int")
def split(g: Graph, node: Node) -> list[str]:
    x, axis = node.args["self"], node.get("dim")
    total = g.shape(x)[axis]
    if node.op == "split_with_sizes":
        sizes = list(node.args["split_sizes"])
    else:
        size = {
            "chunk": lambda: -(-total // node.args["chunks"]),
            "split.Tensor": lambda: node.args["split_size"],
            "unbind.int": lambda: 1,
        }[node.op]()
        sizes = [min(size, total - at) for at in range(0, total, size)]
    parts = g.emit("Split", g.name(x), g.ints(*sizes), count=len(sizes), axis=axis) if len(sizes) > 1 else [g.name(x)]
    return [g.emit("Squeeze", p, g.ints(axis)) for p in parts] if node.op == "unbind.int" else parts


@lowers("getitem")
def picked(g: Graph, node: Node) -> str:
    return g.names[node.args["self"]][node.args["index"]]


@lowers("slice.Tensor", "narrow", "select.int")
def sliced(g: Graph, node: Node) -> str:
    axis = node.get("dim")
    if node.op == "select.int":
        return g.emit("Gather", g.name(node.args["self"]), g.store(np.array(node.args["index"], np.int64)), axis=axis)
    start = node.args["start"] if node.op == "narrow" else node.get("start") or 0
    if node.op == "narrow" and start < 0:
        start += g.shape(node.args["self"])[axis]
    end = start + node.args["length"] if node.op == "narrow" else node.get("end")
    step = 1 if node.op == "narrow" else node.get("step")
    end = np.iinfo(np.int64).max if end is None else end
    return g.emit("Slice", g.name(node.args["self"]), g.ints(start), g.ints(end), g.ints(axis), g.ints(step))


@lowers("flip")
def reversed_along(g: Graph, node: Node) -> str:
    dims = node.args["dims"]
    ends = [np.iinfo(np.int64).min] * len(dims)
    return g.emit(
        "Slice", g.name(node.args["self"]), *(g.ints(*own) for own in ([-1] * len(dims), ends, dims, [-1] * len(dims)))
    )


@lowers("index_select")
def rows_chosen(g: Graph, node: Node) -> str:
    return g.emit("Gather", g.name(node.args["self"]), g.name(node.args["index"]), axis=node.args["dim"])


@lowers("masked_fill.Scalar", "where.self")
def chosen(g: Graph, node: Node) -> str:
    if node.op == "where.self":
        return g.emit("Where", *(g.name(node.args[k]) for k in ("condition", "self", "other")))
    return g.emit("Where", g.name(node.args["mask"]), g.constant(float(node.args["value"])), g.name(node.args["self"]))


@lowers("pad")
def padded(g: Graph, node: Node) -> str:
    rank, given = g.rank(node.args["self"]), list(node.args["pad"])
    before, after = [0] * rank, [0] * rank
    for at in range(len(given) // 2):
        before[rank - 1 - at], after[rank - 1 - at] = given[2 * at], given[2 * at + 1]
    mode = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}[node.get("mode")]
    value = [g.constant(node.get("value") or 0.0)] if mode == "constant" else []
    return g.emit("Pad", g.name(node.args["self"]), g.ints(*before, *after), *value, mode=mode)


@lowers("upsample_nearest2d.vec", "upsample_bilinear2d.vec", "upsample_bicubic2d.vec")
def upsampled(g: Graph, node: Node) -> str:
    size, factors = node.args["output_size"], node.args["scale_factors"]
    _told_apart(g, node, factors)
    wanted = ["", g.store(np.array(factors, np.float32))] if factors is not None else ["", "", g.ints(*size)]
    kind: dict[str, Any] = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if node.op != "upsample_nearest2d.vec":
        align = "align_corners" if node.args["align_corners"] else "half_pixel"
        cubic = node.op == "upsample_bicubic2d.vec"
        kind = {"mode": "cubic" if cubic else "linear", "coordinate_transformation_mode": align}
        kind["cubic_coeff_a"] = -0.75 if cubic else None
    return g.emit("Resize", g.name(node.args["input"]), *wanted, axes=[2, 3], **kind)


def _told_apart(g: Graph, node: Node, factors: list[float] | None) -> None:
    """Raise BadInput for factors that leave the size as it is and move the picture: ONNX Runtime 1.31 then does nothing."""
    sizes = g.shape(node.args["input"])[2:]
    moves = factors is not None and any(factor != 1 for factor in factors) and not node.args.get("align_corners")
    if moves and factors is not None and all(int(n * f) == n for n, f in zip(sizes, factors, strict=True)):
        raise BadInput(f"{node.op} at {node.name} resizes by {factors} to the size there is; give the size instead")


@lowers("grid_sampler")
def sampled(g: Graph, node: Node) -> str:
    """The names of the modes are those since opset 20; before, they were bilinear, nearest and bicubic."""
    x, mode = node.args["input"], ("linear", "nearest", "cubic")[node.args["interpolation_mode"]]
    settings: dict[str, Any] = {
        "mode": mode,
        "padding_mode": ("zeros", "border", "reflection")[node.args["padding_mode"]],
        "align_corners": int(node.args["align_corners"]),
    }
    made = g.emit("GridSample", g.name(x), g.name(node.args["grid"]), **settings)
    return g.known(made, (*g.shape(x)[:2], *g.shape(node.args["grid"])[1:-1]))


@lowers("pixel_shuffle", "channel_shuffle")
def shuffled(g: Graph, node: Node) -> str:
    x = node.args["self"]
    if node.op == "pixel_shuffle":
        return g.emit("DepthToSpace", g.name(x), blocksize=node.args["upscale_factor"], mode="CRD")
    _, c, h, w = g.shape(x)
    groups = node.args["groups"]
    parts = g.emit("Reshape", g.name(x), g.ints(0, groups, c // groups, h, w))
    return g.emit("Reshape", g.emit("Transpose", parts, perm=[0, 2, 1, 3, 4]), g.ints(0, c, h, w))


@lowers("roll")
def rolled(g: Graph, node: Node) -> str:
    """The end of each dimension comes before its beginning."""
    x, name = node.args["self"], g.name(node.args["self"])
    if not node.get("dims"):
        raise BadInput(f"roll at {node.name} rolls over all dimensions at once; name them")
    for shift, dim in zip(node.args["shifts"], node.get("dims"), strict=True):
        at = g.ints(-shift % g.shape(x)[dim])
        first = g.emit("Slice", name, g.ints(0), at, g.ints(dim))
        last = g.emit("Slice", name, at, g.ints(np.iinfo(np.int64).max), g.ints(dim))
        name = g.emit("Concat", last, first, axis=dim)
    return name


@lowers("embedding")
def looked_up(g: Graph, node: Node) -> str:
    return g.emit("Gather", g.name(node.args["weight"]), g.name(node.args["indices"]), axis=0)


@lowers("expand")
def expanded(g: Graph, node: Node) -> str:
    """A size of -1, or one taken from the batch by what has a batch already, leaves the dimension as it is."""
    given, source = list(node.args["size"]), node.args["self"]
    sizes = [size if isinstance(size, int) and size != -1 else 1 for size in given]
    batched = [at for at, size in enumerate(given) if not isinstance(size, int)]
    if not batched or not g.stored_only(source):
        return g.emit("Expand", g.name(source), g.ints(*sizes))
    held = (1,) * (len(given) - g.rank(source)) + g.shape(source)
    made = g.emit("Expand", g.name(source), _with_batch(g, given, sizes))
    return g.known(made, [max(a, b) for a, b in zip(held, sizes, strict=True)])


@lowers("repeat")
def repeated(g: Graph, node: Node) -> str:
    """Repeats for each sample of the batch are those of a stored value; dimensions of size 1 are added before it."""
    given, source = list(node.args["repeats"]), node.args["self"]
    name, counts = g.name(source), [count if isinstance(count, int) else 1 for count in given]
    held = (1,) * (len(given) - g.rank(source)) + g.shape(source)
    if len(held) > g.rank(source):
        name = g.emit("Unsqueeze", name, g.ints(*range(len(held) - g.rank(source))))
    if counts == given:
        return g.emit("Tile", name, g.ints(*counts))
    if not g.stored_only(source):
        raise BadInput(f"repeat at {node.name} repeats what has a batch as often as the batch is large")
    return g.known(
        g.emit("Tile", name, _with_batch(g, given, counts)), [a * b for a, b in zip(held, counts, strict=True)]
    )


def _with_batch(g: Graph, given: list[Any], sizes: list[int]) -> str:
    """Return the name of a list of `sizes` with the batch's own at the one place where `given` has no number."""
    (at,) = (place for place, size in enumerate(given) if not isinstance(size, int))
    batch = g.frozen.spec.node(str(given[at]))
    count = g.emit("Shape", g.name(batch.args["self"]), start=batch.args["dim"], end=batch.args["dim"] + 1)
    parts = [g.ints(*sizes[:at]) if at else "", count, g.ints(*sizes[at + 1 :]) if at + 1 < len(sizes) else ""]
    return g.emit("Concat", *(part for part in parts if part), axis=0)
