"""ONNX operators that work on every value by itself, or on two tensors, as ATen operators; one small function each."""

import math
from dataclasses import dataclass, replace
from typing import Any

from paredown.core.errors import BadInput
from paredown.graph.raised import Call, Const, Levels, Raised, raises
from paredown.graph.spec import Value

_UNARY = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "HardSwish": "hardswish", "Mish": "mish", "Neg": "neg",
    "Abs": "abs", "Sqrt": "sqrt", "Exp": "exp", "Log": "log", "Softplus": "softplus",
    "Sin": "sin", "Cos": "cos", "Reciprocal": "reciprocal",
}  # fmt: skip


@raises(*_UNARY)
def _unary(g: Raised, c: Call) -> Value:
    return g.emit(_UNARY[c.node.op_type], self=c.value())


@raises("LeakyRelu")
def _leaky_relu(g: Raised, c: Call) -> Value:
    return g.emit("leaky_relu", self=c.value(), negative_slope=_short(c.get("alpha", 0.01)))


def _short(value: float) -> float:
    """Return a float32 of the file as the decimal number that was meant."""
    return float(f"{value:.7g}")


@raises("Elu")
def _elu(g: Raised, c: Call) -> Value:
    return g.emit("elu", self=c.value(), alpha=_short(c.get("alpha", 1.0)))


@raises("Selu")
def _selu(g: Raised, c: Call) -> Value:
    alpha, gamma = c.get("alpha", 1.6732632), c.get("gamma", 1.0507009)
    if math.isclose(alpha, 1.6732632, rel_tol=1e-5) and math.isclose(gamma, 1.0507009, rel_tol=1e-5):
        return g.emit("selu", self=c.value())
    return g.emit("elu", self=c.value(), alpha=_short(alpha), scale=_short(gamma))


@raises("HardSigmoid")
def _hard_sigmoid(g: Raised, c: Call) -> Value:
    alpha, beta = c.get("alpha", 0.2), c.get("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5:
        return g.emit("hardsigmoid", self=c.value())
    line = g.emit("add.Tensor", self=g.emit("mul.Tensor", self=c.value(), other=_short(alpha)), other=_short(beta))
    return g.emit("clamp", self=line, min=0, max=1)


@raises("Gelu")
def _gelu(g: Raised, c: Call) -> Value:
    return g.emit("gelu", self=c.value(), approximate=c.get("approximate", "none"))


@raises("PRelu")
def _prelu(g: Raised, c: Call) -> Value:
    """Slopes are one for all, or one for each channel."""
    slope, shape = c.const(1), g.shape(c.value())
    if slope is None:
        raise BadInput("it has no slope")
    aligned = (1,) * (len(shape) - len(slope.shape)) + slope.shape
    if slope.array.size > 1 and (len(shape) < 2 or aligned != (1, shape[1], *[1] * (len(shape) - 2))):
        raise BadInput(f"its slopes have the shape {slope.shape}; they must be one, or one for each channel")
    return g.emit("prelu", self=c.value(), weight=g.leaf(slope.shaped((slope.array.size,)), c.node.output[0]))


@raises("Clip")
def _clip(g: Raised, c: Call) -> Any:
    """Between QuantizeLinear and DequantizeLinear it leaves fewer levels."""
    levels = c.input(0)
    if isinstance(levels, Levels):
        fewer, (first, last) = (c.number(1, "min"), c.number(2, "max")), levels.span
        span = (
            first if fewer[0] is None else max(first, int(fewer[0])),
            last if fewer[1] is None else min(last, int(fewer[1])),
        )
        return replace(levels, span=span)
    ends = (c.number(1, "min"), c.number(2, "max"))
    low, high = (None if end is None or abs(end) > 3e38 else _short(end) for end in ends)
    if (low, high) == (0, 6):
        return g.emit("relu6", self=c.value())
    if low is None and high is None:
        return c.value()
    if (low, high) == (0, None):
        return g.emit("relu", self=c.value())
    return g.emit("clamp", self=c.value(), min=low, max=high)


@raises("Softmax", "LogSoftmax")
def _softmax(g: Raised, c: Call) -> Value:
    """Before opset 13 it works on all dimensions from the axis on, as if they were one."""
    shape = g.shape(c.value())
    axis = c.get("axis", -1 if c.opset >= 13 else 1) % len(shape)
    if c.opset < 13 and math.prod(shape[axis + 1 :]) > 1:
        raise BadInput("it works across several dimensions, as opset 12 and below do; write the file with opset 13")
    return g.emit("softmax.int" if c.node.op_type == "Softmax" else "log_softmax.int", self=c.value(), dim=axis)


@dataclass(frozen=True)
class Bell:
    """A GELU written out, x · ½ · (1 + erf(x / √2)), while it is being read: its x, and the factors still to come."""

    x: Value
    missing: frozenset[str]


@raises("Erf")
def _erf(g: Raised, c: Call) -> Any:
    node = g.nodes.get(c.value())
    scale = {"div.Tensor": 0.5**-0.5, "mul.Tensor": 0.5**0.5}.get(node.op, 0.0) if node else 0.0
    if node is None or not _near(node.args.get("other"), scale) or not isinstance(node.args["self"], Value):
        return g.emit("erf", self=c.value())
    return Bell(node.args["self"], frozenset({"one", "x", "half"}))


def _near(found: Any, wanted: float) -> bool:
    return isinstance(found, int | float) and math.isclose(found, wanted, rel_tol=1e-4)


def _rung(g: Raised, c: Call) -> Any:
    """Return what an unfinished GELU becomes by an addition or multiplication: the next Bell, or the finished value."""
    bell = next(found for found in c.inputs if isinstance(found, Bell))
    other = next((found for found in c.inputs if found is not bell), None)
    number = other.array.item() if isinstance(other, Const) and other.array.size == 1 else None
    node = g.nodes.get(other) if isinstance(other, Value) else None
    done: set[str] = set()
    if c.node.op_type == "Add" and _near(number, 1.0):
        done = {"one"}
    elif c.node.op_type == "Mul" and "one" not in bell.missing and _near(number, 0.5):
        done = {"half"}
    elif c.node.op_type == "Mul" and "one" not in bell.missing and other == bell.x:
        done = {"x"}
    elif (
        node is not None and node.op == "mul.Tensor" and node.args["self"] == bell.x and _near(node.args["other"], 0.5)
    ):
        done = {"x", "half"}
    if not done or not done <= bell.missing:
        raise BadInput("an error function is understood only as part of a GELU")
    left = bell.missing - done
    return replace(bell, missing=left) if left else g.emit("gelu", self=bell.x)


@raises("Add", "Sum")
def _add(g: Raised, c: Call) -> Any:
    if any(isinstance(found, Bell) for found in c.inputs):
        return _rung(g, c)
    if fused := _biased(g, c):
        return fused
    return _chained(g, c, "add.Tensor")


@raises("Mul")
def _mul(g: Raised, c: Call) -> Any:
    if any(isinstance(found, Bell) for found in c.inputs):
        return _rung(g, c)
    return _chained(g, c, "mul.Tensor")


def _chained(g: Raised, c: Call, op: str) -> Value:
    """Join all the inputs by an operator whose operands can change places; a constant comes second."""
    leaves = sorted(c.inputs, key=lambda found: not isinstance(found, Value))
    made = c.value(next(at for at, found in enumerate(c.inputs) if isinstance(found, Value)))
    for found in leaves[1:]:
        made = g.emit(op, self=made, other=g.operand(found))
    return made


def _biased(g: Raised, c: Call) -> Value | None:
    """Add a stored vector after a linear layer without bias as that layer's bias; None where it is no such sum."""
    for at, found in enumerate(c.inputs if len(c.inputs) == 2 else ()):
        value = c.inputs[1 - at]
        node = g.nodes.get(value) if isinstance(value, Value) else None
        if not isinstance(found, Const) or node is None or node.op != "linear" or "bias" in node.args:
            continue
        width = g.shape(node.args["weight"])[:1]
        fits = found.trained and found.shape[-1:] == width and found.array.size == width[0]
        if fits and g.once(c.node.input[1 - at]):
            return g.amend(Value(value), bias=g.leaf(found.shaped(width), node.args["weight"]))
    return None


@raises("Sub", "Div")
def _ordered(g: Raised, c: Call) -> Value:
    op = "sub.Tensor" if c.node.op_type == "Sub" else "div.Tensor"
    first, second = c.input(0), c.input(1)
    if isinstance(first, Const) and first.array.size == 1 and op == "sub.Tensor":
        return g.emit("add.Tensor", self=g.emit("neg", self=c.value(1)), other=g.operand(first))
    if isinstance(first, Const) and first.array.size == 1:
        turned = g.emit("pow.Tensor_Scalar", self=c.value(1), exponent=-1)
        return turned if first.array.item() == 1 else g.emit("mul.Tensor", self=turned, other=g.operand(first))
    return g.emit(op, self=g.leaf(first), other=g.operand(second))


@raises("Pow")
def _pow(g: Raised, c: Call) -> Value:
    exponent = c.const(1)
    if exponent is None or exponent.array.size != 1:
        raise BadInput("its exponent must be one constant number")
    power = exponent.array.item()
    if power == 2:
        return g.emit("square", self=c.value())
    return g.emit("pow.Tensor_Scalar", self=c.value(), exponent=power)


@raises("Max", "Min")
def _extreme(g: Raised, c: Call) -> Value:
    """With one constant number it is a clamp."""
    op, end = ("maximum", "min") if c.node.op_type == "Max" else ("minimum", "max")
    values = [found for found in c.inputs if isinstance(found, Value)]
    made: Any = values[0]
    for found in [*values[1:], *(f for f in c.inputs if not isinstance(f, Value))]:
        if isinstance(found, Const) and found.array.size == 1:
            made = g.emit("clamp", self=made, **{end: found.array.item()})
        else:
            made = g.emit(op, self=made, other=g.leaf(found))
    return made


@raises("Dropout")
def _dropout(g: Raised, c: Call) -> Value:
    ratio = c.number(1, "ratio")
    return g.emit("dropout", input=c.value(), p=0.5 if ratio is None else _short(ratio), train=False)


@raises("Cast", "CastLike")
def _cast(g: Raised, c: Call) -> Value:
    """Between kinds of floats nothing happens: the network computes in float32."""
    if c.node.op_type == "Cast" and c.get("to") not in (1, 10, 11, 16):
        raise BadInput("it turns values that flow into integers")
    return c.value()


_COMPARED = {
    "Equal": "eq.Scalar", "Greater": "gt.Scalar", "GreaterOrEqual": "ge.Scalar", "Less": "lt.Scalar",
    "LessOrEqual": "le.Scalar",
}  # fmt: skip


@raises(*_COMPARED)
def _compared(g: Raised, c: Call) -> Value:
    other = c.const(1)
    if other is None or other.array.size != 1:
        raise BadInput("it compares with something that is no single number")
    return g.emit(_COMPARED[c.node.op_type], self=c.value(), other=other.array.item())


@raises("Not")
def _not(g: Raised, c: Call) -> Value:
    node = g.nodes.get(c.value())
    if node is None or node.op != "eq.Scalar":
        raise BadInput("a negation is understood only of a comparison for equality")
    return g.emit("ne.Scalar", **node.args)


@raises("Where")
def _where(g: Raised, c: Call) -> Value:
    first = c.input(1)
    if isinstance(first, Const) and first.array.size == 1 and isinstance(c.input(2), Value):
        return g.emit("masked_fill.Scalar", self=c.value(2), mask=c.value(), value=first.array.item())
    return g.emit("where.self", condition=c.value(), self=g.leaf(first), other=g.leaf(c.input(2)))
