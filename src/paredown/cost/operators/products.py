"""Convolutions, linear layers and matrix products."""

import math

from paredown.core.cost import Geometry
from paredown.cost.arithmetic import Arithmetic, Call, counts


def sums(outputs: int, terms: int, biased: bool = False) -> Arithmetic:
    """Return the cost of `outputs` sums of `terms` products each, and a bias."""
    macs = outputs * terms
    return Arithmetic(macs, macs, max(0, macs - outputs) + (outputs if biased else 0))


def _convolution(call: Call) -> Geometry:
    out, inside, *kernel = call.shape("weight")
    groups = int(call.get("groups"))
    return Geometry(inside * groups, out, tuple(kernel), call.out[-len(kernel) :], groups)


def _transposed(call: Call) -> Geometry:
    inside, out, *kernel = call.shape("weight")
    groups = int(call.get("groups"))
    return Geometry(inside, out * groups, tuple(kernel), call.shape("input")[-len(kernel) :], groups)


def _linear(call: Call) -> Geometry:
    out, inside = call.shape("weight")
    return Geometry(inside, out, (1,), (call.outputs // out,))


@counts("convolution", "conv1d", "conv2d", "conv3d", "conv1d.padding", "conv2d.padding", "conv3d.padding",
        geometry=_convolution)  # fmt: skip
def convolution(call: Call) -> Arithmetic:
    """Each output sums the kernel over the inputs of its group."""
    return sums(call.outputs, math.prod(call.shape("weight")[1:]), call.has("bias"))


@counts("convolution", "conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input", geometry=_transposed)
def transposed(call: Call) -> Arithmetic:
    """Every input value meets every weight of its group; products that fall on one place are added up there."""
    macs = call.size("input") * math.prod(call.shape("weight")[1:])
    dims = len(call.shape("weight")) - 2
    places = [
        len({at * stride + tap * dilation for at in range(size) for tap in range(kernel)})
        for size, kernel, stride, dilation in zip(
            call.shape("input")[-dims:], call.shape("weight")[2:], _each(call, "stride", dims),
            _each(call, "dilation", dims), strict=True,
        )
    ]  # fmt: skip
    touched = math.prod(places) * call.shape("weight")[1] * int(call.get("groups"))
    return Arithmetic(macs, macs, macs - touched + (call.outputs if call.has("bias") else 0))


def _each(call: Call, argument: str, dims: int) -> list[int]:
    value = list(call.get(argument))
    return value * dims if len(value) == 1 else value


@counts("linear", "linear", geometry=_linear)
def linear(call: Call) -> Arithmetic:
    """Each output sums its row of the weight."""
    return sums(call.outputs, call.shape("weight")[1], call.has("bias"))


@counts("product", "matmul", "bmm", "mm")
def matrix_product(call: Call) -> Arithmetic:
    """Each output sums a row against a column."""
    return sums(call.outputs, call.shape("self")[-1])


@counts("product", "addmm")
def matrix_product_and_sum(call: Call) -> Arithmetic:
    """A matrix product and the sum with a third matrix, each scaled where its factor is not one."""
    scales = sum(call.outputs for factor in ("alpha", "beta") if call.get(factor) != 1)
    return sums(call.outputs, call.shape("mat1")[-1], biased=True) + Arithmetic(mults=scales)


@counts("product", "scaled_dot_product_attention")
def attention(call: Call) -> Arithmetic:
    """Scores, their scale, a mask's addition, a softmax over the keys, and the mixture of the values."""
    query, keys, wide = call.shape("query"), call.shape("key")[-2], call.shape("value")[-1]
    rows = math.prod(query[:-1])
    masked = call.has("attn_mask") or bool(call.get("is_causal"))
    scores = sums(rows * keys, query[-1]) + Arithmetic(mults=rows * keys, adds=rows * keys if masked else 0)
    return scores + softmax(keys) * rows + sums(rows * wide, keys)


def softmax(n: int) -> Arithmetic:
    """Return the cost of one softmax over n values: the maximum, n differences, exponentials, their sum, n divisions."""
    return Arithmetic(adds=n + n - 1, compares=n - 1, specials=2 * n)


@counts("activation", "softmax.int")
def softmax_of(call: Call) -> Arithmetic:
    """One softmax for each line along the dimension."""
    n = call.out[call.get("dim")]
    return softmax(n) * (call.outputs // max(1, n))


@counts("activation", "log_softmax.int")
def log_softmax(call: Call) -> Arithmetic:
    """The maximum, n differences, n exponentials, their sum, one logarithm, n differences."""
    n = call.out[call.get("dim")]
    return Arithmetic(adds=n + n - 1 + n, compares=n - 1, specials=n + 1) * (call.outputs // max(1, n))
