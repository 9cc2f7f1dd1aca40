"""The memory hierarchy of Eyeriss: equations against counting by hand, and the paper's comparison on AlexNet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paredown.core.cost import Layer
from paredown.core.errors import BadInput
from paredown.cost.hierarchy import (
    ARRAY,
    BUFFER,
    DATAFLOWS,
    DRAM,
    NO_REUSE,
    Chip,
    Shape,
    Split,
    best_split,
    energy_per_mac,
)
from paredown.cost.tiny import convolution

ALEXNET = {
    "conv1": (Shape(16, 96, 3, 11, 55, 227, 4), 1), "conv2": (Shape(16, 128, 48, 5, 27, 31), 2),
    "conv3": (Shape(16, 384, 256, 3, 13, 15), 1), "conv4": (Shape(16, 192, 192, 3, 13, 15), 2),
    "conv5": (Shape(16, 128, 192, 3, 13, 15), 2),
}  # fmt: skip


def test_no_reuse_is_801() -> None:
    assert NO_REUSE == 801


def test_row_stationary_beats_the_others_by_1_4_to_2_5() -> None:
    """Section VII-C: on AlexNet's convolutions, 1.4 to 2.5 times."""
    total = {flow: sum(n * s.macs * energy_per_mac(s, flow) for s, n in ALEXNET.values()) for flow in DATAFLOWS}
    ratios = {flow: value / total["row stationary"] for flow, value in total.items() if flow != "row stationary"}
    assert round(min(ratios.values()), 1) == 1.4 and round(max(ratios.values()), 1) == 2.5, ratios


@pytest.mark.parametrize("name", ["conv2", "conv5"])
def test_every_dataflow_is_between_full_and_no_reuse(name: str) -> None:
    shape, _ = ALEXNET[name]
    for flow in DATAFLOWS:
        assert 1 < energy_per_mac(shape, flow) < NO_REUSE / 20


def test_more_buffer_never_costs_more() -> None:
    shape = Shape(1, 32, 32, 3, 14, 16)
    costs = [sum(best_split(shape, "row stationary", Chip(buffer_words=words))) for words in (8192, 32768, 131072)]
    assert costs == sorted(costs, reverse=True)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_an_operand_is_counted_level_by_level(a: int, b: int, c: int, d: int) -> None:
    counted = 0.0
    for _ in range(a):
        counted += DRAM
        for _ in range(b):
            counted += BUFFER
            for _ in range(c):
                counted += ARRAY + d
    split = Split.of(a * b * c * d, a, c, d)
    assert split == Split(a, b, c, d) and split.operand() == pytest.approx(counted)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_a_sum_takes_one_addition_less_than_it_has_terms(a: int, b: int, c: int, d: int) -> None:
    """Reads and writes of partial sums, joined group by group: n partial sums are n writes and n - 1 reads."""
    registers = 2 * (d - 1) * a * b * c
    array = (c - 1) * a * b * ARRAY
    buffer = 2 * (b - 1) * a * BUFFER
    assert Split(a, b, c, d).sums() == pytest.approx(registers + array + buffer + (2 * a - 1) * DRAM)


@given(st.floats(1, 1e6), st.floats(1, 100), st.floats(0.1, 1e4), st.floats(0.1, 1e4))
def test_uses_are_kept_whatever_is_asked(uses: float, dram: float, array: float, register: float) -> None:
    split = Split.of(uses, dram, array, register)
    assert split.dram * split.buffer * split.array * split.register == pytest.approx(uses)
    assert min(split.dram, split.array, split.register) >= 1 - 1e-9 and split.buffer >= 1 - 1e-9


def test_more_reuse_in_registers_is_never_worse() -> None:
    costs = [Split.of(4096, 1, 8, register).operand() for register in (1, 4, 16, 64, 512)]
    assert costs == sorted(costs, reverse=True)


def test_shapes_come_from_layers() -> None:
    assert Shape.of(convolution("x", (3, 96), (55, 55), (11, 11), 4), 2) == Shape(2, 96, 3, 11, 55, 220, 4)
    with pytest.raises(BadInput, match="'r' has no loops"):
        Shape.of(Layer("r", "relu", "activation", (1,)))
