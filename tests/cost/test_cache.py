"""The cache against closed forms: blocked products, and two convolutions together."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.cost.cache import Pair, Traffic, block_for, product, product_bound, traffic


@pytest.mark.parametrize("n, words", [(16, 32), (32, 96), (32, 320), (48, 320)])
def test_a_blocked_product_moves_what_the_formula_says(n: int, words: int) -> None:
    block = block_for(words)
    assert n % block == 0
    assert traffic(product(n, block), words) == Traffic(2 * n**3 // block, n * n)


def test_blocked_traffic_is_about_the_bound_and_plain_loops_are_far_above() -> None:
    n, words = 48, 320
    blocked, plain = traffic(product(n, block_for(words)), words).total, traffic(product(n, 1), words).total
    assert product_bound(n, words) == pytest.approx(2 * n**3 / math.sqrt(words))
    assert product_bound(n, words) <= blocked < 1.4 * product_bound(n, words)
    assert plain > 5 * blocked


def test_a_large_cache_moves_everything_once() -> None:
    assert traffic(product(12, 12), 10**6) == Traffic(2 * 144, 144)


@settings(max_examples=20)
@given(st.integers(2, 10), st.integers(1, 5), st.integers(1, 60))
def test_more_cache_never_moves_more(n: int, block: int, words: int) -> None:
    """Least-recent replacement is a stack algorithm (Mattson 1970): a larger cache holds what a smaller one does."""
    assert traffic(product(n, block), words + 7).reads <= traffic(product(n, block), words).reads


def test_convolutions_together_never_move_what_lies_between() -> None:
    pair, words = Pair(side=16, channels=2), 260
    between = 14 * 14 * 2
    fused, apart = traffic(pair.fused(), words), traffic(pair.layerwise(), words)
    assert fused == Traffic(16 * 16 * 2, 12 * 12 * 2)
    assert apart.total > fused.total + 1.9 * between * 0.9
    assert traffic(pair.layerwise(), 10**6) == fused
