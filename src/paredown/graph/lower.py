"""From torch.export's graph to one of the table's operators: what is constant is worked out, what has parts is taken apart."""

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

from paredown.graph.ops import OPS

aten = torch.ops.aten

SIZES = frozenset(
    {operator.mul, operator.add, operator.sub, operator.floordiv, operator.mod, operator.neg, operator.truediv}
)
"""What may be computed with sizes, as long as it is only used as the one free size of a view."""
VIEWS = frozenset({"view", "reshape"})
"""Operators with one size that may be free."""

_DEPTH = 4
"""How often what an operator is taken apart into is taken apart in its turn."""

_MOST = 2**24
"""The most entries of a constant that is worked out."""


_SAME = {"lift_fresh_copy": "clone", "_unsafe_view": "view"}
"""Operators of torch.export's own that stand for another."""


def named(target: Any) -> str:
    """Return the table's name of one of ATen's operators, in place or not; empty for what is no such operator."""
    if not isinstance(target, torch._ops.OpOverload):
        return "getitem" if target is operator.getitem else ""
    base, _, overload = str(target).removeprefix("aten.").partition(".")
    base = base.removesuffix("_") if not base.startswith("_") else base
    name = base if overload == "default" else f"{base}.{overload}"
    return _SAME.get(name, name)


def lower_(exported: torch.export.ExportedProgram, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rewrite the graph of `exported` in place, as far as it can be, and return {node: value} of the constants.

    values: {placeholder: tensor} of the buffers and constants. Blocks that only set autocast or gradients are opened,
    operators that the table lacks are taken apart as torch does it, indexing by a constant becomes an embedding's, a size
    that is computed is taken from a value that has it, and what depends on no input and no parameter is worked out where its
    operator is not in the table: for one sample where its size is the batch's (`capture` repeats it, and compares at two
    batch sizes).
    """
    graph = exported.graph
    for node in list(graph.nodes):
        _open(exported.graph_module, node)
    for _ in range(_DEPTH):
        changed = [_typed(node) or _indexed(node) or _taken_apart(node) for node in list(graph.nodes) if _unknown(node)]
        if not any(changed):
            break
    _seen_sizes(graph)
    return _constants(graph, values)


def _unknown(node: fx.Node) -> bool:
    is_call = node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload)
    return is_call and named(node.target) not in OPS


def _open(module: fx.GraphModule, node: fx.Node) -> None:
    """Put the nodes of a block that only sets autocast or gradients in its place."""
    if not isinstance(node.target, torch._ops.HigherOrderOperator) or "wrap_with" not in str(node.target):
        return
    given: Any = node.args
    at = next(n for n, arg in enumerate(given) if isinstance(arg, fx.Node) and arg.op == "get_attr")
    block = given[at]
    inner = getattr(module, block.target).graph
    holes = [n for n in inner.nodes if n.op == "placeholder"]
    moved = dict(zip(holes, given[at + 1 :], strict=True))
    with node.graph.inserting_before(node):
        made: Any = node.graph.graph_copy(inner, moved)
    _replace(node, list(made) if isinstance(made, list | tuple) else [made])
    if not block.users:
        node.graph.erase_node(block)


def _typed(node: fx.Node) -> bool:
    """Turn a move to a device into a change of the number's type, if it is one, or nothing."""
    if named(node.target) not in ("to.device", "to.dtype_layout", "_to_copy", "to.other", "type_as"):
        return False
    source: Any = node.args[0]
    before, after = source.meta["val"].dtype, node.meta["val"].dtype
    with node.graph.inserting_before(node):
        made = source if before == after else node.graph.call_function(aten.to.dtype, (source, after))
    _replace(node, made)
    return True


def _indexed(node: fx.Node) -> bool:
    """Turn `table[:, indices]` of a stored table into an embedding of it, between transpositions."""
    if named(node.target) != "index.Tensor":
        return False
    table: Any = node.args[0]
    indices: Any = node.args[1]
    given = [(dim, index) for dim, index in enumerate(indices) if index is not None]
    if len(given) != 1 or table.meta["val"].dim() != 2 or given[0][1].meta["val"].is_floating_point():
        return False
    dim, index = given[0]
    with node.graph.inserting_before(node):
        rows = table if dim == 0 else node.graph.call_function(aten.t.default, (table,))
        out = node.graph.call_function(aten.embedding.default, (rows, index))
        if dim == 1:
            count = index.meta["val"].dim()
            out = node.graph.call_function(aten.permute.default, (out, [count, *range(count)]))
    _replace(node, out)
    return True


def _taken_apart(node: fx.Node) -> bool:
    """Put the operators that torch makes of a node in its place; return whether it knows any."""
    target: Any = node.target
    flat, tree = torch.utils._pytree.tree_flatten((node.args, node.kwargs))
    own = _grid_of(node) if target is aten.affine_grid_generator.default else _spread_of(node)
    holes = [leaf for leaf in flat if isinstance(leaf, fx.Node)][: 1 if own else None]
    if any(not isinstance(leaf.meta.get("val"), Tensor) for leaf in holes):
        return False

    def call(*tensors: Tensor) -> Any:
        given = iter(tensors)
        args, kwargs = torch.utils._pytree.tree_unflatten(
            [next(given) if isinstance(leaf, fx.Node) else leaf for leaf in flat], tree
        )
        return target(*args, **kwargs)

    table: Any = get_decompositions([target])
    try:
        inner = make_fx(own or call, decomposition_table=table)(*(leaf.meta["val"] for leaf in holes)).graph
    # Any of torch's decompositions may refuse a call; then the operator stays, and capture names it.
    except Exception:  # noqa: BLE001
        return False
    inner.eliminate_dead_code()
    for inside in inner.nodes:
        if inside.target in (aten.view.default, aten._unsafe_view.default):
            inside.target = aten.reshape.default  # how tensors lie in memory is not kept
    if any(inside.target is target for inside in inner.nodes):
        return False
    with node.graph.inserting_before(node):
        places = [n for n in inner.nodes if n.op == "placeholder"]
        made = node.graph.graph_copy(inner, dict(zip(places, holes, strict=True)))
    _replace(node, made)
    return True


def _spread_of(node: fx.Node) -> Callable[[Tensor], Any] | None:
    """Return a function of a value that gives its variance or deviation (with its mean, where asked), or None.

    (Torch's own way apart ends in an operator of its compiler.) None for other operators, and where the batch is among the
    dimensions: its size is not known.
    """
    what = str(node.target).removeprefix("aten.").partition(".")[0]
    if what not in ("var", "std", "var_mean", "std_mean"):
        return None
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    given: dict[str, Any] = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    shape, dim = given["self"].meta["val"].shape, given.get("dim")
    dims = [at % len(shape) for at in ([dim] if isinstance(dim, int) else dim or range(len(shape)))]
    sizes = [shape[at] for at in dims]
    if not all(isinstance(size, int) for size in sizes):
        return None
    less = given.get("correction")
    count = math.prod(sizes) - (int(given.get("unbiased", True)) if less is None else less)
    keep = bool(given.get("keepdim", False))

    def spread(value: Tensor) -> Any:
        mean = value.mean(dims, True)
        out = (value - mean).square().sum(dims, keep) / count
        out = out.sqrt() if what.startswith("std") else out
        return (out, value.mean(dims, keep)) if what.endswith("mean") else out

    return spread


def _grid_of(node: fx.Node) -> Callable[[Tensor], Tensor]:
    """Return a function of the maps that gives an affine grid: a constant one, moved by each map. Its batch is theirs.

    (Torch's own way apart needs the batch as a number.)
    """
    args: Any = node.args
    sides, align = args[1][2:], args[2]

    def grid(maps: Tensor) -> Tensor:
        counted = [maps.new_ones(n).cumsum(0) - (n + 1) / 2 for n in sides]
        lines = [line * (2 / max(n - align, 1)) for line, n in zip(counted, sides, strict=True)]
        places = [*torch.meshgrid(*lines, indexing="ij")[::-1], maps.new_ones(sides)]
        plane = torch.stack(places, -1).reshape(-1, len(places))
        return torch.matmul(plane, maps.transpose(1, 2)).reshape(-1, *sides, len(sides))

    return grid


def _replace(node: fx.Node, made: Any) -> None:
    if isinstance(made, list | tuple):
        for user in list(node.users):
            index: Any = user.args[1]
            _replace(user, made[index])
        node.graph.erase_node(node)
        return
    made.meta.setdefault("val", node.meta.get("val"))
    node.replace_all_uses_with(made)
    node.graph.erase_node(node)


def _seen_sizes(graph: fx.Graph) -> None:
    """Take computed sizes (the batch times a number) from the first value that has them. Views need none: theirs is free."""
    places: dict[str, tuple[fx.Node, int]] = {}
    for node in list(graph.nodes):
        made = node.meta.get("val")
        if node.op == "call_function" and node.target in SIZES and str(made) in places:
            users = [user for user in node.users if user.target not in SIZES and named(user.target) not in VIEWS]
            if users:
                with graph.inserting_before(node):
                    size = graph.call_function(aten.sym_size.int, places[str(made)])
                size.meta["val"] = made
                for user in users:
                    user.replace_input_with(node, size)
        elif isinstance(made, Tensor):
            for dim, length in enumerate(made.shape):
                if not isinstance(length, int):
                    places.setdefault(str(length), (node, dim))


def _constants(graph: fx.Graph, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the values of the nodes that must be stored because the table cannot make them."""
    known: dict[str, Any] = dict(values)
    must: set[str] = set()
    for node in graph.nodes:
        target: Any = node.target
        if target is aten.sym_size.int and node.args[1] == 0 and node.args[0].op == "placeholder":
            known[node.name] = 1
            continue
        if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
            continue
        if any(source.name not in known for source in node.all_input_nodes):
            continue
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda source: known[source.name])
        try:
            value = target(*args, **kwargs)
        except (TypeError, RuntimeError):  # a size that depends on the batch
            continue
        if isinstance(value, Tensor) and value.numel() <= _MOST:
            known[node.name] = value
            if named(node.target) not in OPS or any(source.name in must for source in node.all_input_nodes):
                must.add(node.name)
    return {name: known[name] for name in must}


class Sized:
    """A size that is computed from others; it can only stand as the one free size of a view."""


def free_view(node: fx.Node) -> list[int] | None:
    """Return the sizes of a view as numbers, with −1 for the one that depends on the batch; None where there are more."""
    sizes = [size if isinstance(size, int) else -1 for size in node.meta["val"].shape]
    return sizes if sizes.count(-1) <= 1 else None
