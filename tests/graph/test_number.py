"""Number formats, over all their codes, against ml_dtypes, and at the edges (A-S4-23; part E 5, 17)."""

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paredown.core.errors import BadInput
from paredown.graph.number import FLOATS, FixedPoint, Minifloat, Number, number_named, packed, rounded, unpacked, values

PEERS = {
    "fp4_e2m1": ml_dtypes.float4_e2m1fn,
    "fp6_e2m3": ml_dtypes.float6_e2m3fn,
    "fp6_e3m2": ml_dtypes.float6_e3m2fn,
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
    "bf16": ml_dtypes.bfloat16,
    "fp16": np.float16,
}
SMALL = [name for name, number in FLOATS.items() if number.bits <= 16]
INTEGERS = ["int2", "int3", "int4", "int8", "uint4", "uint8", "q1.6", "q4.4", "q8.8"]


def peer(name: str, codes: np.ndarray) -> np.ndarray:
    held = codes.astype(np.uint8 if FLOATS[name].bits <= 8 else np.uint16)
    with np.errstate(invalid="ignore"):
        return held.view(PEERS[name]).astype(np.float64)


@pytest.mark.parametrize("name", PEERS)
def test_every_code_stands_for_the_peers_value(name: str) -> None:
    ours = values(FLOATS[name]).numpy()
    np.testing.assert_array_equal(ours, peer(name, np.arange(len(ours))))
    kept = ~np.isnan(ours)
    assert (np.signbit(ours) == (np.arange(len(ours)) >= len(ours) // 2))[kept].all()


@pytest.mark.parametrize("name", [*SMALL, *INTEGERS])
def test_every_code_comes_back(name: str) -> None:
    number = number_named(name)
    codes = torch.arange(2**number.bits)
    found = number.decode(codes)
    kept = ~found.isnan() & ~found.isinf()
    if isinstance(number, FixedPoint) and number.symmetric:
        kept[2 ** (number.bits - 1)] = False
    assert torch.equal(number.encode(found[kept]), codes[kept]) and kept.sum() >= 0.9 * len(codes) - 1
    assert torch.equal(unpacked(packed(codes, number.bits), len(codes), number.bits), codes)
    assert len(packed(codes, number.bits)) == -(-len(codes) * number.bits // 8)


def between(number: Number) -> tuple[Tensor, Tensor, Tensor]:
    """Return (lower, middle, upper) for all neighbouring finite values."""
    found = values(number)
    found = found[torch.isfinite(found)].unique()
    return found[:-1], (found[:-1] + found[1:]) / 2, found[1:]


@pytest.mark.parametrize("name", [*SMALL, *INTEGERS])
def test_rounding_is_to_the_nearest_and_ties_to_the_even_code(name: str) -> None:
    number = number_named(name)
    low, middle, high = between(number)
    if isinstance(number, FixedPoint) and number.symmetric:
        low, middle, high = low[1:], middle[1:], high[1:]
    gap = (high - low) * 2.0**-20
    assert torch.equal(rounded(middle - gap, number), low) and torch.equal(rounded(middle + gap, number), high)
    tied = rounded(middle, number)
    assert ((tied == low) | (tied == high)).all() and (number.encode(middle) % 2 == 0).all()


@pytest.mark.parametrize("name", PEERS)
def test_casts_are_the_peers(name: str) -> None:
    """Random bit patterns of float32, so every exponent; the peers do not saturate where they have infinities or NaN."""
    draw = np.random.default_rng(0)
    x = draw.integers(0, 2**32, 20000, dtype=np.uint32).view(np.float32)
    near = (draw.standard_normal(20000) * FLOATS[name].largest / 3).clip(-3e38, 3e38).astype(np.float32)
    x = np.concatenate([x[np.isfinite(x)], near])
    with np.errstate(over="ignore"):
        wanted = x.astype(PEERS[name]).astype(np.float64)
    number = FLOATS[name]
    ours = number.decode(number.encode(torch.from_numpy(x), saturate=False)).numpy()
    np.testing.assert_array_equal(ours, wanted)
    assert (np.signbit(ours) == np.signbit(x)).all()


@pytest.mark.parametrize(
    ("name", "largest", "least", "count"),
    [
        ("fp8_e4m3", 448, 2**-9, 127),
        ("fp8_e5m2", 57344, 2**-16, 124),
        ("fp6_e3m2", 28, 0.0625, 32),
        ("fp6_e2m3", 7.5, 0.125, 32),
        ("fp4_e2m1", 6, 0.5, 8),
        ("fp16", 65504, 2**-24, 0x7C00),
        ("bf16", (2 - 2.0**-7) * 2.0**127, 2.0**-133, 0x7F80),
    ],
)
def test_extremes(name: str, largest: float, least: float, count: int) -> None:
    """Part E 5: the maximum, the least subnormal, and how many non-negative finite codes there are."""
    number = FLOATS[name]
    half = values(number)[: 2 ** (number.bits - 1)]
    finite = half[torch.isfinite(half)]
    assert number.largest == finite.max() == largest and finite[finite > 0].min() == least and len(finite) == count
    assert float(rounded(torch.tensor(largest * 1.5).double(), number)) == largest
    assert float(rounded(torch.tensor(-float("inf")).double(), number)) == -largest


def test_fp4_is_these_eight_and_the_lectures_other_two() -> None:
    assert values(FLOATS["fp4_e2m1"])[:8].tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    assert values(Minifloat(1, 2, 0))[:8].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
    assert values(Minifloat(3, 0, 3))[:8].tolist() == [0, 0.25, 0.5, 1, 2, 4, 8, 16]


def test_beyond_the_largest() -> None:
    """E4M3 has no infinity: 449 saturates to 448; without saturation NaN from the first value that rounds above it."""
    e4m3, e5m2 = FLOATS["fp8_e4m3"], FLOATS["fp8_e5m2"]
    x = torch.tensor([449.0, 464.0, 465.0, -1e30])
    assert rounded(x, e4m3).tolist() == [448, 448, 448, -448]
    loose = e4m3.decode(e4m3.encode(x, saturate=False))
    assert loose[:2].tolist() == [448, 448] and loose[2:].isnan().all()
    assert e5m2.decode(e5m2.encode(torch.tensor([61439.0, 61440.0, -1e30]), saturate=False)).tolist() == [
        57344, float("inf"), float("-inf"),
    ]  # fmt: skip
    assert int(e4m3.encode(torch.tensor(float("nan")))) == 0x7F


@pytest.mark.parametrize(
    ("name", "pattern", "value"),
    [
        ("fp32", "00111110100010000000000000000000", 0.265625),
        ("bf16", "0100000000100000", 2.5),
        ("fp16", "1100011100000000", -7.0),
        ("tf32", "0011111110000000000", 1.0),
    ],
)
def test_the_lectures_examples(name: str, pattern: str, value: float) -> None:
    number = FLOATS[name]
    assert int(number.encode(torch.tensor(value))) == int(pattern, 2) and len(pattern) == number.bits
    assert float(number.decode(torch.tensor(int(pattern, 2)))) == value


def test_what_half_precision_loses() -> None:
    """Part E 17, and bfloat16 is the upper half of float32, rounded to even."""
    half = FLOATS["fp16"]
    x = torch.tensor([2.0**-27, 2.0**-27 * 1024, 1 + 2.0**-12])
    assert rounded(x, half).tolist() == [0, 2.0**-17, 1]
    draw = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rounded(draw, FLOATS["bf16"]), draw.bfloat16().float())
    assert torch.equal(rounded(draw, FLOATS["fp32"]), draw)


@given(st.integers(1, 16), st.integers(-4, 12), st.booleans(), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_fixed_point_is_within_half_a_step_or_saturates(bits: int, fraction: int, signed: bool, seed: int) -> None:
    number = FixedPoint(bits, fraction, signed)
    step = 2.0**-fraction
    x = torch.randn(200, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * step * 2**bits
    near = rounded(x, number)
    inside = (x >= number.low * step) & (x <= number.high * step)
    assert ((near - x).abs()[inside] <= step / 2).all()
    assert torch.equal(near[~inside], x[~inside].clamp(number.low * step, number.high * step))
    assert number.encode(x).min() >= 0 and number.encode(x).max() < 2**bits


def test_fixed_point_by_hand() -> None:
    assert rounded(torch.tensor([1.3, -2.6, 0.125, 0.375, 9.0]), FixedPoint(8, 2)).tolist() == [1.25, -2.5, 0, 0.5, 9]
    assert values(FixedPoint(3)).tolist() == [0, 1, 2, 3, -4, -3, -2, -1]
    assert float(rounded(torch.tensor(-100.0), FixedPoint(8, 6))) == -2
    assert float(rounded(torch.tensor(-100.0), FixedPoint(8, 6, symmetric=True))) == -127 / 64


def test_powers_of_two_multiply_by_shifts() -> None:
    """A-S4-27: a multiplication by a power of two is a shift, exactly."""
    number = Minifloat(3, 0, 0)  # 0, 2, 4 … 128
    weights = values(number)[1:8].long()
    shifts = torch.arange(1, 8)
    x = torch.arange(-128, 128)[:, None]
    assert torch.equal(x * weights, x << shifts)


@pytest.mark.parametrize("name", ["fp9", "int0", "int64", "q", "intx", "q30.30"])
def test_unknown_formats_are_refused(name: str) -> None:
    with pytest.raises(BadInput):
        number_named(name)


def test_what_cannot_be_held_is_refused() -> None:
    nan = torch.tensor([1.0, float("nan")])
    for name in ("fp4_e2m1", "int8"):
        with pytest.raises(BadInput, match="NaN"):
            number_named(name).encode(nan)
    with pytest.raises(BadInput, match="3 bytes"):
        unpacked(b"abc", 7, 4)
    with pytest.raises(BadInput, match="specials"):
        Minifloat(4, 3, 7, "some")
