"""The estimate of coded bytes: within 2 % of what the coder takes, and much faster."""

import numpy as np
import pytest

from paredown.graph import code_length
from paredown.graph.code_length import context_bits, index_bits, index_pattern, level_bits, level_pattern
from paredown.graph.zero_pattern import Groups, Layout, Tiles
from paredown.methods.code import adaptive, range_coder
from paredown.methods.code.adaptive import Levels
from paredown.methods.code.range_coder import Encoder
from paredown.targets import streams


def coded(values: np.ndarray) -> float:
    coder = Encoder()
    Levels(values.size >= adaptive.FINE).row(coder, values.size, values.ravel().tolist())
    return len(coder.finish())


SOURCES = {
    "4 bits": lambda draw, n: np.round(draw.normal(0, 2, n)).clip(-8, 7),
    "8 bits": lambda draw, n: np.round(draw.normal(0, 30, n)).clip(-128, 127),
    "sparse": lambda draw, n: np.round(draw.laplace(0, 2, n)) * (draw.random(n) < 0.1),
    "ternary": lambda draw, n: draw.integers(-1, 2, n),
    "by filter": lambda draw, n: np.round(np.repeat(np.exp(draw.normal(0, 1, n // 50)), 50) * draw.normal(0, 1, n // 50 * 50)),
    "wide": lambda draw, n: draw.integers(-30000, 30000, n),
}  # fmt: skip


@pytest.mark.parametrize("size", [1000, 6000, 30000])
@pytest.mark.parametrize("name", SOURCES)
def test_the_length_of_levels_is_known_within_two_percent(name: str, size: int) -> None:
    for seed in range(2):
        values = SOURCES[name](np.random.default_rng(seed), size).astype(np.int64)
        assert level_bits(values) / 8 == pytest.approx(coded(values), rel=0.02, abs=2)


@pytest.mark.parametrize("shape", [(128, 64), (64, 32, 3, 3)])
@pytest.mark.parametrize("name", ["groups", "tiles"])
def test_the_length_of_levels_whose_zeros_lie_by_a_pattern_is_too(name: str, shape: tuple[int, ...]) -> None:
    draw = np.random.default_rng(0)
    codes = np.round(draw.normal(0, 2, shape)).clip(-8, 7).astype(np.int64)
    matrix = codes.reshape(shape[0], -1)
    if name == "tiles":
        matrix *= (draw.random((shape[0] // 8, matrix.shape[1] // 8)) < 0.3).repeat(8, 0).repeat(8, 1)
    else:
        groups = codes.reshape(shape[0], -1, 4, matrix.shape[1] // shape[1])
        groups *= draw.random(groups.shape).argsort(2) < 2
    pattern = level_pattern(codes)
    assert pattern == (Tiles(8, 8) if name == "tiles" else Groups(2, 4))
    data = streams.write_levels(codes.reshape(1, -1), ["matrix"], True, False, Layout(pattern, shape))
    assert level_bits(codes) / 8 == pytest.approx(len(data), rel=0.02)
    assert level_bits(codes) < 0.97 * level_bits(codes.ravel())
    marks = (codes != 0).astype(np.int64)
    data = streams.write_indices(marks.ravel(), 1, Layout(pattern, shape))
    assert index_pattern(marks, 2) == pattern and index_bits(marks, 2) / 8 == pytest.approx(len(data), rel=0.02, abs=4)


@pytest.mark.parametrize("count", [2, 16, 200])
def test_the_length_of_indices_is_known_within_two_percent(count: int) -> None:
    draw = np.random.default_rng(0)
    values = np.minimum(draw.geometric(0.1, 20000), count) - 1
    assert index_bits(values, count) / 8 == pytest.approx(
        len(streams.write_indices(values, (count - 1).bit_length())), rel=0.02
    )


def test_a_context_takes_krichevsky_and_trofimovs_length() -> None:
    """Of 01101: 1/2 · (1/2)/2 · (3/2)/3 … multiplied out."""
    zeros, ones, chance = 0, 0, 1.0
    for bit in (0, 1, 1, 0, 1):
        chance *= ((ones if bit else zeros) + 0.5) / (zeros + ones + 1)
        zeros, ones = zeros + 1 - bit, ones + bit
    assert context_bits(np.array([2]), np.array([3])) == pytest.approx(-np.log2(chance))
    assert level_bits(np.zeros(0, int)) == 0 and context_bits(np.array([0]), np.array([0])) == pytest.approx(
        0, abs=1e-9
    )


def test_it_speaks_of_the_same_coder() -> None:
    assert (code_length.FINE, code_length.STEPS, code_length.TOLD) == (adaptive.FINE, adaptive.STEPS, adaptive.TOLD)
    assert range_coder.LIMIT == code_length.LIMIT
    classes = [adaptive.neighbourhood(near, True) for near in range(200)]
    assert np.searchsorted(code_length._BOUNDS, np.arange(200)).tolist() == classes
