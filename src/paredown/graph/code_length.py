"""How long codes will be in the packed file, from counts alone: no coding, so cheap enough to steer by. Needs no torch.

The contexts are those of `methods.code.adaptive.Levels` and of trees of indices. A context that saw n₀ zeros and n₁ ones takes Krichevsky
and Trofimov's code length, −log₂ of Γ(n₀+½) Γ(n₁+½) / (Γ(½)² Γ(n₀+n₁+1)), and DRIFT for each bit, for it forgets.
"""

import math

import numpy as np
from scipy.special import gammaln

FINE = 2048
"""From so many levels on contexts are fine (as `methods.code.adaptive.FINE`, which a test holds to be equal)."""
DRIFT = 0.0025
"""Bits lost on each decision of a context that has seen more than its limit: about 1 / (2 · 257 · ln 2)."""
STEPS, TOLD, LIMIT = 2, 3, 255
_BOUNDS = np.array([0, 1, 2, 4, 7, 12, 20, 40, 80])


def context_bits(zeros: np.ndarray, ones: np.ndarray) -> float:
    """Return the bits that contexts take which saw so many zeros and ones."""
    total = zeros + ones
    lengths = 2 * gammaln(0.5) + gammaln(total + 1) - gammaln(zeros + 0.5) - gammaln(ones + 0.5)
    return float(lengths.sum()) / math.log(2) + DRIFT * float(
        np.maximum(total - LIMIT, 0)[(zeros > 0) & (ones > 0)].sum()
    )


def level_bits(codes: np.ndarray) -> float:
    """Return about how many bits a row of signed integers takes under a fresh model; codes are read in C order."""
    sizes = np.abs(codes.ravel().astype(np.int64))
    if not sizes.size:
        return 0.0
    fine = sizes.size >= FINE
    near = np.zeros_like(sizes)
    near[1:] = sizes[:-1]
    near[2:] += sizes[:-2]
    seen = np.searchsorted(_BOUNDS, near) if fine else np.minimum(near, 2)
    there = sizes > 0
    bits = decisions(seen, there)
    negative = int((codes.ravel() < 0).sum())
    bits += context_bits(np.array([there.sum() - negative]), np.array([negative]))
    kind, left = (seen if fine else np.zeros_like(seen))[there], sizes[there]
    for step in range(1, STEPS + 1):
        bits += decisions(kind, left > step)
        kind, left = kind[left > step], left[left > step]
    return bits + beyond_bits(kind, left - STEPS)


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
    """Return about how many bits indices below `count` take through a tree of contexts."""
    width = max(1, (count - 1).bit_length())
    flat = indices.ravel().astype(np.int64)
    bits = 0.0
    for at in range(width):
        bits += decisions((1 << at) + (flat >> (width - at)), (flat >> (width - at - 1) & 1).astype(bool))
    return bits
