"""Recurrent layers as ONNX operators. Needs no torch."""

from typing import Any

from paredown.core.errors import BadInput
from paredown.graph.spec import Node
from paredown.targets.onnx_graph import Graph, lowers

KINDS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "lstm.input": ("LSTM", (0, 3, 1, 2), {}),
    "gru.input": ("GRU", (1, 0, 2), {"linear_before_reset": 1}),
    "rnn_tanh.input": ("RNN", (0,), {}),
    "rnn_relu.input": ("RNN", (0,), {}),
}
"""ATen's name to ONNX's, the order of the gates there (input, output, forget, cell; update, reset, new), and settings."""


@lowers("zeros")
def state(g: Graph, node: Node) -> str:
    """A recurrent layer's first state: what ONNX takes where none is given."""
    if any(user.op not in KINDS for user in g.frozen.spec.users(node.name)):
        raise BadInput("zeros that depend on the batch can only be a recurrent layer's first state")
    return ""


@lowers(*KINDS)
def recurrent(g: Graph, node: Node) -> list[str]:
    """Append one operator for each layer, both directions in one; they read and write the steps first."""
    states = node.args["hx"] if isinstance(node.args["hx"], list | tuple) else [node.args["hx"]]
    if any(g.names[leaf] for leaf in states):
        raise BadInput("a recurrent layer is given a first state that is not zeros")
    x, first = g.name(node.args["input"]), node.get("batch_first")
    x = g.emit("Transpose", x, perm=[1, 0, 2]) if first else x
    both, each = 1 + node.get("bidirectional"), 4 if node.get("has_biases") else 2
    ends: list[list[str]] = []
    for layer in range(node.args["num_layers"]):
        at = layer * both * each
        x, *last = _layer(g, node, x, [list(node.args["params"][at + way * each :][:each]) for way in range(both)])
        ends.append(last)
    joined = [g.emit("Concat", *states, axis=0) if len(states) > 1 else states[0] for states in zip(*ends, strict=True)]
    return [g.emit("Transpose", x, perm=[1, 0, 2]) if first else x, *joined]


def _layer(g: Graph, node: Node, x: str, ways: list[list[object]]) -> list[str]:
    """Append one layer and return the names of its outputs, [steps, batch, both · hidden], and of its last states."""
    op, order, settings = KINDS[node.op]
    hidden = g.shape(ways[0][1])[-1]
    weights = [_ways(g, [_gates(g, g.name(way[part]), len(order), order) for way in ways]) for part in (0, 1)]
    if node.get("has_biases"):
        biases = [
            g.emit("Concat", *(_gates(g, g.name(way[part]), len(order), order) for part in (2, 3)), axis=0)
            for way in ways
        ]
        weights.append(_ways(g, biases))
    if op == "RNN":
        settings = {"activations": ["Relu" if "relu" in node.op else "Tanh"] * len(ways)}
    direction = "bidirectional" if len(ways) > 1 else "forward"
    count = 3 if op == "LSTM" else 2
    y, *last = g.emit(op, x, *weights, count=count, hidden_size=hidden, direction=direction, **settings)
    y = g.emit("Transpose", y, perm=[0, 2, 1, 3])
    return [g.emit("Reshape", y, g.ints(0, 0, -1)), *last]


def _gates(g: Graph, name: str, gates: int, order: tuple[int, ...]) -> str:
    """Return rows of gates in ONNX's order."""
    if gates == 1:
        return name
    rows = g.types[name].tensor_type.shape.dim[0].dim_value // gates
    parts = g.emit("Split", name, g.ints(*[rows] * gates), count=gates, axis=0)
    return g.emit("Concat", *(parts[at] for at in order), axis=0)


def _ways(g: Graph, names: list[str]) -> str:
    """Return one tensor per direction as one tensor, the directions first."""
    stacked = [g.emit("Unsqueeze", name, g.ints(0)) for name in names]
    return g.emit("Concat", *stacked, axis=0) if len(stacked) > 1 else stacked[0]
