"""Run-length coding of sparse activations, as Eyeriss moves them to and from DRAM.

Y.-H. Chen et al., Eyeriss: an energy-efficient reconfigurable accelerator for deep CNNs, JSSC 2017, section V: a run of up
to 31 zeros (5 bits) and the value after it (16 bits) make a pair; three pairs and a flag on the last word fill 64 bits.
"""

import numpy as np

from paredown.core.errors import Damaged

RUN_BITS, LEVEL_BITS, PAIRS = 5, 16, 3
LONGEST = 2**RUN_BITS - 1
PAIR_BITS = RUN_BITS + LEVEL_BITS


def encode(values: np.ndarray) -> bytes:
    """Return the code of 16-bit integers, a multiple of 8 bytes. Trailing zeros and unused pairs cost what they fill."""
    flat = np.asarray(values, dtype=np.int16).ravel()
    pairs = _pairs(flat)
    words = [pairs[at : at + PAIRS] for at in range(0, len(pairs), PAIRS)]
    coded = [_word(word, last=at == len(words) - 1) for at, word in enumerate(words)]
    return np.array(coded, dtype="<u8").tobytes()


def decode(code: bytes, size: int) -> np.ndarray:
    """Return the `size` 16-bit integers of a code. Raises Damaged when it does not hold exactly as many."""
    if len(code) % 8 or not (code or size == 0):
        raise Damaged(f"a run-length code of {len(code)} bytes is not made of 64-bit words")
    found = np.zeros(size, dtype=np.int16)
    at = 0
    for index, word in enumerate(np.frombuffer(code, "<u8").tolist()):
        if (word >> 63) != (8 * (index + 1) == len(code)):
            raise Damaged("the last word of a run-length code is not where its flag is")
        for slot in range(PAIRS):
            pair = word >> (slot * PAIR_BITS)
            at += pair & LONGEST
            if at < size:
                found[at] = np.array((pair >> RUN_BITS) & 0xFFFF, dtype=np.uint16).view(np.int16)
            at += 1
    if at < size:
        raise Damaged(f"a run-length code holds {at} values where {size} are expected")
    return found


def _pairs(flat: np.ndarray) -> list[tuple[int, int]]:
    """Return (zeros, value after them); a run longer than 31 is cut by pairs whose value is itself a zero."""
    found, after = [], 0
    for at in [*np.flatnonzero(flat).tolist(), len(flat)]:
        zeros = at - after
        found += [(LONGEST, 0)] * (zeros // (LONGEST + 1))
        if at < len(flat):
            found.append((zeros % (LONGEST + 1), int(flat[at]) & 0xFFFF))
        elif rest := zeros % (LONGEST + 1):
            found.append((rest - 1, 0))
        after = at + 1
    return found


def _word(pairs: list[tuple[int, int]], last: bool) -> int:
    word = int(last) << 63
    for slot, (run, level) in enumerate(pairs):
        word |= (run | level << RUN_BITS) << (slot * PAIR_BITS)
    return word


def expected_ratio(density: float) -> float:
    """Return coded ÷ plain bits where each value is nonzero by itself with this probability; never more than 1.

    A nonzero value takes a pair, a run of zeros one more for every 32: density ÷ (1 − (1 − density)³²) pairs a value, and
    a pair takes 64 / 3 bits. A map that would not shrink is moved plain.

    >>> round(expected_ratio(0.3), 3), expected_ratio(0.9)
    (0.4, 1.0)
    """
    if density <= 0:
        return 64 / PAIRS / LEVEL_BITS / (LONGEST + 1)
    pairs = density / (1 - (1 - density) ** (LONGEST + 1))
    return min(1.0, pairs * 64 / PAIRS / LEVEL_BITS)
