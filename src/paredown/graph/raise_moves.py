"""ONNX operators that move, cut, join and reduce values as ATen operators; one small function each."""

import math
from typing import Any

import numpy as np

from paredown.core.errors import BadInput
from paredown.graph.frozen import Plain
from paredown.graph.onnx_fold import fold
from paredown.graph.raised import BATCH, Call, Const, Raised, known, raises
from paredown.graph.spec import Value


def _reshaped(g: Raised, x: Value, wanted: list[int]) -> Value:
    """Bring a value into a shape whose sizes are all known; the size that the batch divides is left open."""
    old = g.shape(x)
    if math.prod(wanted) != math.prod(old):
        raise BadInput(f"it turns the shape {_shown(old)} into {_shown(wanted)}")
    if tuple(wanted) == old:
        return x
    free = [at for at, size in enumerate(wanted) if size % BATCH == 0]
    if len(free) != 1:
        raise BadInput("it loses the batch")
    if wanted == [BATCH, math.prod(old[1:])] and old[0] == BATCH:
        return g.emit("flatten.using_ints", self=x, start_dim=1)
    return g.emit("reshape", self=x, shape=[-1 if at in free else size for at, size in enumerate(wanted)])


def _shown(shape: Any) -> str:
    parts = ["n" if s == BATCH else f"{s // BATCH}n" if s and s % BATCH == 0 else str(s) for s in shape]
    return f"({', '.join(parts)})"


@raises("Reshape")
def _reshape(g: Raised, c: Call) -> Value:
    """A 0 keeps a size, a -1 is what is left; where the file fixes the batch size, that number stands for the batch."""
    old, wanted = g.shape(c.value()), c.listed(1, "shape")
    if wanted is None:
        raise BadInput("it has no shape")
    if not c.get("allowzero", 0):
        wanted = [old[at] if size == 0 else size for at, size in enumerate(wanted)]
    if g.fixed_batch and wanted and wanted[0] == g.fixed_batch and old[0] == BATCH:
        rest, sample = math.prod(wanted[1:]), math.prod(old[1:])
        wanted = [BATCH, *wanted[1:]] if -1 in wanted or rest == sample else wanted
    if -1 in wanted:
        rest = math.prod(size for size in wanted if size != -1)
        wanted = [math.prod(old) // max(rest, 1) if size == -1 else size for size in wanted]
    return _reshaped(g, c.value(), wanted)


@raises("Flatten")
def _flatten(g: Raised, c: Call) -> Value:
    old = g.shape(c.value())
    axis = c.get("axis", 1)
    axis += len(old) if axis < 0 else 0
    return _reshaped(g, c.value(), [math.prod(old[:axis]), math.prod(old[axis:])])


@raises("Transpose")
def _transpose(g: Raised, c: Call) -> Any:
    found = c.input(0)
    shape = found.shape if isinstance(found, Const) else g.shape(c.value())
    perm = list(c.get("perm") or range(len(shape))[::-1])
    return found.turned(perm) if isinstance(found, Const) else g.emit("permute", self=found, dims=perm)


@raises("Identity")
def _identity(g: Raised, c: Call) -> Any:
    return c.input(0)


@raises("Constant")
def _constant(g: Raised, c: Call) -> Const:
    name = c.node.output[0]
    if "value" in c.attributes:
        return known(c.get("value"), name, trained=False)
    for key in ("value_float", "value_floats", "value_int", "value_ints"):
        if key in c.attributes:
            kind = np.float32 if "float" in key else np.int64
            return Const(Plain(np.array(c.get(key), dtype=kind)), name)
    raise BadInput("a constant of this kind is not supported")


@raises("Shape")
def _shape(g: Raised, c: Call) -> Const:
    found = c.input(0)
    shape = found.shape if isinstance(found, Const) else g.shape(c.value())
    return Const(Plain(np.array(shape[c.get("start", 0) : c.get("end", len(shape))], dtype=np.int64)), c.node.output[0])


@raises("Size")
def _size(g: Raised, c: Call) -> Const:
    return Const(Plain(np.array(math.prod(g.shape(c.value())), dtype=np.int64)), c.node.output[0])


@raises("Squeeze")
def _squeeze(g: Raised, c: Call) -> Any:
    if isinstance(c.input(0), Const):
        return fold(c)[0]
    shape, axes = g.shape(c.value()), c.listed(1, "axes")
    dims = [at for at, size in enumerate(shape) if size == 1] if axes is None else [a % len(shape) for a in axes]
    if any(shape[dim] != 1 for dim in dims):
        raise BadInput(f"it drops dimensions of {_shown(shape)} that are not 1")
    if not dims:
        return c.value()
    if len(dims) == 1:
        return g.emit("squeeze.dim", self=c.value(), dim=dims[0])
    return g.emit("squeeze.dims", self=c.value(), dim=dims)


@raises("Unsqueeze")
def _unsqueeze(g: Raised, c: Call) -> Any:
    x, axes = c.value(), c.listed(1, "axes") or []
    rank = len(g.shape(x)) + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = g.emit("unsqueeze", self=x, dim=axis)
    return x


@raises("Concat")
def _concat(g: Raised, c: Call) -> Value:
    leaves = [g.leaf(found) for found in c.inputs]
    return g.emit("cat", tensors=leaves, dim=c.get("axis") % len(g.shape(leaves[0])))


@raises("Split")
def _split(g: Raised, c: Call) -> list[Value]:
    x, count = c.value(), len(c.node.output)
    axis = c.get("axis", 0) % len(g.shape(x))
    total, sizes = g.shape(x)[axis], c.listed(1, "split")
    if sizes is None:
        size = -(-total // count)
        sizes = [min(size, total - at) for at in range(0, total, size)]
    if len(sizes) != count:
        raise BadInput(f"it splits {total} into {len(sizes)} parts and names {count}")
    return g.parts(g.emit("split_with_sizes", self=x, split_sizes=sizes, dim=axis), count)


@raises("Slice")
def _slice(g: Raised, c: Call) -> Value:
    x = c.value()
    shape, starts, ends = g.shape(x), c.listed(1, "starts"), c.listed(2, "ends")
    if starts is None or ends is None:
        raise BadInput("it has no starts and ends")
    axes = c.listed(3, "axes") or list(range(len(starts)))
    if all(
        (start, step) == (-1, -1) and end < -(2**31)
        for start, end, step in zip(starts, ends, c.numbers(4) or [1], strict=False)
    ):
        return g.emit("flip", self=x, dims=[axis % len(shape) for axis in axes])
    for axis, start, end, step in zip(axes, starts, ends, c.numbers(4) or [1] * len(starts), strict=True):
        dim, size = axis % len(shape), shape[axis % len(shape)]
        if step < 1:
            raise BadInput(f"it walks backwards, with the step {step}")
        start = max(start + size if start < 0 else start, 0)
        last = None if end >= size else end
        if (start, last, step) != (0, None, 1):
            x = g.emit("slice.Tensor", self=x, dim=dim, start=start or None, end=last, step=step)
    return x


@raises("Pad")
def _pad(g: Raised, c: Call) -> Value:
    shape, pads, axes = g.shape(c.value()), c.listed(1, "pads"), c.numbers(3)
    if pads is None:
        raise BadInput("it has no pads")
    along = [a % len(shape) for a in axes] if axes is not None else list(range(len(shape)))
    before, after = [0] * len(shape), [0] * len(shape)
    for at, dim in enumerate(along):
        before[dim], after[dim] = pads[at], pads[at + len(along)]
    mode = c.get("mode", "constant")
    names = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in names:
        raise BadInput(f"its mode {mode!r} is unknown; allowed: {', '.join(names)}")
    if not any((*before, *after)):
        return c.value()
    first = next(d for d in range(len(shape)) if before[d] or after[d]) if mode == "constant" else 2
    amounts = [side for dim in range(len(shape) - 1, first - 1, -1) for side in (before[dim], after[dim])]
    if before[0] or after[0]:
        raise BadInput("it pads the batch")
    if mode != "constant" and any((*before[:2], *after[:2])):
        raise BadInput(f"it pads batch or channels with mode {mode!r}")
    value = c.number(2, "value")
    return g.emit("pad", self=c.value(), pad=amounts, mode=names[mode], value=value or None)


_REDUCED = {"ReduceMean": "mean.dim", "ReduceSum": "sum.dim_IntList", "ReduceMax": "amax", "ReduceMin": "amin"}


@raises(*_REDUCED)
def _reduce(g: Raised, c: Call) -> Value:
    rank, axes = len(g.shape(c.value())), c.listed(1, "axes")
    if not axes and c.get("noop_with_empty_axes", 0):
        return c.value()
    dims = [a % rank for a in axes] if axes else list(range(rank))
    return g.emit(_REDUCED[c.node.op_type], self=c.value(), dim=dims, keepdim=bool(c.get("keepdims", 1)))


@raises("ReduceL1", "ReduceL2")
def _norm(g: Raised, c: Call) -> Value:
    rank, axes = len(g.shape(c.value())), c.listed(1, "axes")
    dims = [a % rank for a in axes] if axes else list(range(rank))
    order = 1 if c.node.op_type == "ReduceL1" else 2
    return g.emit("linalg_vector_norm", self=c.value(), ord=order, dim=dims, keepdim=bool(c.get("keepdims", 1)))


@raises("CumSum")
def _summed_up(g: Raised, c: Call) -> Value:
    axis = c.numbers(1)
    if axis is None or c.get("exclusive", 0) or c.get("reverse", 0):
        raise BadInput("running sums that leave their own place out, or run backwards, are not supported")
    return g.emit("cumsum", self=c.value(), dim=axis[0] % len(g.shape(c.value())))


@raises("Resize", "Upsample")
def _resize(g: Raised, c: Call) -> Value:
    """Of pictures, in height and width: nearest, bilinear or bicubic."""
    at = 1 if c.node.op_type == "Upsample" or c.opset < 11 else 2
    scales, sizes = c.listed(at, "scales"), c.numbers(3)
    shape, mode = g.shape(c.value()), c.get("mode", "nearest")
    axes = [a % len(shape) for a in c.get("axes") or range(len(shape))]
    given = {axis: (scales or sizes or [])[n] for n, axis in enumerate(axes)}
    flat = len(shape) == 4 and all(given.get(dim, 1) in (1, shape[dim]) for dim in (0, 1))
    if not flat or mode not in ("nearest", "linear", "bilinear", "cubic") or c.get("antialias", 0):
        raise BadInput(f"allowed: nearest, linear or cubic over height and width; here: {mode} of {_shown(shape)}")
    last = [given.get(dim, 1.0 if scales else shape[dim]) for dim in (2, 3)]
    wanted = {"output_size": None if scales else last, "scale_factors": [float(s) for s in last] if scales else None}
    if mode == "nearest":
        return g.emit("upsample_nearest2d.vec", input=c.value(), **wanted)
    where = c.get("coordinate_transformation_mode", "half_pixel" if c.opset >= 11 else "asymmetric")
    if where not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise BadInput(f"its coordinates {where!r} are not supported; allowed: half_pixel, align_corners")
    return g.emit(_smooth(c, mode), input=c.value(), align_corners=where == "align_corners", **wanted)


def _smooth(c: Call, mode: str) -> str:
    """Return the operator of a linear or cubic Resize; ATen's curve is the one of -0.75 alone, and goes on at the edges."""
    if mode != "cubic":
        return "upsample_bilinear2d.vec"
    if c.get("cubic_coeff_a", -0.75) != -0.75 or c.get("exclude_outside", 0):
        raise BadInput("allowed of cubic: the coefficient -0.75, without exclude_outside")
    return "upsample_bicubic2d.vec"


_SAMPLED = {"linear": 0, "bilinear": 0, "nearest": 1, "cubic": 2, "bicubic": 2}
"""ATen's numbers of GridSample's modes, by their names before opset 20 and since."""


@raises("GridSample")
def _grid_sample(g: Raised, c: Call) -> Value:
    mode, edge = c.get("mode", "linear"), c.get("padding_mode", "zeros")
    edges = ("zeros", "border", "reflection")
    if mode not in _SAMPLED or edge not in edges:
        raise BadInput(
            f"its mode {mode!r} with {edge!r} is unknown; allowed: {', '.join(_SAMPLED)}; {', '.join(edges)}"
        )
    settings = {"interpolation_mode": _SAMPLED[mode], "padding_mode": edges.index(edge)}
    grid = g.leaf(c.input(1))
    return g.emit("grid_sampler", input=c.value(), grid=grid, align_corners=bool(c.get("align_corners", 0)), **settings)


@raises("DepthToSpace", "SpaceToDepth")
def _depth_space(g: Raised, c: Call) -> Value:
    x, block = c.value(), c.get("blocksize")
    _, channels, height, width = g.shape(x)
    deep = channels // block**2
    if c.node.op_type == "SpaceToDepth":
        apart, order = [channels, height // block, block, width // block, block], [0, 3, 5, 1, 2, 4]
        joined = [channels * block**2, height // block, width // block]
    elif c.get("mode", "DCR") == "CRD":
        return g.emit("pixel_shuffle", self=x, upscale_factor=block)
    else:
        apart, order = [block, block, deep, height, width], [0, 3, 4, 1, 5, 2]
        joined = [deep, height * block, width * block]
    moved = g.emit("permute", self=g.emit("reshape", self=x, shape=[-1, *apart]), dims=order)
    return g.emit("reshape", self=moved, shape=[-1, *joined])


@raises("Expand")
def _expand(g: Raised, c: Call) -> Value:
    """A size of 1, or the one there is, leaves a dimension as it is."""
    if isinstance(c.input(0), Const):
        return _each_sample(g, c)
    old, wanted = g.shape(c.value()), c.listed(1, "shape")
    if wanted is None:
        raise BadInput("it has no shape")
    wanted = [1] * (len(old) - len(wanted)) + wanted
    if len(wanted) > len(old):
        raise BadInput(
            f"it expands the shape {_shown(old)} into {_shown(wanted)}, with new dimensions before the batch"
        )
    sizes = [-1 if size in (1, have) else size for size, have in zip(wanted, old, strict=True)]
    return g.emit("expand", self=c.value(), size=sizes)


def _each_sample(g: Raised, c: Call) -> Value:
    """Repeat a constant for every sample of the batch."""
    wanted = c.listed(1, "shape") or []
    if wanted.count(BATCH) != 1:
        raise BadInput(f"it expands a constant into {_shown(wanted)}")
    have = (1,) * (len(wanted) - len(c.input(0).shape)) + c.input(0).shape
    batch = _batch(g)
    sizes = [batch if size == BATCH else max(size, own) for size, own in zip(wanted, have, strict=True)]
    return g.emit("expand", self=g.leaf(c.input(0)), size=sizes)


def _batch(g: Raised) -> Value:
    """Return the size of the batch, of an input that has it."""
    inputs = [name for name in g.names() if g.shape(name)[:1] == (BATCH,)]
    if not inputs:
        raise BadInput("it has a size of the batch's, and no input has a batch")
    return g.emit("sym_size.int", self=inputs[0], dim=0)


@raises("Tile")
def _tile(g: Raised, c: Call) -> Value:
    """What has no batch may be repeated for each sample of it."""
    repeats, x = c.listed(1, "repeats"), g.leaf(c.input(0))
    if not repeats:
        raise BadInput("it has no repeats")
    batched = any(size % BATCH == 0 for size in g.shape(x) if size)
    if batched and (repeats[0] != 1 or BATCH in repeats):
        raise BadInput("it repeats the batch")
    return g.emit("repeat", self=x, repeats=[_batch(g) if count == BATCH else count for count in repeats])
