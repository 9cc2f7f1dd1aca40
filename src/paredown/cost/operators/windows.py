"""Pooling, resizing, and sums, means and extremes over dimensions."""

import math
from itertools import product

from paredown.cost.arithmetic import Arithmetic, Call, counts


def mean(n: int) -> Arithmetic:
    """Return the cost of a mean of n values: a sum, and a multiplication by 1/n."""
    return Arithmetic(adds=n - 1, mults=1)


def _window(call: Call, dims: int) -> int:
    size = call.get("kernel_size")
    return int(size) ** dims if isinstance(size, int) else math.prod(size) ** (dims if len(size) == 1 else 1)


def _rank(call: Call) -> int:
    return int(call.node.op.removesuffix("d")[-1])


@counts("pooling", "max_pool1d", "max_pool2d", "max_pool3d")
def max_pool(call: Call) -> Arithmetic:
    """The largest of each window."""
    return Arithmetic(compares=_window(call, _rank(call)) - 1) * call.outputs


@counts("pooling", "avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(call: Call) -> Arithmetic:
    """The mean of each window."""
    return mean(_window(call, _rank(call))) * call.outputs


def _adaptive(call: Call, shape: tuple[int, ...]) -> list[int]:
    """Return the number of values in each window of an adaptive pooling, for one channel."""
    dims = _rank(call)
    inside, outside = call.shape("self")[-dims:], shape[-dims:]
    lengths = [
        [-(-(at + 1) * size // into) - at * size // into for at in range(into)]
        for size, into in zip(inside, outside, strict=True)
    ]
    return [math.prod(window) for window in product(*lengths)]


@counts("pooling", "adaptive_avg_pool1d", "adaptive_avg_pool2d")
def adaptive_avg_pool(call: Call) -> Arithmetic:
    """The mean of each window; windows differ in size where the sides do not divide."""
    windows = _adaptive(call, call.out)
    channels = call.outputs // len(windows)
    return sum((mean(n) for n in windows), Arithmetic()) * channels


@counts("pooling", "adaptive_max_pool2d")
def adaptive_max_pool(call: Call) -> Arithmetic:
    """The largest of each window; windows differ in size where the sides do not divide."""
    wanted, inside = call.get("output_size"), call.shape("self")
    sizes = [wanted] * 2 if isinstance(wanted, int) else list(wanted)
    windows = _adaptive(call, tuple(sizes))
    return Arithmetic(compares=sum(n - 1 for n in windows)) * math.prod(inside[:-2])


@counts("pooling", "upsample_bilinear2d.vec")
def bilinear(call: Call) -> Arithmetic:
    """Four neighbours with prepared weights for each place."""
    return Arithmetic(mults=4, adds=3) * call.outputs


@counts("pooling", "upsample_bicubic2d.vec")
def bicubic(call: Call) -> Arithmetic:
    """Sixteen neighbours with prepared weights for each place."""
    return Arithmetic(mults=16, adds=15) * call.outputs


@counts("pooling", "mean.dim", "mean")
def mean_over(call: Call) -> Arithmetic:
    """The mean over the dimensions that go."""
    return mean(call.size("self") // call.outputs) * call.outputs


@counts("pooling", "sum.dim_IntList", "sum")
def sum_over(call: Call) -> Arithmetic:
    """The sum over the dimensions that go, or over all."""
    return Arithmetic(adds=call.size("self") - call.outputs)


@counts("pooling", "amax", "amin")
def extreme(call: Call) -> Arithmetic:
    """The largest or smallest over the dimensions that go."""
    return Arithmetic(compares=call.size("self") - call.outputs)


@counts("pooling", "cumsum")
def running_sum(call: Call) -> Arithmetic:
    """All but the first of each line are one addition."""
    return Arithmetic(adds=call.outputs - call.outputs // call.out[call.get("dim")])


@counts("pooling", "linalg_vector_norm")
def norm(call: Call) -> Arithmetic:
    """Squares, their sum and a root; sums of magnitudes for order 1; the largest magnitude for infinity."""
    n, order = call.size("self"), float(call.get("ord"))
    if order == 1:
        return Arithmetic(adds=n - call.outputs)
    if math.isinf(order):
        return Arithmetic(compares=n - call.outputs)
    powers = Arithmetic(mults=n) if order == 2 else Arithmetic(specials=n)
    return powers + Arithmetic(adds=n - call.outputs, specials=call.outputs)
