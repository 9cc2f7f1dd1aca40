"""ONNX's recurrent layers as ATen's; one layer each, in one direction or both."""

from typing import Any

import numpy as np

from paredown.core.errors import BadInput
from paredown.graph.frozen import Plain
from paredown.graph.raised import Call, Const, Raised, raises
from paredown.graph.spec import Value

GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""Where ATen's gates stand among ONNX's (input, output, forget, cell; update, reset, new)."""


@raises(*GATES)
def _recurrent(g: Raised, c: Call) -> list[Value]:
    """Return all outputs, [steps, directions, batch, hidden], and the last states."""
    kind, ways = c.node.op_type, ["forward", "bidirectional"].index(c.get("direction", "forward")) + 1
    if c.get("layout", 0) or any(c.input(at) is not None for at in range(4, 8)):
        raise BadInput("lengths, first states, peepholes and the batch first are not supported")
    if kind == "GRU" and not c.get("linear_before_reset", 0):
        raise BadInput("its reset comes before the product; allowed: linear_before_reset=1")
    shape, hidden = g.shape(c.value()), c.get("hidden_size")
    begun = g.emit("zeros", size=[ways, g.emit("sym_size.int", self=c.value(), dim=1), hidden])
    args = {"params": _params(g, c, ways), "has_biases": c.const(3) is not None, "num_layers": 1, "dropout": 0.0}
    made = g.emit(
        _op(c), input=c.value(), hx=[begun, begun] if kind == "LSTM" else begun, **args,
        train=False, bidirectional=ways == 2, batch_first=False,
    )  # fmt: skip
    out, *last = g.parts(made, 3 if kind == "LSTM" else 2)
    apart = g.emit("reshape", self=out, shape=[shape[0], -1, ways, hidden])
    return [g.emit("permute", self=apart, dims=[0, 2, 1, 3]), *last]


def _op(c: Call) -> str:
    if c.node.op_type != "RNN":
        return f"{c.node.op_type.lower()}.input"
    names = {name.decode() if isinstance(name, bytes) else name for name in c.get("activations", ["Tanh"])}
    if len(names) != 1 or not names <= {"Tanh", "Relu"}:
        raise BadInput(f"its activations are {', '.join(sorted(names))}; allowed: Tanh or Relu")
    return f"rnn_{names.pop().lower()}.input"


def _params(g: Raised, c: Call, ways: int) -> list[Any]:
    """Return the slots of each direction's weights and biases, in ATen's order of gates."""
    order = GATES[c.node.op_type]

    def part(at: int, way: int, half: int | None = None) -> Any:
        found = c.const(at)
        assert found is not None
        rows = found.array[way]
        rows = rows if half is None else np.split(rows, 2)[half]
        gates = np.split(rows, len(order))
        array = np.concatenate([gates[place] for place in order])
        return g.leaf(Const(Plain(array), f"{c.node.output[0]}.{at}_{way}_{half or 0}", True))

    names = [(1, None), (2, None)] + ([(3, 0), (3, 1)] if c.const(3) is not None else [])
    return [part(at, way, half) for way in range(ways) for at, half in names]
