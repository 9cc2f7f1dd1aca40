"""Huffman's code: the textbook's lengths, within one bit of the entropy, and a prefix code that is canonical."""

import time
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.codec import CodecContract
from paredown.core.errors import BadInput, Damaged
from paredown.methods.code.huffman import Huffman, canonical, code_lengths, limited_lengths


class TestHuffman(CodecContract):
    def part(self) -> Huffman:
        return Huffman()


CLRS = {"f": 45, "b": 13, "c": 12, "d": 16, "e": 9, "a": 5}


def test_the_textbooks_example() -> None:
    """Cormen, Leiserson, Rivest, Stein: 45, 13, 12, 16, 9, 5 have lengths 1, 3, 3, 3, 4, 4; 224 in all (E3)."""
    weights = dict(enumerate((45, 13, 12, 16, 9, 5)))
    lengths = code_lengths(weights)
    assert [lengths[i] for i in range(6)] == [1, 3, 3, 3, 4, 4]
    assert sum(lengths[i] * weights[i] for i in weights) == 224


weights = st.dictionaries(st.integers(-1000, 1000), st.integers(1, 10_000), min_size=1, max_size=40)


@given(weights)
@settings(max_examples=150, deadline=None)
def test_lengths_are_optimal_within_a_bit_and_the_code_is_canonical(counts: dict[int, int]) -> None:
    lengths = code_lengths(counts)
    total = sum(counts.values())
    share = np.array([counts[s] for s in lengths]) / total
    entropy = float(-(share * np.log2(share)).sum())
    mean = sum(counts[s] * n for s, n in lengths.items()) / total
    assert entropy - 1e-9 <= mean <= max(1.0, entropy + 1)
    assert len(counts) == 1 or sum(2.0**-n for n in lengths.values()) == 1  # Kraft: no code is left over
    table = canonical(lengths)
    words = {s: format(code, f"0{n}b") for s, (code, n) in table.items()}
    assert all(len(words[s]) == n for s, n in lengths.items())
    assert not any(a != b and words[b].startswith(words[a]) for a in words for b in words)
    order = sorted(words, key=lambda s: (lengths[s], s))
    assert [words[s] for s in order] == sorted(words.values())  # shorter first, then by symbol, in numerical order


def brute(weights: list[int]) -> int:
    """Return the least total length of a prefix code, by trying all merges."""
    if len(weights) == 1:
        return 0
    best = 10**9
    for a in range(len(weights)):
        for b in range(a):
            rest = [w for i, w in enumerate(weights) if i not in (a, b)]
            best = min(best, weights[a] + weights[b] + brute([*rest, weights[a] + weights[b]]))
    return best


@given(st.lists(st.integers(1, 30), min_size=2, max_size=5))
@settings(max_examples=40, deadline=None)
def test_no_prefix_code_is_shorter(counts: list[int]) -> None:
    lengths = code_lengths(dict(enumerate(counts)))
    assert sum(counts[i] * n for i, n in lengths.items()) == brute(counts)


arrays = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=60)


@given(
    st.one_of(
        arrays, st.lists(st.integers(-3, 3), max_size=200), st.lists(st.sampled_from([0, 0, 0, 0, 7]), max_size=200)
    )
)
@settings(max_examples=150, deadline=None)
def test_every_array_of_integers_comes_back(values: list[int]) -> None:
    array = np.array(values, dtype=np.int64)
    again = Huffman().decode(Huffman().encode(array), array.size)
    assert again.dtype == np.int64 and again.tolist() == values


def test_it_is_within_a_bit_a_symbol_of_the_entropy_on_data() -> None:
    values = np.random.default_rng(0).geometric(0.4, 5000)
    share = np.array(list(Counter(values.tolist()).values())) / 5000
    entropy = float(-(share * np.log2(share)).sum())
    bits = 8 * len(Huffman().encode(values))
    assert 5000 * entropy <= bits <= 5000 * min(entropy + 1, np.ceil(np.log2(len(share)))) + 8 * 40


def test_a_very_uneven_source_has_long_codes_that_are_read_back() -> None:
    """Fibonacci's weights give the deepest tree there is."""
    a, b, values = 1, 1, []
    for symbol in range(18):
        values += [symbol] * a
        a, b = b, a + b
    array = np.array(values)
    assert max(code_lengths(Counter(values)).values()) == 17
    assert Huffman().decode(Huffman().encode(array), array.size).tolist() == values


@given(st.binary(max_size=200), st.integers(0, 1000))
@settings(max_examples=200, deadline=None)
def test_rubbish_is_damage_or_integers_in_bounded_time(data: bytes, size: int) -> None:
    start = time.process_time()
    try:
        assert Huffman().decode(data, size).shape == (size,)
    except BadInput as error:
        assert isinstance(error, Damaged)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0", b"\xff\xff\xff", b"\0\0\1\xff" * 50])
def test_data_without_a_table_is_damage(data: bytes) -> None:
    with pytest.raises(Damaged):
        Huffman().decode(data, 5)


def least_limited(counts: list[int], limit: int) -> int:
    """Return the least total length of a code with lengths up to `limit`, by trying all lengths that Kraft allows."""
    ways = product(range(1, limit + 1), repeat=len(counts))
    return min(sum(n * w for n, w in zip(counts, way, strict=True)) for way in ways if sum(2.0**-n for n in way) <= 1)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=5), st.integers(3, 5))
@settings(max_examples=40, deadline=None)
def test_no_code_within_the_limit_is_shorter(counts: list[int], limit: int) -> None:
    lengths = limited_lengths(dict(enumerate(counts)), limit)
    assert max(lengths.values()) <= limit
    assert sum(counts[i] * n for i, n in lengths.items()) == least_limited(counts, limit)


@given(weights)
@settings(max_examples=100, deadline=None)
def test_a_limit_that_does_not_bind_changes_no_total(counts: dict[int, int]) -> None:
    free, bound = code_lengths(counts), limited_lengths(counts, 32)
    assert sum(counts[s] * n for s, n in free.items()) == sum(counts[s] * n for s, n in bound.items())
    tight = limited_lengths(counts, max(1, (len(counts) - 1).bit_length()))
    assert len(counts) == 1 or sum(2.0**-n for n in tight.values()) <= 1


def test_a_limited_code_is_read_back_and_costs_little() -> None:
    a, b, values = 1, 1, []
    for symbol in range(18):
        values += [symbol] * a
        a, b = b, a + b
    array = np.array(values)
    free, bound = Huffman().encode(array), Huffman(8).encode(array)
    assert max(limited_lengths(Counter(values), 8).values()) == 8
    assert Huffman().decode(bound, array.size).tolist() == values
    assert len(free) <= len(bound) <= 1.05 * len(free)
    with pytest.raises(BadInput, match="take 5"):
        Huffman(4).encode(array)
