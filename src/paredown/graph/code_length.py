"""How long codes will be in the packed file, from counts alone: no coding, so cheap enough to steer by. Needs no torch.

The contexts are those of `methods.code.adaptive.Levels`, of trees of indices and of patterns of zeros. A context that saw n₀ zeros and n₁ ones takes Krichevsky
and Trofimov's code length, −log₂ of Γ(n₀+½) Γ(n₁+½) / (Γ(½)² Γ(n₀+n₁+1)), and DRIFT for each bit, for it forgets.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import gammaln

from paredown.graph.zero_pattern import LEAST, Pattern, candidates, questions

FINE = 2048
"""From so many levels on contexts are fine (as `methods.code.adaptive.FINE`, which a test holds to be equal)."""
DRIFT = 0.0025
"""Bits lost on each decision of a context that has seen more than its limit: about 1 / (2 · 257 · ln 2)."""
STEPS, TOLD, LIMIT = 2, 3, 255
GAIN, TOLL = 0.99, 24
"""A pattern of zeros pays where it takes less than this share of the bits; naming it takes about so many."""
THIN = 1 / 1000
"""With fewer bits an entry there is no pattern: no byte stands for more than 16,384 entries."""
_BOUNDS = np.array([0, 1, 2, 4, 7, 12, 20, 40, 80])


def context_bits(zeros: np.ndarray, ones: np.ndarray) -> float:
    """Return the bits that contexts take which saw so many zeros and ones."""
    total = zeros + ones
    lengths = 2 * gammaln(0.5) + gammaln(total + 1) - gammaln(zeros + 0.5) - gammaln(ones + 0.5)
    return float(lengths.sum()) / math.log(2) + DRIFT * float(
        np.maximum(total - LIMIT, 0)[(zeros > 0) & (ones > 0)].sum()
    )


def level_bits(codes: np.ndarray, fine: bool | None = None) -> float:
    """Return about how many bits signed integers take under a fresh model; in more than one dimension they are a weight.

    fine: which of the two models; by the number of levels if None.
    """
    return _level_lengths(codes, codes.size >= FINE if fine is None else fine)[0]


def level_pattern(codes: np.ndarray) -> Pattern | None:
    """Return the pattern of a weight's zeros with which its integers take the fewest bits, if one pays."""
    return _level_lengths(codes, codes.size >= FINE)[1]


def _level_lengths(codes: np.ndarray, fine: bool) -> tuple[float, Pattern | None]:
    sizes = np.abs(codes.ravel().astype(np.int64))
    if not sizes.size:
        return 0.0, None
    near = np.zeros_like(sizes)
    near[1:] = sizes[:-1]
    near[2:] += sizes[:-2]
    seen = np.searchsorted(_BOUNDS, near) if fine else np.minimum(near, 2)
    there = sizes > 0
    negative = int((codes.ravel() < 0).sum())
    rest = context_bits(np.array([there.sum() - negative]), np.array([negative]))
    kind, left = (seen if fine else np.zeros_like(seen))[there], sizes[there]
    for step in range(1, STEPS + 1):
        rest += decisions(kind, left > step)
        kind, left = kind[left > step], left[left > step]
    rest += beyond_bits(kind, left - STEPS)

    def under(pattern: Pattern) -> float:
        contexts, found, free = questions(codes != 0, pattern)
        return rest + decisions(contexts, found) + decisions(seen[free], there[free])

    return _best(codes, rest + decisions(seen, there), under)


def _best(values: np.ndarray, bits: float, under: Callable[[Pattern], float]) -> tuple[float, Pattern | None]:
    """Return the fewest bits, and with which pattern of a weight's zeros; `bits` are without one."""
    zeros = values.size - np.count_nonzero(values)
    if values.ndim < 2 or values.size < LEAST or not 0.05 * values.size < zeros < values.size:
        return bits, None
    named = [(under(pattern) + TOLL, pattern) for pattern in candidates(values != 0)]
    paying = [one for one in named if one[0] < GAIN * bits and one[0] > THIN * values.size]
    return min(paying, key=lambda one: one[0]) if paying else (bits, None)


def beyond_bits(kind: np.ndarray, beyond: np.ndarray) -> float:
    """Return the bits of numbers from 1 in the shape of Elias's gamma code: digits in unary, three told, the rest even."""
    if not beyond.size:
        return 0.0
    width = np.frexp(beyond)[1] - 1
    bits = float(np.maximum(width - TOLD, 0).sum())
    for at in range(int(width.max()) + 1):
        asked = width >= at
        bits += decisions(kind[asked], width[asked] > at)
    for own in range(1, int(width.max()) + 1):
        numbers = beyond[width == own]
        place = np.ones_like(numbers)
        for at in range(1, min(TOLD, own) + 1):
            digit = numbers >> (own - at) & 1
            bits += decisions(place, digit.astype(bool))
            place = 2 * place + digit
    return bits


def decisions(contexts: np.ndarray, found: np.ndarray) -> float:
    """Return the bits of answers, each under the context of its number."""
    if not contexts.size:
        return 0.0
    every, ones = np.bincount(contexts), np.bincount(contexts, weights=found)
    return context_bits(every - ones, ones)


def index_bits(indices: np.ndarray, count: int) -> float:
    """Return about how many bits indices below `count` take through a tree; in more than one dimension they are a weight's."""
    return _index_lengths(indices, count)[0]


def index_pattern(indices: np.ndarray, count: int) -> Pattern | None:
    """Return the pattern of a weight's zeros with which its indices take the fewest bits, if one pays."""
    return _index_lengths(indices, count)[1]


def _index_lengths(indices: np.ndarray, count: int) -> tuple[float, Pattern | None]:
    flat = indices.ravel().astype(np.int64)

    def under(pattern: Pattern) -> float:
        contexts, found, free = questions(indices != 0, pattern)
        left = flat[free] if count <= 2 else flat[free | (flat > 0)]
        return decisions(contexts, found) + _tree_bits(left, count)

    return _best(indices, _tree_bits(flat, count), under)


def _tree_bits(flat: np.ndarray, count: int) -> float:
    width, bits = max(1, (count - 1).bit_length()), 0.0
    for at in range(width):
        bits += decisions((1 << at) + (flat >> (width - at)), (flat >> (width - at - 1) & 1).astype(bool))
    return bits
