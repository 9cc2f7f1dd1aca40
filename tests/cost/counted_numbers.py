"""Numbers that count what is done with them, and every operator as a plain loop over them, written from its definition.

The loops know nothing of the counters under test. Each returns its values too, so a test can hold them to torch's.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

DONE: Counter[str] = Counter()
"""How many multiplications, additions, comparisons and special functions were executed."""


class Number:
    """A real number whose arithmetic is counted."""

    __slots__ = ("value",)

    def __init__(self, value: float) -> None:
        self.value = float(value)

    def _did(self, what: str, value: float) -> "Number":
        DONE[what] += 1
        return Number(value)

    def __add__(self, other: Any) -> "Number":
        return self._did("adds", self.value + plain(other))

    def __sub__(self, other: Any) -> "Number":
        return self._did("adds", self.value - plain(other))

    def __rsub__(self, other: Any) -> "Number":
        return self._did("adds", plain(other) - self.value)

    def __mul__(self, other: Any) -> "Number":
        return self._did("mults", self.value * plain(other))

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Any) -> "Number":
        return self._did("specials", self.value / plain(other))

    def __rtruediv__(self, other: Any) -> "Number":
        return self._did("specials", plain(other) / self.value)

    def __neg__(self) -> "Number":
        return Number(-self.value)

    def __abs__(self) -> "Number":
        return Number(abs(self.value))

    def function(self, f: Callable[[float], float]) -> "Number":
        """Return a special function of the number."""
        return self._did("specials", f(self.value))

    def largest(self, other: Any) -> "Number":
        """Return the larger of two."""
        return self._did("compares", max(self.value, plain(other)))

    def smallest(self, other: Any) -> "Number":
        """Return the smaller of two."""
        return self._did("compares", min(self.value, plain(other)))

    def below(self, bound: float) -> bool:
        """Whether the number is below a bound."""
        DONE["compares"] += 1
        return self.value < bound


def plain(x: Any) -> float:
    """Return a number's value."""
    return x.value if isinstance(x, Number) else float(x)


def numbers(array: Any) -> np.ndarray:
    """Return an array of counted numbers."""
    return np.vectorize(Number, otypes=[object])(np.asarray(array, dtype=float))


def values(array: Any) -> np.ndarray:
    """Return the values of an array of counted numbers."""
    return np.vectorize(plain, otypes=[float])(array)


def total(terms: Any) -> Any:
    """Return the sum of terms, begun with the first."""
    terms = list(np.ravel(terms))
    result = terms[0]
    for term in terms[1:]:
        result = result + term
    return result


def most(terms: Any) -> Any:
    """Return the largest of terms."""
    terms = list(np.ravel(terms))
    result = terms[0]
    for term in terms[1:]:
        result = result.largest(term)
    return result


def mean(terms: Any) -> Any:
    """Return the mean: a sum and a product with 1/n."""
    return total(terms) * (1 / np.size(terms))


def each(f: Callable[..., Any], *arrays: Any) -> np.ndarray:
    """Return f of every value (and its partners after broadcasting)."""
    return np.vectorize(f, otypes=[object])(*arrays)


def dot(a: Any, b: Any) -> Any:
    """Return the sum of products."""
    return total([x * y for x, y in zip(np.ravel(a), np.ravel(b), strict=True)])


def convolve(x: Any, w: Any, b: Any, stride: int, padding: int, dilation: int, groups: int) -> np.ndarray:
    """Return a convolution over any number of dimensions, padding values multiplied like others."""
    dims = w.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *[(padding, padding)] * dims], constant_values=Number(0))
    sizes = [(x.shape[2 + d] - dilation * (w.shape[2 + d] - 1) - 1) // stride + 1 for d in range(dims)]
    out = np.empty((x.shape[0], w.shape[0], *sizes), dtype=object)
    inside, per = w.shape[1], w.shape[0] // groups
    for n, o, *at in np.ndindex(*out.shape):
        window = tuple(
            slice(a * stride, a * stride + dilation * (w.shape[2 + d] - 1) + 1, dilation) for d, a in enumerate(at)
        )
        first = o // per * inside
        out[(n, o, *at)] = dot(x[(n, slice(first, first + inside), *window)], w[o])
        if b is not None:
            out[(n, o, *at)] = out[(n, o, *at)] + b[o]
    return out


def convolve_back(x: Any, w: Any, b: Any, stride: int, padding: int, dilation: int, groups: int) -> np.ndarray:
    """Return a transposed convolution: every input meets every weight, what falls together is added, then cropped."""
    dims = w.ndim - 2
    full = [(x.shape[2 + d] - 1) * stride + dilation * (w.shape[2 + d] - 1) + 1 for d in range(dims)]
    out = np.full((x.shape[0], w.shape[1] * groups, *full), None, dtype=object)
    per = w.shape[0] // groups
    for n, i, *at in np.ndindex(*x.shape):
        for o, *tap in np.ndindex(*w.shape[1:]):
            place = (n, i // per * w.shape[1] + o, *[a * stride + t * dilation for a, t in zip(at, tap, strict=True)])
            made = x[(n, i, *at)] * w[(i, o, *tap)]
            out[place] = made if out[place] is None else out[place] + made
    out = out[(..., *[slice(padding, size - padding) for size in full])]
    out = each(lambda v: Number(0) if v is None else v, out)
    return out if b is None else each(lambda v, c: v + c, out, b.reshape(1, -1, *[1] * dims))


def product(a: Any, b: Any) -> np.ndarray:
    """Return the matrix product of the last two dimensions."""
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = np.broadcast_to(a, (*lead, *a.shape[-2:])), np.broadcast_to(b, (*lead, *b.shape[-2:]))
    out = np.empty((*lead, a.shape[-2], b.shape[-1]), dtype=object)
    for at in np.ndindex(*out.shape):
        out[at] = dot(a[(*at[:-2], at[-2])], b[(*at[:-2], slice(None), at[-1])])
    return out


def linear(x: Any, w: Any, b: Any = None) -> np.ndarray:
    """Return x wᵀ + b."""
    out = product(x.reshape(-1, x.shape[-1]), w.T).reshape(*x.shape[:-1], len(w))
    return out if b is None else each(lambda v, c: v + c, out, b)


def softmax(row: Any) -> np.ndarray:
    """Return the softmax of one row."""
    top = most(row)
    powers = [(v - top).function(math.exp) for v in row]
    whole = total(powers)
    return np.array([p / whole for p in powers], dtype=object)


def log_softmax(row: Any) -> np.ndarray:
    """Return the logarithm of the softmax of one row."""
    top = most(row)
    moved = [v - top for v in row]
    whole = total([m.function(math.exp) for m in moved]).function(math.log)
    return np.array([m - whole for m in moved], dtype=object)


def attend(q: Any, k: Any, v: Any, mask: Any = None) -> np.ndarray:
    """Return scaled dot-product attention with a mask that is added to the scores."""
    scores = each(lambda s: s * (1 / math.sqrt(q.shape[-1])), product(q, np.swapaxes(k, -1, -2)))
    scores = scores if mask is None else each(lambda s, m: s + m, scores, mask)
    return product(np.apply_along_axis(softmax, -1, scores), v)


def windows(x: Any, kernel: int, stride: int, dims: int, of: Callable[[Any], Any]) -> np.ndarray:
    """Return a function of every window of the last `dims` dimensions."""
    sizes = [(size - kernel) // stride + 1 for size in x.shape[-dims:]]
    out = np.empty((*x.shape[:-dims], *sizes), dtype=object)
    for at in np.ndindex(*out.shape):
        window = tuple(slice(a * stride, a * stride + kernel) for a in at[-dims:])
        out[at] = of(x[(*at[:-dims], *window)])
    return out


def adaptive(x: Any, into: tuple[int, ...], of: Callable[[Any], Any]) -> np.ndarray:
    """Return a function of the windows that divide the last dimensions into `into` parts."""
    dims = len(into)
    out = np.empty((*x.shape[:-dims], *into), dtype=object)
    for at in np.ndindex(*out.shape):
        window = tuple(
            slice(math.floor(a * s / n), math.ceil((a + 1) * s / n))
            for a, s, n in zip(at[-dims:], x.shape[-dims:], into, strict=True)
        )
        out[at] = of(x[(*at[:-dims], *window)])
    return out


def normalise(block: Any, centre: bool = True, eps: float = 1e-5) -> np.ndarray:
    """Return a block less its mean (or as it is), over its root mean square."""
    middle = mean(block) if centre else None
    moved = each(lambda v: v - middle, block) if centre else block
    scale = (mean(each(lambda v: v * v, moved)) + eps).function(lambda v: 1 / math.sqrt(v))
    return each(lambda v: v * scale, moved)


def affine(x: Any, scale: Any, shift: Any) -> np.ndarray:
    """Return x · scale + shift, where they are given."""
    x = x if scale is None else each(lambda v, s: v * s, x, scale)
    return x if shift is None else each(lambda v, s: v + s, x, shift)


def bilinear(x: Any, into: tuple[int, int]) -> np.ndarray:
    """Return a picture resized with four prepared weights for each place (corners not aligned)."""
    out = np.empty((*x.shape[:-2], *into), dtype=object)

    def taps(at: int, size: int, n: int) -> tuple[int, int, float]:
        where = max(0.0, (at + 0.5) * size / n - 0.5)
        low = min(int(where), size - 1)
        return low, min(low + 1, size - 1), where - low

    for *lead, i, j in np.ndindex(*out.shape):
        (a, b, p), (c, d, q) = taps(i, x.shape[-2], into[0]), taps(j, x.shape[-1], into[1])
        ready = {(a, c, 0): (1 - p) * (1 - q), (a, d, 1): (1 - p) * q, (b, c, 2): p * (1 - q), (b, d, 3): p * q}
        out[(*lead, i, j)] = total([x[(*lead, y, z)] * w for (y, z, _), w in ready.items()])
    return out


SIGMOID = [lambda v: 1 / ((-v).function(math.exp) + 1)]


def sigmoid(v: Number) -> Number:
    """Return 1 / (1 + exp −v)."""
    return SIGMOID[0](v)


def tanh(v: Number) -> Number:
    """Return the hyperbolic tangent."""
    return v.function(math.tanh)


def recur(kind: str, x: Any, weights: list[Any], layers: int, directions: int) -> np.ndarray:
    """Return the outputs of a recurrent network over (steps, features), batch first and alone."""
    per = len(weights) // (layers * directions)
    for layer in range(layers):
        sides = []
        for side in range(directions):
            own = weights[(layer * directions + side) * per :][:per]
            steps = x if side == 0 else x[::-1]
            made = _one_direction(kind, steps, own)
            sides.append(made if side == 0 else made[::-1])
        x = np.concatenate(sides, axis=-1)
    return x


def _one_direction(kind: str, steps: Any, weights: list[Any]) -> np.ndarray:
    wi, wh, bi, bh = (*weights, None, None)[:4]
    width = wh.shape[1]
    h = c = np.array([Number(0) for _ in range(width)], dtype=object)
    made = []
    for x in steps:
        a, b = linear(x[None], wi, bi)[0], linear(h[None], wh, bh)[0]
        if kind in ("rnn_tanh", "rnn_relu"):
            squash = tanh if kind == "rnn_tanh" else (lambda v: v.largest(0))
            h = each(squash, a + b)
        elif kind == "lstm":
            i, f, g, o = np.split(a + b, 4)
            c = each(sigmoid, f) * c + each(sigmoid, i) * each(tanh, g)
            h = each(sigmoid, o) * each(tanh, c)
        else:
            r, z = each(sigmoid, a[:width] + b[:width]), each(sigmoid, a[width : 2 * width] + b[width : 2 * width])
            n = each(tanh, a[2 * width :] + r * b[2 * width :])
            h = each(lambda z: 1 - z, z) * n + z * h
        made.append(h)
    return np.array(made, dtype=object)


def over(x: Any, dims: tuple[int, ...], of: Callable[[Any], Any]) -> np.ndarray:
    """Return a function of the values along some dimensions, which are dropped."""
    kept = [d for d in range(x.ndim) if d not in dims]
    moved = np.transpose(x, [*kept, *dims])
    out = np.empty([x.shape[d] for d in kept], dtype=object)
    for at in itertools.product(*(range(x.shape[d]) for d in kept)):
        out[at] = of(moved[at])
    return out
