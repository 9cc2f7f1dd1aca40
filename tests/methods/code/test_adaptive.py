"""The adaptive code: what goes in comes out, near the entropy, and damage ends."""

import time
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.codec import CodecContract
from paredown.core.errors import BadInput, Damaged
from paredown.methods.code.adaptive import FINE, KEPT, NEXT, Adaptive, Levels, dependent
from paredown.methods.code.range_coder import LEFT_OUT, LIMIT, ONE, Counts, Decoder, Encoder, context


class TestAdaptive(CodecContract):
    def part(self) -> Adaptive:
        return Adaptive()


def entropy_bytes(values: np.ndarray) -> float:
    _, counts = np.unique(values, return_counts=True)
    share = counts / values.size
    return float(-(counts * np.log2(share)).sum()) / 8


@given(
    st.one_of(
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=60),
        st.lists(st.integers(-3, 3), max_size=300),
        st.lists(st.sampled_from([0, 0, 0, 0, 0, 0, -9]), max_size=300),
    )
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_every_array_of_integers_comes_back(values: list[int]) -> None:
    array = np.array(values, dtype=np.int64)
    again = Adaptive().decode(Adaptive().encode(array), array.size)
    assert again.dtype == np.int64 and again.tolist() == values


SOURCES = {
    "ternary": ([-1, 0, 1], [0.2, 0.6, 0.2]),
    "sparse": ([-1, 0, 1], [0.02, 0.96, 0.02]),
    "normal": (list(range(-7, 8)), np.exp(-((np.arange(-7, 8) / 2.5) ** 2))),
    "even": (list(range(-4, 5)), np.ones(9)),
    "one sign": ([0, 1, 2, 3], [0.5, 0.3, 0.15, 0.05]),
}


@pytest.mark.parametrize("name", SOURCES)
def test_long_independent_data_takes_its_entropy(name: str) -> None:
    symbols, weights = SOURCES[name]
    values = np.random.default_rng(0).choice(symbols, 30_000, p=np.array(weights) / np.sum(weights))
    size = len(Adaptive().encode(values))
    assert 0.995 * entropy_bytes(values) <= size <= 1.03 * entropy_bytes(values) + 8


def test_neighbours_help_where_there_is_something_to_learn_from_them() -> None:
    """Zeros in long runs: the order-0 entropy is no longer the limit."""
    draw = np.random.default_rng(0)
    runs = np.concatenate([draw.choice([-2, -1, 1, 2], 200) if i % 2 else np.zeros(200, int) for i in range(60)])
    assert len(Adaptive().encode(runs)) < 0.85 * entropy_bytes(runs)


def test_a_changing_source_is_followed() -> None:
    draw = np.random.default_rng(0)
    halves = np.concatenate([draw.choice([0, 1], 20_000, p=[0.98, 0.02]), draw.choice([0, 1], 20_000, p=[0.02, 0.98])])
    assert len(Adaptive().encode(halves)) < 0.35 * entropy_bytes(halves)


def test_nothing_takes_no_byte_and_zeros_hardly_any() -> None:
    assert Adaptive().encode(np.zeros(0, int)) == b""
    assert len(Adaptive().encode(np.zeros(5000, int))) <= 2
    assert len(Adaptive().encode(np.zeros(300_000, int))) < 64  # nothing costs less than 1/1420 of a bit


def test_a_single_context_takes_krichevsky_and_trofimovs_code_length() -> None:
    """Up to its limit a context expects (ones + 1/2) / (bits + 1); the code is no longer than that says, but for two bytes."""
    draw = np.random.default_rng(0)
    bits = draw.random(LIMIT) < 0.3
    coder, ctx, wanted, ones = Encoder(), context(), 0.0, 0
    for at, bit in enumerate(bits):
        assert ctx[0] / ONE == pytest.approx((ones + 0.5) / (at + 1), abs=0.005)
        chance = (ones + 0.5) / (at + 1)
        wanted -= log2(chance if bit else 1 - chance)
        coder.bit(ctx, int(bit))
        ones += int(bit)
    assert wanted - 2 <= coder.position() <= wanted + 8 and wanted - 2 <= 8 * len(coder.finish()) <= wanted + 17
    assert ctx[1] == LIMIT


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 2**40 - 1), st.booleans()), max_size=60))
@settings(max_examples=200, deadline=None)
def test_even_bits_and_bits_under_contexts_mix(items: list[tuple[int, int, bool]]) -> None:
    coder, ctx = Encoder(), context()
    for width, value, bit in items:
        coder.even(width, value)
        coder.bit(ctx, bit)
    decoder, ctx = Decoder(coder.finish()), context()
    for width, value, bit in items:
        assert decoder.even(width) == value & ((1 << width) - 1) and decoder.bit(ctx) == bit
    assert decoder.ended()


def test_a_carry_runs_through_many_bytes() -> None:
    """Bits that were never expected, one after another, drive the low end to its top."""
    for count in range(60, 120):
        coder, ctx = Encoder(), context()
        for at in range(count):
            coder.bit(ctx, 0)
            coder.even(7, 127 if at % 3 else 0)
        decoder, ctx = Decoder(coder.finish()), context()
        for at in range(count):
            assert decoder.bit(ctx) == 0 and decoder.even(7) == (127 if at % 3 else 0)


@given(st.lists(st.integers(0, 2**65), max_size=30))
@settings(max_examples=100, deadline=None)
def test_whole_numbers_of_any_length(values: list[int]) -> None:
    coder, model = Encoder(), Counts()
    for value in values:
        model.code(coder, value)
    decoder, model = Decoder(coder.finish()), Counts()
    assert [model.code(decoder) for _ in values] == values


def test_what_was_learned_is_kept_from_tensor_to_tensor_but_not_the_sign() -> None:
    model = Levels()
    model.row(Encoder(), 500, [0] * 400 + [3] * 100)
    model.relax()
    assert all(ctx[1] <= KEPT for ctx in (*model.zero, *model.more[0])) and model.sign == context()
    assert model.zero[0][0] < ONE / 10 and model.more[0][0][0] > 0.9 * ONE


@given(st.lists(st.integers(-400, 400), max_size=200), st.booleans())
@settings(max_examples=200, deadline=None)
def test_levels_that_depend_on_each_other(numbers: list[int], fine: bool) -> None:
    state, levels = 0, []
    for number in numbers:
        levels.append(2 * number - (state > 3) * ((number > 0) - (number < 0)))
        state = NEXT[state][number & 1]
    assert dependent(np.array(levels, dtype=np.int64))
    coder = Encoder()
    Levels(fine).dependent_row(coder, len(levels), levels)
    assert Levels(fine).dependent_row(Decoder(coder.finish()), len(levels)) == levels


def test_most_levels_do_not_depend_on_each_other() -> None:
    draw = np.random.default_rng(0)
    assert not any(dependent(draw.integers(-4, 5, 64)) for _ in range(200))
    assert dependent(np.zeros(50, int)) and dependent(np.array([2, 0]))


def test_the_fine_model_pays_from_where_it_is_used() -> None:
    draw = np.random.default_rng(0)
    scales = np.repeat(np.exp(draw.normal(0, 0.7, 400)), 32)  # neighbours are alike
    values = np.round(scales * draw.normal(0, 1.5, 400 * 32)).astype(int).tolist()

    def size(count: int, fine: bool) -> int:
        coder = Encoder()
        Levels(fine).row(coder, count, values[:count])
        return len(coder.finish())

    assert size(400, False) < size(400, True) and size(4 * FINE, True) < size(4 * FINE, False)


@given(st.binary(max_size=300), st.integers(0, 3000))
@settings(max_examples=150, deadline=None)
def test_rubbish_is_damage_or_integers_in_bounded_time(data: bytes, size: int) -> None:
    start = time.process_time()
    try:
        assert Adaptive().decode(data, size).shape == (size,)
    except BadInput as error:
        assert isinstance(error, Damaged)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("data", [b"", b"\0" * 20, b"\xff" * 20, b"\xaa" * 50])
def test_a_claim_of_very_many_values_ends(data: bytes) -> None:
    """A few bytes cannot stand for a billion integers: the decoder stops when it has made up enough zeros."""
    start = time.process_time()
    with pytest.raises(Damaged):
        Adaptive().decode(data, 10**9)
    assert time.process_time() - start < 10


def test_data_that_is_cut_is_noticed_sooner_or_later() -> None:
    values = np.random.default_rng(0).integers(-100, 100, 4000)
    data = Adaptive().encode(values)
    with pytest.raises(Damaged):
        Adaptive().decode(data[: len(data) // 2 - LEFT_OUT], values.size)
    again = Adaptive().decode(data[:-1] + bytes([data[-1] ^ 255]), values.size)
    assert again.shape == values.shape
