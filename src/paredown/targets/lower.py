"""A finished network as an ONNX model. Needs no torch."""

import re
from typing import Any

import onnx
from onnx import TensorProto, helper
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError

from paredown.core.errors import BadInput
from paredown.graph.frozen import Frozen
from paredown.graph.spec import Node, Value
from paredown.targets import lower_layers, lower_moves, lower_recurrent  # noqa: F401  (they register the lowerings)
from paredown.targets.onnx_graph import LOWERINGS, Graph
from paredown.targets.onnx_writer import OPSET

OURS = r"[tcywbskf]\d+(_\d+)?"
"""The names of values inside a model; inputs and outputs get others."""

MISFITS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What arguments of the wrong type or size raise."""


def build(frozen: Frozen) -> onnx.ModelProto:
    """Return the network as an ONNX model with a free batch size. Raises BadInput for what cannot be lowered."""
    graph, inputs = Graph(frozen), []
    rows = {str(node.args["indices"]) for node in frozen.spec.nodes if node.op == "embedding"}
    for name, shape in frozen.spec.inputs:
        shown = f"{name}_" if re.fullmatch(OURS, name) else name
        graph.names[Value(name)] = shown
        kind = TensorProto.INT64 if name in rows else TensorProto.FLOAT
        graph.types[shown] = helper.make_tensor_type_proto(kind, [1, *shape])
        inputs.append(helper.make_tensor_value_info(shown, kind, ["n", *shape]))
    for node in frozen.spec.nodes:
        graph.names[Value(node.name)] = _lowered(graph, node)
    taken, outputs = {i.name for i in inputs}, []
    for at, (key, value) in enumerate(_flat(frozen.spec.output)):
        name = key if key.isidentifier() and key not in taken and not re.fullmatch(OURS, key) else f"y{at}"
        taken.add(name)
        graph.nodes.append(helper.make_node("Identity", [graph.name(value)], [name]))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *graph.shape(value)[1:]]))
    proto = helper.make_graph(graph.nodes, "paredown", inputs, outputs, graph.initializers)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(proto, opset_imports=opsets, ir_version=10, producer_name="paredown")
    try:
        onnx.checker.check_model(model)
    except ValidationError as error:
        raise BadInput(f"this network makes no sound ONNX model: {_line(error)}") from error
    return model


def _lowered(graph: Graph, node: Node) -> Any:
    """Return the name (or names) of a node's output. Raises BadInput naming the operator."""
    if node.op not in LOWERINGS:
        allowed = ", ".join(sorted(LOWERINGS))
        raise BadInput(f"operator {node.op!r} at {node.name} cannot be written as ONNX yet; allowed: {allowed}")
    try:
        return LOWERINGS[node.op](graph, node)
    except BadInput:
        raise
    except (*MISFITS, ValidationError, InferenceError) as error:
        message = f"operator {node.op!r} at {node.name} cannot be written as ONNX with these arguments: {_line(error)}"
        raise BadInput(message) from error


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _flat(output: Any, key: str = "") -> list[tuple[str, Value]]:
    """Return (the nearest key of a dict, value) for every value that a network returns, in order."""
    if isinstance(output, dict):
        return [pair for k, v in output.items() for pair in _flat(v, str(k))]
    if isinstance(output, list | tuple):
        return [pair for item in output for pair in _flat(item, key)]
    return [(key, output)] if isinstance(output, Value) else []
