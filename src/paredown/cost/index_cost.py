"""What it takes to say which weights are not zero, in bits: a bit each, relative positions, or the entropy bound. Needs no torch."""

import math

import numpy as np


def bitmask_bits(weights: int) -> int:
    """Return one bit for every weight."""
    return weights


def relative_bits(marks: np.ndarray, bits: int = 4) -> tuple[int, int]:
    """Return (bits, fillers) of storing the distance from each weight that stays to the one before it.

    A distance over 2^bits is bridged by fillers, zeros that are stored as if they stayed: Han et al. 2015 (arxiv:1510.00149),
    section 2. marks: which weights stay, in the order in which they lie.

    >>> relative_bits(np.array([1, 0, 0, 1]), 2), relative_bits(np.array([0] * 9 + [1]), 2)
    ((4, 0), (6, 2))
    """
    places = np.flatnonzero(np.ravel(marks))
    gaps = np.diff(places, prepend=-1) - 1
    fillers = int((gaps // 2**bits).sum())
    return bits * (len(places) + fillers), fillers


def entropy_bits(weights: int, staying: int) -> float:
    """Return n·H(s/n): the least for a mask of which nothing but its density is known.

    >>> entropy_bits(8, 4), entropy_bits(8, 0)
    (8.0, 0.0)
    """
    if not 0 < staying < weights:
        return 0.0
    share = staying / weights
    return -weights * (share * math.log2(share) + (1 - share) * math.log2(1 - share))


def choices_bits(n: int, m: int, groups: int) -> float:
    """Return log2(m over n) for each group: the least for n of every m.

    >>> round(choices_bits(2, 4, 1), 3)
    2.585
    """
    return groups * math.log2(math.comb(m, n))
