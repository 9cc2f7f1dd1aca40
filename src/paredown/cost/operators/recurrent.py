"""Recurrent layers: their gates, step after step."""

from paredown.cost.arithmetic import Arithmetic, Call, counts
from paredown.cost.operators.points import ACTIVATIONS
from paredown.cost.operators.products import sums

SIGMOID, TANH, RELU = ACTIVATIONS["sigmoid"], ACTIVATIONS["tanh"], ACTIVATIONS["relu"]


def _unrolled(call: Call, gates: Arithmetic, apart: int = 0) -> Arithmetic:
    """Return steps × (both products of every gate, their sum, `gates` per hidden value), over layers and directions.

    `apart` gates do not add their two products here: their sum is part of `gates`.
    """
    per_layer = _weights_per_direction(call)
    steps = call.shape("input")[1 if call.get("batch_first") else 0]
    total = Arithmetic()
    for at in range(0, len(call.get("params")), per_layer):
        wide, inside = call.shape_of(call.get("params")[at])
        hidden = call.shape_of(call.get("params")[at + 1])[1]
        biased = bool(call.get("has_biases"))
        both = sums(wide, inside, biased) + sums(wide, hidden, biased)
        total += (both + Arithmetic(adds=wide - apart * hidden) + gates * hidden) * steps
    return total


def _weights_per_direction(call: Call) -> int:
    return len(call.get("params")) // (int(call.get("num_layers")) * (2 if call.get("bidirectional") else 1))


@counts("recurrent", "rnn_tanh.input")
def rnn_tanh(call: Call) -> Arithmetic:
    """One gate with tanh."""
    return _unrolled(call, TANH)


@counts("recurrent", "rnn_relu.input")
def rnn_relu(call: Call) -> Arithmetic:
    """One gate with a ReLU."""
    return _unrolled(call, RELU)


@counts("recurrent", "lstm.input")
def lstm(call: Call) -> Arithmetic:
    """Three sigmoids, tanh of the candidate and of the cell; c = f c + i g; h = o tanh c."""
    return _unrolled(call, SIGMOID * 3 + TANH * 2 + Arithmetic(mults=3, adds=1))


@counts("recurrent", "gru.input")
def gru(call: Call) -> Arithmetic:
    """Two sigmoids, one tanh; n = tanh(Wx + r (Wh)); h = (1 − z) n + z h."""
    return _unrolled(call, SIGMOID * 2 + TANH + Arithmetic(mults=3, adds=3), apart=1)
