"""Index costs against counting: relative positions decoded again, and the entropy against all masks of a density."""

import math

import numpy as np
import pytest

from paredown.cost.index_cost import bitmask_bits, choices_bits, entropy_bits, relative_bits


def decoded(gaps, bits, size):
    """Return the marks that stored distances stand for; the longest distance is a filler where it is followed by more."""
    marks, place = np.zeros(size, bool), -1
    for gap, real in gaps:
        place += gap + 1
        marks[place] = real
    return marks


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_relative_positions_with_fillers_can_be_decoded(bits):
    draw = np.random.default_rng(0)
    for density in (0.02, 0.2, 0.9):
        marks = draw.random(400) < density
        stored, last = [], -1
        for place in np.flatnonzero(marks):
            gap = int(place - last - 1)
            while gap >= 2**bits:
                stored.append((2**bits - 1, False))
                gap -= 2**bits
            stored.append((gap, True))
            last = place
        assert np.array_equal(decoded(stored, bits, len(marks)), marks)
        assert relative_bits(marks, bits) == (bits * len(stored), len(stored) - int(marks.sum()))


def test_the_entropy_bounds_the_number_of_masks():
    for size, staying in ((40, 4), (40, 20), (200, 30)):
        masks = math.log2(math.comb(size, staying))
        assert masks <= entropy_bits(size, staying) <= masks + math.log2(size + 1)
    assert entropy_bits(10, 0) == entropy_bits(10, 10) == 0 and entropy_bits(10, 5) == bitmask_bits(10)


def test_n_of_m_costs_less_than_any_mask_of_its_density():
    assert choices_bits(2, 4, 25) == pytest.approx(25 * math.log2(6)) and choices_bits(2, 4, 25) < entropy_bits(100, 50)
