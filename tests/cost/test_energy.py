"""Energy from counted work: the table's own values, its interpolation, and the two numbers of the lecture."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paredown.core.cost import Layer
from paredown.cost.energy import Placement, at_width, energy, mac_pj, parts, table
from paredown.cost.tiny import linear, tiny

NOTHING = Layer("x", "x", "linear", (1,))


def test_the_table_gives_back_what_stands_in_it() -> None:
    assert mac_pj(8, 8) == pytest.approx(0.3)
    assert mac_pj(16, 16) == pytest.approx(1.5)
    assert mac_pj(32, 32) == pytest.approx(4.6)
    assert mac_pj(1, 1) <= 0.01
    assert "Horowitz" in table().source


def test_weights_from_dram_cost_more_than_the_arithmetic() -> None:
    alexnet = replace(NOTHING, stored_bits=61_000_000 * 32, macs=724_000_000, mults=724_000_000, adds=724_000_000)
    found = parts(alexnet, Placement(weights="dram"))
    assert found.weights_uj == pytest.approx(39.04e3)
    assert found.macs_uj == pytest.approx(3.3304e3)
    assert found.other_uj == 0
    assert parts(alexnet, Placement(weights="sram")).weights_uj == pytest.approx(found.weights_uj / 128)


@given(st.floats(1, 64), st.floats(1, 64))
def test_wider_never_costs_less(a: float, b: float) -> None:
    for known in (table().int_add_pj, table().int_mult_pj, table().float_mult_pj):
        low, high = sorted((a, b))
        assert at_width(known, low) <= at_width(known, high) * (1 + 1e-12)


def test_between_widths_is_a_power_law() -> None:
    known = {8: 0.2, 32: 3.1}
    assert at_width(known, 16) == pytest.approx((0.2 * 3.1) ** 0.5)
    assert at_width(known, 16) / at_width(known, 8) == pytest.approx(at_width(known, 4) / at_width(known, 2))


def test_fewer_bits_cost_less_step_by_step() -> None:
    costs = [mac_pj(bits, bits) for bits in (1, 2, 4, 8, 16, 32)]
    assert all(a < b for a, b in itertools.pairwise(costs))
    assert mac_pj(4, 8) == pytest.approx(mac_pj(8, 4))


def test_everything_adds_up() -> None:
    layers = tiny("ic")
    found = energy(layers)
    assert found.value == pytest.approx(sum(parts(layer).total_uj for layer in layers))
    assert found.what == "energy_uj" and "horowitz" in found.model and found.version
    macs = sum(layer.macs for layer in layers) * 0.3
    bits = sum(layer.stored_bits for layer in layers) * 640 / 32
    moved = sum(layer.reads + layer.writes for layer in layers) * 8 * 5 / 32
    assert found.value == pytest.approx((macs + bits + moved) / 1e6)


def test_arithmetic_beside_the_macs_counts() -> None:
    adder = replace(NOTHING, adds=1000, compares=500)
    assert parts(adder).other_uj == pytest.approx(1500 * 0.9 / 1e6)


def test_zeros_can_be_skipped() -> None:
    half = replace(linear("x", 100, 100), weights_nonzero=5000)
    assert parts(half, Placement(skip_zeros=True)).macs_uj == pytest.approx(parts(half).macs_uj / 2)
