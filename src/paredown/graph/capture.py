"""From any torch module to a Net, through torch.export, verified on the example."""

import inspect
import logging
import operator
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from paredown.core.errors import BadInput
from paredown.graph.lower import SIZES, VIEWS, Sized, free_view, lower_, named
from paredown.graph.net import Net
from paredown.graph.ops import OPS
from paredown.graph.slots import Fixed, Free
from paredown.graph.spec import Node, Slot, Spec, Value, mapped, references

_END = 2**63 - 1
"""How torch writes a slice without an end."""


def capture(model: nn.Module, example_inputs: Tensor | tuple[Tensor, ...]) -> Net:
    """Return `model` as a Net that computes the same on `example_inputs`. The model itself is left as it was.

    example_inputs: one tensor, or a tuple of them, batch first; the batch size stays free where the model allows it.
    Raises BadInput when the model cannot be traced, uses an operator outside the table, or the copy disagrees.
    """
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    if isinstance(model, Net):
        return model.copy()
    flags = {module: module.training for module in model.modules()}
    try:
        model.eval()
        try:
            exported = _export(model, inputs, free=True)
        except BadInput as first:
            try:
                exported = _export(model, inputs, free=False)
            except BadInput:
                raise first from None
            examples = [inputs]
        else:
            examples = [inputs, tuple(torch.cat([x, x]) for x in inputs)]
        net = _translate(exported, inputs)
        for example in examples:
            _verify(net, model, example)
    finally:
        for module, training in flags.items():
            module.training = training
    return net


def _export(model: nn.Module, inputs: tuple[Tensor, ...], free: bool) -> torch.export.ExportedProgram:
    """Return the exported model, of any batch size where it is to be `free`. Raises BadInput."""
    example = tuple(torch.cat([x, x])[: max(2, len(x))] for x in inputs) if free else inputs
    shapes = _free_batch(model, len(inputs)) if free else None
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            logging.disable(logging.CRITICAL)  # torch logs what it also raises
            return torch.export.export(model, example, dynamic_shapes=shapes)
    # torch.export raises many unrelated classes for a model it cannot follow; all mean the same to the user.
    except Exception as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInput(f"model {type(model).__name__} cannot be traced by torch.export: {line}") from error
    finally:
        logging.disable(logging.NOTSET)


def _free_batch(model: nn.Module, count: int) -> tuple[Any, ...]:
    """Return what torch.export wants to hear of `count` inputs with a free batch; those of `*inputs` are one to it."""
    each = tuple({0: torch.export.Dim.DYNAMIC} for _ in range(count))
    kinds = [parameter.kind for parameter in inspect.signature(model.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return each
    first = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*each[:first], each[first:])


def _translate(exported: torch.export.ExportedProgram, inputs: tuple[Tensor, ...]) -> Net:
    signature = exported.graph_signature
    stored = {**exported.state_dict, **exported.constants}
    targets = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    targets.update(signature.inputs_to_lifted_tensor_constants)
    slots: dict[str, nn.Module] = {}
    owners: dict[tuple[Any, ...], str] = {}
    refs: dict[str, Any] = {}
    nodes: list[Node] = []
    users = list(signature.user_inputs)
    output: Any = None
    constants = {name: stored[target] for name, target in targets.items()}
    known = lower_(exported, {n: value for n, value in constants.items() if not isinstance(value, nn.Parameter)})
    for node in exported.graph.nodes:
        if node.op == "placeholder" and node.name in targets:
            tensor = stored[targets[node.name]]
            memory = (tensor.data_ptr() or id(tensor), tuple(tensor.shape), tensor.stride(), tensor.dtype)
            name = owners.setdefault(memory, targets[node.name])
            trainable = isinstance(tensor, nn.Parameter) and tensor.is_floating_point()
            slots.setdefault(name, Free(tensor) if trainable else Fixed(tensor))
            refs[node.name] = Slot(name)
        elif node.op == "placeholder":
            refs[node.name] = Value(node.name)
        elif node.name in known:
            slots[node.name], refs[node.name] = Fixed(known[node.name]), Slot(node.name)
            if any(not isinstance(size, int) for size in node.meta["val"].shape[:1]):
                nodes.append(_for_each(node.name, known[node.name].dim(), nodes))
                refs[node.name] = Value(nodes[-1].name)
        elif node.target in SIZES:
            refs[node.name] = Sized()
        elif node.op == "output":
            leaves = list(_resolved(node.args[0], refs))
            output = _plain(torch.utils._pytree.tree_unflatten(leaves, exported.call_spec.out_spec))
        elif node.users or node.op != "call_function":
            nodes.append(_node(node, refs))
            refs[node.name] = Value(node.name)
    samples = tuple((name, tuple(x.shape[1:])) for name, x in zip(users, inputs, strict=True))
    spec = Spec(samples, live(nodes, output), output)
    used = spec.slot_users()
    return Net(spec, {name: slot for name, slot in slots.items() if name in used})


def _for_each(name: str, rank: int, nodes: list[Node]) -> Node:
    """Return the node that repeats a constant of one sample for each sample of the batch."""
    made = {node.name for node in nodes}
    sizes = (node for node in reversed(nodes) if node.op == "sym_size.int")
    batch = next(node for node in sizes if str(node.args["self"]) not in made)  # an input's
    return Node(f"{name}_each", "expand", {"self": Slot(name), "size": [Value(batch.name), *[-1] * (rank - 1)]})


def _plain(output: Any) -> Any:
    """Return what a model returns as plain dicts, lists and tuples. Raises BadInput for another structure."""
    if isinstance(output, dict):
        return {str(key): _plain(item) for key, item in output.items()}
    if isinstance(output, list | tuple):
        return (list if isinstance(output, list) else tuple)(_plain(item) for item in output)
    if isinstance(output, Value | int | float | None):
        return output
    raise BadInput(f"the model returns a {type(output).__name__}; return a tensor, or a dict, list or tuple of tensors")


def live(nodes: list[Node], output: Any) -> tuple[Node, ...]:
    """Return the nodes that the output depends on, in order."""
    needed = set(references(output))
    kept = []
    for node in reversed(nodes):
        if Value(node.name) in needed:
            needed.update(node.values())
            kept.append(node)
    return tuple(reversed(kept))


def _node(node: Any, refs: dict[str, Any]) -> Node:
    if node.target is operator.getitem:
        return Node(node.name, "getitem", {"self": refs[node.args[0].name], "index": node.args[1]})
    if not isinstance(node.target, torch._ops.OpOverload):
        raise _sized(node)
    op = op_of(node.target, node.name)
    if op in VIEWS:
        sizes = [refs.get(size.name) for size in node.args[1] if isinstance(size, torch.fx.Node)]
        free = free_view(node) if any(isinstance(size, Sized) for size in sizes) else None
        if free is not None:
            return node_of(node.name, op, (node.args[0], free), {}, lambda tree: _resolved(tree, refs))
    return node_of(node.name, op, node.args, node.kwargs, lambda tree: _resolved(tree, refs))


def _sized(node: Any) -> BadInput:
    name = getattr(node.target, "__name__", str(node.target))
    return BadInput(f"the model computes {name} on tensor sizes at {node.name}; write the size as a number")


def op_of(target: torch._ops.OpOverload, where: str) -> str:
    """Return the table's name of one of ATen's operators; in place is the same as not. Raises BadInput."""
    op = named(target)
    if op not in OPS:
        known = f"not among the {len(OPS)} that paredown knows"
        raise BadInput(f"operator {op!r} at {where} is {known}; rewrite the layer that uses it")
    return op


def node_of(name: str, op: str, args: Any, kwargs: Any, resolve: Callable[[Any], Any]) -> Node:
    """Return the node of a call; `resolve` turns tensors in its arguments into references."""
    given = dict(zip(OPS[op].names, args, strict=False)) | dict(kwargs)
    if op == "zeros":
        given = {"size": given["size"]}  # a Net makes it of its input's type, where its input is
    if op == "clone" and given.pop("memory_format", None) is not None:
        op = "contiguous"  # the one thing about memory that a view after it needs
    if given.get("end") == _END:
        del given["end"]
    settled = {k: _canonical(resolve(v), OPS[op].defaults.get(k)) for k, v in given.items()}
    return Node(name, op, {k: v for k, v in settled.items() if k not in OPS[op].defaults or v != OPS[op].defaults[k]})


def _canonical(value: Any, default: Any) -> Any:
    """Return one number for all dimensions written out for each."""
    if isinstance(value, list) and isinstance(default, list) and len(value) == 1 < len(default):
        return value * len(default)
    return value


def _resolved(tree: Any, refs: dict[str, Any]) -> Any:
    def leaf(x: Any) -> Any:
        if isinstance(x, torch.fx.Node):
            if isinstance(refs[x.name], Sized):
                raise _sized(x)
            return refs[x.name]
        return x if isinstance(x, Value | Slot) else plain(x)

    listed = list(tree) if isinstance(tree, torch.fx.immutable_collections.immutable_list) else tree
    return mapped(listed, leaf)


def plain(leaf: Any) -> Any:
    """Return an argument that is no tensor as what a description can hold."""
    return str(leaf) if isinstance(leaf, torch.dtype | torch.memory_format | torch.layout | torch.device) else leaf


@torch.no_grad()
def _verify(net: Net, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    wanted = torch.utils._pytree.tree_leaves(model(*inputs))
    got = torch.utils._pytree.tree_leaves(net.eval()(*inputs))
    net.train()
    for a, b in zip(wanted, got, strict=True):
        if not _agree(a, b):
            name = type(model).__name__
            raise BadInput(f"the traced copy of {name} does not compute the same as the model; is its forward random?")


def _agree(a: Any, b: Any) -> bool:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return bool(a == b)
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
