"""Every codec there is: whatever integers go in come out, and one flipped or cut byte is no other exception."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paredown.core.catalog import entries
from paredown.core.errors import BadInput

CASES = 10_000
CODECS = {entry.name: entry.cls for entry in entries("codec") if entry.cls.__module__.startswith("paredown.")}
KINDS = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.bool_)


def drawn(seed: int, way: int, kind: int, size: int) -> np.ndarray:
    """Return an array of one of the types: random over its whole range, small, sparse, constant, in runs, its extremes."""
    draw, dtype = np.random.default_rng(seed), np.dtype(KINDS[kind])
    if dtype.kind == "b":
        return draw.random(size) < draw.random()
    low, high = int(np.iinfo(dtype).min), min(int(np.iinfo(dtype).max), 2**63 - 1)
    near = draw.integers(max(low, -8), 8, size)
    made = (
        lambda: draw.integers(low, high, size, endpoint=True, dtype=dtype),
        lambda: near,
        lambda: near * (draw.random(size) < 0.1 * draw.random()),
        lambda: np.full(size, draw.integers(low, high, endpoint=True, dtype=dtype)),
        lambda: np.repeat(near, draw.integers(0, 40, size))[:200],
        lambda: draw.choice(np.array([low, 0, 0, high], dtype=dtype), size),
        lambda: np.arange(size) % 100,
    )[way]()
    array = np.asarray(made).astype(dtype)
    return array.reshape(-1, 6) if seed % 2 and array.size % 6 == 0 else array


arrays = st.builds(
    drawn, st.integers(0, 2**32), st.integers(0, 6), st.integers(0, len(KINDS) - 1), st.sampled_from([0, 1, 2, 6, 30, 72])
)  # fmt: skip
quick = settings(
    max_examples=CASES // len(CODECS), deadline=None, suppress_health_check=list(HealthCheck), database=None
)


@pytest.mark.parametrize("name", CODECS)
def test_every_array_comes_back(name: str) -> None:
    codec = CODECS[name]()

    @quick
    @given(arrays, st.integers(0, 2**32))
    def holds(array: np.ndarray, seed: int) -> None:
        data = codec.encode(array)
        again = codec.decode(data, array.size)
        assert again.dtype == np.int64 and again.tolist() == array.astype(np.int64).ravel().tolist()
        if data and seed % 4 == 0:
            broken = bytearray(data)
            broken[seed % len(data)] ^= 1 << seed % 8
            try:
                assert codec.decode(bytes(broken)[: 1 + seed % (2 * len(data))], array.size).shape == (array.size,)
            except BadInput as error:
                assert str(error)

    holds()


def test_the_cases_cover_every_way() -> None:
    made = [drawn(seed, way, kind, 30) for seed in (0, 1) for way in range(7) for kind in range(len(KINDS))]
    assert {array.dtype for array in made} == {np.dtype(kind) for kind in KINDS}
    assert {array.ndim for array in made} == {1, 2} and any(
        array.size and (array == array.flat[0]).all() for array in made
    )
