"""Packed products are the integers' products exactly: every width, way, path, shape, padding, stride and group."""

from itertools import product as every

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.core.errors import BadInput
from paredown.graph import integers
from paredown.kernels.codes import INPUT_WIDTHS, WIDTHS, Levels, numbers
from paredown.kernels.library import built, paths
from paredown.kernels.product import Weight, Window, conv2d, convolve, matmul
from paredown.methods.quantize.xnor_net import packed_signs, xnor_product

pytestmark = pytest.mark.skipif(not built(), reason="the low-bit kernels are not built: there was no C compiler")

WEIGHTS = [(bits, odd) for bits in WIDTHS for odd in (False, True)]
WAYS = ("planes", "codes")


def levels_of(draw: np.random.Generator, bits: int, signed: bool) -> Levels:
    return Levels(bits, signed, 0 if signed else int(draw.integers(0, 2**bits)))


def inputs(draw: np.random.Generator, levels: Levels, shape: tuple[int, ...]) -> np.ndarray:
    low, high = levels.range
    return draw.choice([low, high], shape) if low == -high else draw.integers(low, high + 1, shape)


def weights(draw: np.random.Generator, kind: tuple[int, bool], shape: tuple[int, ...]) -> np.ndarray:
    values = numbers(*kind)
    ternary = kind == (2, False) and draw.random() < 0.5
    return draw.choice(values[values >= -1] if ternary else values, shape)


@given(st.sampled_from(WEIGHTS), st.sampled_from(INPUT_WIDTHS), st.booleans(), st.integers(1, 20), st.integers(1, 200),
       st.integers(1, 40), st.integers(0, 9999))  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_a_matrix_product(
    kind: tuple[int, bool], bits: int, signed: bool, rows: int, size: int, outputs: int, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    levels = levels_of(draw, bits, signed)
    x, w = inputs(draw, levels, (rows, size)), weights(draw, kind, (outputs, size))
    wanted = (x.astype(np.int64) - levels.zero) @ w.T.astype(np.int64)
    for way, path in every(WAYS, paths()):
        found = matmul(x, Weight(w, kind[0], levels, kind[1], way=way), path)
        assert found.dtype == np.int32 and (found == wanted).all(), (way, path)


@given(st.integers(1, 300), st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_signs_times_signs_are_the_float_product(size: int, seed: int) -> None:
    """And what the method's own n − 2 popcount says (XNOR-Net, section 3.2)."""
    draw = np.random.default_rng(seed)
    x, w = draw.choice([-1, 1], (5, size)), draw.choice([-1, 1], (33, size))
    found = matmul(x, Weight(w, 1, Levels(1, signed=True)))
    assert (found == x.astype(np.float32) @ w.T.astype(np.float32)).all()
    assert (found == xnor_product(packed_signs(x), packed_signs(w), size)).all()


def shapes() -> st.SearchStrategy:
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    padding = st.tuples(st.integers(0, 3), st.integers(0, 3))
    return st.tuples(
        pair, st.builds(Window, pair, padding, pair), st.integers(1, 3), st.integers(1, 40), st.integers(1, 20)
    )


@given(st.sampled_from(WEIGHTS), st.sampled_from(INPUT_WIDTHS), st.booleans(), shapes(), st.integers(0, 9999))
@settings(max_examples=80, deadline=None)
def test_a_convolution(kind: tuple[int, bool], bits: int, signed: bool, shape: tuple, seed: int) -> None:
    """Padding stands for 0, also among −1 and +1, and beside a zero point."""
    draw = np.random.default_rng(seed)
    kernel, window, groups, channels, outputs = shape
    levels = levels_of(draw, bits, signed)
    x, w = (
        inputs(draw, levels, (2, channels * groups, 7, 8)),
        weights(draw, kind, (outputs * groups, channels, *kernel)),
    )
    values, filters = torch.tensor(x - levels.zero).double(), torch.tensor(w).double()
    wanted = torch.conv2d(values, filters, None, window.stride, window.padding, window.dilation, groups).numpy()
    for way, path in every(WAYS, paths()):
        found = conv2d(x, Weight(w, kind[0], levels, kind[1], groups, way), window, path)
        assert found.dtype == np.int32 and (found == wanted).all(), (way, path)


def test_padding_among_signs_is_zero_and_not_minus_one() -> None:
    """All ones: a corner of a 3 x 3 window sees four, an edge six, the middle nine."""
    ones = np.ones((1, 5, 4, 4), int)
    found = conv2d(ones, Weight(np.ones((1, 5, 3, 3), int), 1, Levels(1, signed=True)), Window(padding=(1, 1)))
    assert (found[0, 0] == 5 * np.array([[4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4]])).all()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1, 31, 33, 64, 993])
def test_extreme_codes(way: str, size: int) -> None:
    """The largest and the smallest sums, at the edges of words and of what bytes can count."""
    for (bits, odd), input_bits, path in every(WEIGHTS, INPUT_WIDTHS, paths()):
        for levels in (Levels(input_bits), Levels(input_bits, zero=2**input_bits - 1), Levels(input_bits, signed=True)):
            for code, value in every(levels.range, (numbers(bits, odd).min(), numbers(bits, odd).max())):
                x, w = np.full((1, size), code), np.full((2, size), value)
                found = matmul(x, Weight(w, bits, levels, odd, way=way), path)
                assert (found == size * (code - levels.zero) * int(value)).all()


def test_sums_that_int32_may_not_hold_are_refused() -> None:
    """2,105,376 products of 255 and 4 just fit; one more does not."""
    most = 2**31 // (255 * 4)
    fitting = np.full((1, most), -4)
    assert matmul(np.full((1, most), 255), Weight(fitting, 4, Levels(8)))[0, 0] == -4 * 255 * most
    with pytest.raises(BadInput, match="int32 holds 2147483647"):
        Weight(np.full((1, most + 1), -4), 4, Levels(8))


@given(st.sampled_from([(1, False), (2, False), (4, False)]), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_they_are_the_integer_references_sums(kind: tuple[int, bool], seed: int) -> None:
    """`graph.integers` with factor 1 over sums small enough for its codes."""
    draw = np.random.default_rng(seed)
    w = weights(draw, kind, (6, 1, 2, 2)).astype(np.int8)
    x = draw.integers(0, 4, (2, 2, 6, 5)).astype(np.uint8)
    layer = integers.IntegerLayer(w, np.float32(1), zeros=(1, 0))
    wanted = integers.conv2d(x, layer, (2, 1), (1, 0), (1, 2), groups=2)
    found = conv2d(x, Weight(w, kind[0], Levels(2, zero=1), groups=2), Window((2, 1), (1, 0), (1, 2)))
    assert (np.clip(found, -128, 127) == wanted).all()


def test_many_pictures_are_those_one_by_one() -> None:
    draw = np.random.default_rng(0)
    x, w = draw.choice([-1, 1], (40, 64, 12, 12)), draw.choice([-1, 1], (20, 64, 3, 3))
    weight = Weight(w, 1, Levels(1, signed=True))
    together = conv2d(x, weight, Window(padding=(1, 1)))
    for at in (0, 17, 39):
        assert (together[at : at + 1] == conv2d(x[at : at + 1], weight, Window(padding=(1, 1)))).all()


@pytest.mark.parametrize("way", WAYS)
def test_nothing_in_is_nothing_out(way: str) -> None:
    weight = Weight(np.ones((5, 3, 3, 3), int), 1, Levels(1), way=way)
    assert conv2d(np.ones((0, 3, 4, 4), int), weight).shape == (0, 5, 2, 2)
    assert matmul(np.ones((0, 3), int), Weight(np.ones((5, 3), int), 1, Levels(1), way=way)).shape == (0, 5)


def test_the_faster_way_counts_popcounts() -> None:
    def way(bits: int, input_bits: int, channels: int = 64, values: tuple[int, ...] = (-1, 1)) -> str:
        return Weight(np.resize(np.array(values), (4, channels)), bits, Levels(input_bits)).way

    assert [way(1, 1), way(1, 4), way(2, 2, values=(-2, 1)), way(2, 4)] == ["planes"] * 4
    assert [way(1, 8), way(2, 4, values=(-2, 1)), way(4, 4), way(1, 1, channels=3)] == ["codes"] * 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Weight(np.ones((2, 3, 3)), 1, Levels(1)), "are not packed; allowed"),
        (lambda: Weight(np.ones((3, 3)), 1, Levels(1), groups=2), "in 2 groups"),
        (lambda: Weight(np.ones((3, 3)), 1, Levels(1), way="lut"), "way 'lut' is unknown; allowed: planes, codes"),
        (lambda: matmul(np.ones((2, 4), int), Weight(np.ones((3, 3)), 1, Levels(1))), "does not fit weights for 3"),
        (lambda: conv2d(np.ones((2, 4), int), Weight(np.ones((3, 3)), 1, Levels(1))), "no batch of pictures"),
        (lambda: convolve(np.ones((1, 2, 2, 4), np.uint8), Weight(np.ones((3, 3)), 1, Levels(1))), "4 channels"),
        (lambda: conv2d(np.ones((1, 1, 2, 2), int), Weight(np.ones((1, 1, 3, 3)), 1, Levels(1))), "smaller than the kernel"),
        (lambda: matmul(np.ones((2, 3), int), Weight(np.ones((3, 3)), 1, Levels(1)), "neon"), "the path 'neon'"),
        (lambda: matmul(np.ones((2, 3)), Weight(np.ones((3, 3)), 1, Levels(1))), "input codes are integers, not float64"),
    ],
)  # fmt: skip
def test_wrong_use_is_refused_in_one_line(make: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make()  # type: ignore[operator]
