"""Number formats without torch: what each bit pattern of a stored code stands for. See `graph.number` for rounding to them."""

import functools
import re

import numpy as np

from paredown.core.errors import BadInput

FLOAT_SIZES: dict[str, tuple[int, int, int, str]] = {
    "fp32": (8, 23, 127, "ieee"), "tf32": (8, 10, 127, "ieee"),
    "bf16": (8, 7, 127, "ieee"), "fp16": (5, 10, 15, "ieee"),
    "fp8_e4m3": (4, 3, 7, "nan"), "fp8_e5m2": (5, 2, 15, "ieee"),
    "fp6_e3m2": (3, 2, 3, "none"), "fp6_e2m3": (2, 3, 1, "none"), "fp4_e2m1": (2, 1, 1, "none"),
}  # fmt: skip
"""(exponent bits, mantissa bits, bias, specials) of IEEE 754, NVIDIA's TF32, Google's bfloat16, FP8 (Micikevicius et al.
2022), FP6 and FP4 (OCP MX 1.0, section 5.3). specials: as in `graph.number.Minifloat`."""

WIDEST = 16
"""The most bits of a code that files hold."""


def whole_number(number: str) -> tuple[str, int, int] | None:
    """Return (kind "int", "uint" or "q", bits, fraction bits) of "int4", "uint4" or "q2.6"; None for a float format."""
    if found := re.fullmatch(r"(u?int)(\d{1,2})", number):
        return found[1], int(found[2]), 0
    if found := re.fullmatch(r"q(\d{1,2})\.(\d{1,2})", number):
        return "q", int(found[1]) + int(found[2]), int(found[2])
    return None


def width(number: str) -> int:
    """Return the bits of a code. Raises BadInput for a format that is unknown, or wider than files hold."""
    whole = whole_number(number)
    if whole is None and number not in FLOAT_SIZES:
        raise BadInput(f"number format {number!r} is unknown")
    bits = whole[1] if whole else 1 + sum(FLOAT_SIZES[number][:2])
    if not 1 <= bits <= WIDEST:
        raise BadInput(f"{number} has {bits} bits, which no file holds; allowed: 1 to {WIDEST}")
    return bits


def integers(codes: np.ndarray, number: str) -> np.ndarray:
    """Return the whole numbers (int32) that the bit patterns of an "int", "uint" or "q" format are."""
    bits, found = width(number), codes.astype(np.int32)
    return found if number.startswith("u") else found - ((found >> (bits - 1)) << bits)


@functools.cache
def table(number: str) -> np.ndarray:
    """Return what each of the 2^bits patterns stands for, float32 (exact for every format here). Raises BadInput."""
    codes, whole = np.arange(2 ** width(number)), whole_number(number)
    if whole:
        found = np.ldexp(integers(codes, number).astype(np.float64), -whole[2])
    else:
        exponent, mantissa, bias, specials = FLOAT_SIZES[number]
        size = codes & (2 ** (exponent + mantissa) - 1)
        power, fraction = size >> mantissa, size & (2**mantissa - 1)
        steps = np.where(power > 0, fraction + 2**mantissa, fraction)
        found = np.ldexp(steps.astype(np.float64), np.maximum(power, 1) - bias - mantissa)
        lost = 2**mantissa if specials == "ieee" else specials == "nan"
        top = 2 ** (exponent + mantissa) - 1 - lost
        found[size > top] = np.nan
        found[size == top + 1] = np.inf if specials == "ieee" else np.nan
        found = np.where(codes >> (exponent + mantissa) > 0, -found, found)
    done = found.astype(np.float32)
    done.flags.writeable = False
    return done
