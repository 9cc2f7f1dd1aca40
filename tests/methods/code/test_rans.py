"""rANS: frequencies that sum, sizes at the entropy and beside another implementation, and a state that must come home."""

import time
from math import log2

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts.codec import CodecContract
from paredown.core.errors import BadInput, Damaged
from paredown.methods.code.rans import LEAST, ONE, Rans, normalised, pop, push


class TestRans(CodecContract):
    def part(self) -> Rans:
        return Rans()


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=300))
@settings(max_examples=200, deadline=None)
def test_frequencies_sum_and_no_symbol_is_lost(counts: list[int]) -> None:
    found = normalised(counts)
    assert sum(found) == ONE and min(found) >= 1
    assert found == normalised(counts)
    floor = [count * ONE // sum(counts) for count in counts]
    assert all(f >= n or n > 1 for f, n in zip(found, floor, strict=True))


def length(counts: list[int], freqs: tuple[int, ...]) -> float:
    return -sum(n * log2(f / sum(freqs)) for n, f in zip(counts, freqs, strict=True))


def shares(parts: int, total: int):
    """Yield every way to share a total among parts, each at least 1."""
    if parts == 1:
        yield (total,)
        return
    for first in range(1, total - parts + 2):
        yield from ((first, *rest) for rest in shares(parts - 1, total - first))


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=4))
@example([1, 11, 84])  # the share of the rare symbol is taken from the common one
@settings(max_examples=60, deadline=None)
def test_the_frequencies_are_nearly_the_best_there_are(counts: list[int]) -> None:
    best = min(length(counts, way) for way in shares(len(counts), 16))
    assert length(counts, tuple(normalised(counts, 16))) <= 1.02 * best + 1e-9


def test_too_many_symbols_share_nothing() -> None:
    assert normalised([7] * ONE) == [1] * ONE
    with pytest.raises(BadInput):
        normalised([1] * (ONE + 1))
    with pytest.raises(BadInput):
        normalised([])


def draws(name: str, size: int = 60_000) -> np.ndarray:
    draw = np.random.default_rng(0)
    return {
        "normal": lambda: np.round(draw.normal(0, 2.5, size)).astype(int),
        "wide": lambda: np.round(draw.normal(0, 60, size)).astype(int),
        "sparse": lambda: np.round(draw.laplace(0, 2, size)).astype(int) * (draw.random(size) < 0.1),
        "ternary": lambda: draw.choice([-1, 0, 1], size, p=[0.2, 0.6, 0.2]),
        "even": lambda: draw.integers(0, 16, size),
    }[name]()


@pytest.mark.parametrize("name", ["normal", "wide", "sparse", "ternary", "even"])
def test_long_data_takes_the_normalised_entropy_and_the_table(name: str) -> None:
    values = draws(name)
    _, counts = np.unique(values, return_counts=True)
    ideal = length(counts.tolist(), tuple(normalised(counts.tolist()))) / 8
    data = Rans().encode(values)
    table = 1 + data[0] if data[0] < 128 else 2 + (data[0] & 127 | data[1] << 7)
    assert table <= 4 + 2.5 * len(counts)
    assert ideal - 4 <= len(data) - table <= 1.005 * ideal + 8


@pytest.mark.parametrize("name", ["normal", "sparse", "ternary", "even"])
def test_it_is_as_small_as_constrictions(name: str) -> None:
    """Bamler 2022, an ANS coder in Rust; its words are of 32 bits, its frequencies of 24; tables left out."""
    import constriction

    values = draws(name)
    symbols, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    coder = constriction.stream.stack.AnsCoder()
    model = constriction.stream.model.Categorical(counts / counts.sum(), perfect=False)
    coder.encode_reverse(which.astype(np.int32), model)
    theirs = coder.get_compressed().nbytes
    freqs = normalised(counts.tolist())
    _, words = push(which.tolist(), freqs, [0, *np.cumsum(freqs[:-1]).tolist()])
    assert abs(4 + 2 * len(words) - theirs) <= 0.01 * theirs
    assert len(symbols) > 1


@given(st.lists(st.integers(0, 4), max_size=300), st.lists(st.integers(1, 1000), min_size=5, max_size=5))
@settings(max_examples=150, deadline=None)
def test_the_state_comes_home_and_every_word_is_read(slots: list[int], counts: list[int]) -> None:
    freqs = normalised(counts)
    state, words = push(slots, freqs, [0, *np.cumsum(freqs[:-1]).tolist()])
    assert LEAST <= state < 1 << 32 and all(0 <= word < 1 << 16 for word in words)
    assert pop(state, words, freqs, len(slots)) == slots
    with pytest.raises(Damaged, match="does not end"):
        pop(state, [*words, 0], freqs, len(slots))
    if words:
        with pytest.raises(Damaged):
            pop(state, words[:-1], freqs, len(slots))


def test_more_symbols_than_frequencies_escape() -> None:
    draw = np.random.default_rng(0)
    even = draw.permutation(20_000)
    size = len(Rans().encode(even))
    assert size <= 20_000 * 15 / 8 + 16  # nothing in the table, all at a fixed width
    few = np.concatenate([draw.integers(0, 8, 60_000), 100_000 + np.arange(5000)])
    draw.shuffle(few)
    data = Rans().encode(few)
    np.testing.assert_array_equal(Rans().decode(data, few.size), few)
    share = 5000 / 65_000
    ideal = 65_000 * (-share * log2(share) - (1 - share) * log2((1 - share) / 8)) + 5000 * 13
    assert ideal / 8 <= len(data) <= 1.005 * ideal / 8 + 40


def test_one_symbol_takes_its_table_alone() -> None:
    for size in (1, 10, 10**6):
        data = Rans().encode(np.full(size, -3))
        assert len(data) < 8 and (Rans().decode(data, size) == -3).all()


@given(st.binary(max_size=200), st.integers(0, 3000))
@example(b"\x0e\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x03", 1)  # a table longer than the data, with an escape
@settings(max_examples=200, deadline=None)
def test_rubbish_is_damage_or_integers_in_bounded_time(data: bytes, size: int) -> None:
    start = time.process_time()
    try:
        assert Rans().decode(data, size).shape == (size,)
    except BadInput as error:
        assert isinstance(error, Damaged)
    assert time.process_time() - start < 2


def test_every_cut_is_noticed() -> None:
    values = draws("normal", 2000)
    data = Rans().encode(values)
    for at in (0, 1, 2, 3, len(data) // 2, len(data) - 2, len(data) - 1):
        with pytest.raises(Damaged):
            Rans().decode(data[:at], values.size)
    for size in (1, 1999, 2001, 2**28, 2**40):
        with pytest.raises(Damaged):
            Rans().decode(data, size)
