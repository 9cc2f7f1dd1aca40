"""Normalisations. With running statistics they are one prepared scale and shift; else they measure what they divide by."""

import math

from paredown.cost.arithmetic import Arithmetic, Call, counts
from paredown.cost.operators.windows import mean


@counts("normalisation", "batch_norm")
def batch_norm(call: Call) -> Arithmetic:
    """A prepared scale and shift with running statistics; without them one group for each channel."""
    return Arithmetic(mults=1, adds=1) * call.outputs if call.has("running_mean") else _measured(call, call.out[1])


@counts("normalisation", "instance_norm")
def instance_norm(call: Call) -> Arithmetic:
    """A prepared scale and shift with running statistics; without them one group for each channel."""
    if not call.get("use_input_stats"):
        return Arithmetic(mults=1, adds=1) * call.outputs
    return _measured(call, call.out[1])


@counts("normalisation", "group_norm")
def group_norm(call: Call) -> Arithmetic:
    """One group for each group of channels."""
    return _measured(call, int(call.get("num_groups")))


@counts("normalisation", "layer_norm")
def layer_norm(call: Call) -> Arithmetic:
    """One group for each place outside the normalised shape."""
    return _measured(call, call.outputs // math.prod(call.get("normalized_shape")))


@counts("normalisation", "rms_norm")
def rms_norm(call: Call) -> Arithmetic:
    """As a layer norm, without the mean."""
    groups = call.outputs // math.prod(call.get("normalized_shape"))
    return _scaled(call, call.outputs // groups) * groups + _affine(call)


def _measured(call: Call, groups: int) -> Arithmetic:
    """The mean of each group, n differences, then as `_scaled`, then the affine map."""
    n = call.outputs // groups
    return (mean(n) + Arithmetic(adds=n) + _scaled(call, n)) * groups + _affine(call)


def _scaled(call: Call, n: int) -> Arithmetic:
    """n squares, their mean, epsilon, a reciprocal root, n multiplications by it."""
    return Arithmetic(mults=2 * n, adds=1, specials=1) + mean(n)


def _affine(call: Call) -> Arithmetic:
    return Arithmetic(mults=int(call.has("weight")), adds=int(call.has("bias"))) * call.outputs
