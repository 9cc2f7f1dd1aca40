"""Labels through recurrent layers: a hidden channel is a row of every gate, a column of the recurrent weight, an output."""

from typing import Any

import numpy as np

from paredown.graph.flow import Flow, rule
from paredown.graph.labels import Track
from paredown.graph.spec import Node, Slot, Value

GATES = {"rnn_tanh.input": 1, "rnn_relu.input": 1, "gru.input": 3, "lstm.input": 4}
"""How many rows of a weight each hidden channel has."""


@rule("zeros")
def _zeros(flow: Flow, node: Node) -> Track:
    """A state that begins with zeros: it has as many channels as the layer that reads it."""
    return flow.neutral(flow.shapes[node.name])


@rule(*GATES)
def _recurrent(flow: Flow, node: Node) -> Any:
    track, given = flow.track(node.args["input"]), node.args["params"]
    states = node.args["hx"] if isinstance(node.args["hx"], list | tuple) else [node.args["hx"]]
    each = (4 if node.get("has_biases") else 2) * node.args["num_layers"] * (1 + node.get("bidirectional"))
    begun = [leaf for leaf in states if isinstance(leaf, Value) and _is_zeros(flow, leaf)]
    if track is None or len(given) != each or not all(isinstance(leaf, Slot) for leaf in given):
        return flow.stop(node, "has computed weights or projections")
    if len(begun) < len(states):
        return flow.stop(node, "is given a state")
    hidden = _tied(flow, node, track, [str(leaf) for leaf in given])
    for leaf in begun:
        flow.fillers[str(leaf)] = (2, hidden)
    out = _made(flow, node)
    both = 1 + node.get("bidirectional")
    return (Track(out[0], 2, np.tile(hidden, both)), *(Track(shape, 2, hidden) for shape in out[1:]))


def _is_zeros(flow: Flow, leaf: Value) -> bool:
    return any(n.name == leaf and n.op == "zeros" for n in flow.net.spec.nodes)


def _tied(flow: Flow, node: Node, track: Track, params: list[str]) -> np.ndarray:
    """Tie all that belongs to one hidden channel, in every layer and direction, and return the channels' labels."""
    gates, both = GATES[node.op], 1 + node.get("bidirectional")
    hidden = flow.axis((params[1], 1))
    each = 4 if node.get("has_biases") else 2
    for at in range(0, len(params), each):
        inputs, recurrent, *biases = params[at : at + each]
        flow.labels.tie(flow.axis((recurrent, 1)), hidden)
        for name in (inputs, recurrent, *biases):
            flow.labels.tie(flow.axis((name, 0)).reshape(gates, -1), hidden[None])
        if at // each < both:
            flow.bind(track, 2, (inputs, 1), f"{node.name} reads along another dimension")
        else:
            flow.labels.tie(flow.axis((inputs, 1)), np.tile(hidden, both))
        for name in (inputs, recurrent):
            flow.makers.setdefault((name, 0), []).append(node.name)
        flow.readers.setdefault((inputs, 1), []).append(node.name)
    return hidden


def _made(flow: Flow, node: Node) -> list[tuple[int, ...]]:
    """Return the shapes of what a recurrent layer returns: all outputs, then the last states."""
    batch, steps = flow.shapes[str(node.args["input"])][:2] if isinstance(node.args["input"], Value) else (1, 1)
    both, hidden = 1 + node.get("bidirectional"), len(flow.axis((str(node.args["params"][1]), 1)))
    states = (node.args["num_layers"] * both, batch if node.get("batch_first") else steps, hidden)
    return [(batch, steps, hidden * both)] + [states] * (2 if node.op == "lstm.input" else 1)
