"""The adaptive code: what goes in comes out, near the entropy, and damage ends."""

import time
from math import lgamma, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.codec import CodecContract
from paredown.core.errors import BadInput, Damaged
from paredown.methods.code.adaptive import LEFT_OUT, LIMIT, Adaptive, Counts, Decoder, Encoder, Levels, context


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
    assert len(Adaptive().encode(np.zeros(5000, int))) <= 1
    assert len(Adaptive().encode(np.zeros(1_000_000, int))) < 400  # past what may be left out


def test_a_single_context_takes_krichevsky_and_trofimovs_code_length() -> None:
    draw = np.random.default_rng(0)
    bits = draw.random(300) < 0.3
    coder, ctx = Encoder(), context()
    for bit in bits:
        coder.bit(ctx, int(bit))
    ones, zeros = int(bits.sum()), int((~bits).sum())
    wanted = -(lgamma(ones + 0.5) + lgamma(zeros + 0.5) - 2 * lgamma(0.5) - lgamma(301)) / log(2)
    assert wanted - 1e-6 <= len(coder.out) + coder.pending + 2 and 8 * len(coder.finish()) <= wanted + 10
    assert ctx[0] + ctx[1] <= LIMIT and ctx == [1 + 2 * zeros, 1 + 2 * ones]


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
    assert all(sum(ctx) <= 12 for ctx in (*model.zero, *model.more)) and model.sign == context()
    assert model.zero[0][0] > model.zero[0][1] and model.more[0][1] > model.more[0][0]


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
