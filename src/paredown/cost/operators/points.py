"""Operators that treat every value alone: activations and arithmetic between tensors."""

from paredown.cost.arithmetic import Arithmetic, Call, counts

ACTIVATIONS = {
    "relu": Arithmetic(compares=1),
    "relu6": Arithmetic(compares=2),
    "hardtanh": Arithmetic(compares=2),
    "clamp_min": Arithmetic(compares=1),
    "leaky_relu": Arithmetic(compares=1, mults=1),
    "prelu": Arithmetic(compares=1, mults=1),
    "hardsigmoid": Arithmetic(adds=1, compares=2, mults=1),  # relu6(x + 3) / 6
    "hardswish": Arithmetic(adds=1, compares=2, mults=2),
    "sigmoid": Arithmetic(adds=1, specials=2),  # 1 / (1 + exp −x)
    "silu": Arithmetic(adds=1, specials=2, mults=1),
    "tanh": Arithmetic(specials=1),
    "selu": Arithmetic(compares=1, adds=1, specials=1, mults=2),
    "mish": Arithmetic(adds=1, specials=3, mults=1),  # x tanh(log(1 + exp x))
}
"""What each activation costs per value."""


def _activation(op: str) -> None:
    @counts("activation", op)
    def count(call: Call) -> Arithmetic:
        return ACTIVATIONS[op] * call.outputs


for _op in ACTIVATIONS:
    _activation(_op)


@counts("activation", "elu")
def elu(call: Call) -> Arithmetic:
    """alpha (exp x − 1) below zero."""
    return Arithmetic(compares=1, adds=1, specials=1, mults=int(call.get("alpha") != 1)) * call.outputs


@counts("activation", "softplus")
def softplus(call: Call) -> Arithmetic:
    """log(1 + exp(beta x)) / beta, or x where that is the same."""
    return Arithmetic(compares=1, adds=1, specials=2, mults=2 * int(call.get("beta") != 1)) * call.outputs


@counts("activation", "clamp")
def clamp(call: Call) -> Arithmetic:
    """One comparison for each bound that is given."""
    return Arithmetic(compares=sum(call.node.args.get(end) is not None for end in ("min", "max"))) * call.outputs


@counts("activation", "gelu")
def gelu(call: Call) -> Arithmetic:
    """x/2 (1 + erf(x/√2)), or with tanh: x/2 (1 + tanh(c (x + d x³)))."""
    exact = call.get("approximate") == "none"
    return (
        Arithmetic(mults=3, adds=1, specials=1) if exact else Arithmetic(mults=6, adds=2, specials=1)
    ) * call.outputs


@counts("activation", "fake_quantize_per_tensor_affine", "_fake_quantize_learnable_per_tensor_affine")
def requantize(call: Call) -> Arithmetic:
    """A fixed-point multiplication (its shift rounds), the zero point, two limits."""
    return Arithmetic(mults=1, adds=1, compares=2) * call.outputs


@counts("elementwise", "add.Tensor", "sub.Tensor", "rsub.Scalar")
def add(call: Call) -> Arithmetic:
    """One addition, and a multiplication where the second is scaled."""
    return Arithmetic(adds=1, mults=int(call.get("alpha") != 1)) * call.outputs


@counts("elementwise", "mul.Tensor", "square")
def multiply(call: Call) -> Arithmetic:
    """One multiplication."""
    return Arithmetic(mults=1) * call.outputs


@counts("elementwise", "div.Tensor", "sqrt", "rsqrt", "exp", "log", "erf", "sin", "cos", "reciprocal")
def special(call: Call) -> Arithmetic:
    """One special function."""
    return Arithmetic(specials=1) * call.outputs


@counts(
    "elementwise", "maximum", "minimum", "eq.Scalar", "ne.Scalar", "gt.Scalar", "ge.Scalar", "lt.Scalar", "le.Scalar"
)
def larger(call: Call) -> Arithmetic:
    """One comparison."""
    return Arithmetic(compares=1) * call.outputs


@counts("elementwise", "pow.Tensor_Scalar")
def power(call: Call) -> Arithmetic:
    """A square is one multiplication, a cube two; any other power a special function, the first power nothing."""
    products = {1: Arithmetic(), 2: Arithmetic(mults=1), 3: Arithmetic(mults=2)}
    return products.get(call.get("exponent"), Arithmetic(specials=1)) * call.outputs


@counts("elementwise", "neg", "abs")
def sign(call: Call) -> Arithmetic:
    """Changing a sign is free."""
    return Arithmetic()
