"""Weights and inputs as packed codes: what a bit means, where it lies, and how large a product can become.

A weight's codes are signed: of one bit −1 and +1, of more either two's complement or, with `odd`, the 2^bits odd numbers
from −(2^bits − 1) to 2^bits − 1, which are what DoReFa's evenly spaced weights are multiples of. An input's codes are 0 … 2^bits − 1 with a zero
point, two's complement, or −1 and +1.
"""

from dataclasses import dataclass

import numpy as np

from paredown.core.errors import BadInput
from paredown.graph.frozen import code_range
from paredown.kernels.library import LANES, address, library

WIDTHS = (1, 2, 4)
INPUT_WIDTHS = (1, 2, 4, 8)
LARGEST = 2**31 - 1
"""No sum may be able to become larger in size: they are int32."""


@dataclass(frozen=True)
class Levels:
    """What an input's codes stand for: value = code − zero.

    bits: 1, 2, 4 or 8. signed: two's complement, zero being 0; of one bit −1 and +1. Else codes from 0, and any zero.
    """

    bits: int
    signed: bool = False
    zero: int = 0

    def __post_init__(self) -> None:
        if self.bits not in INPUT_WIDTHS:
            raise BadInput(f"inputs of {self.bits} bits are not packed; allowed: {', '.join(map(str, INPUT_WIDTHS))}")
        if self.signed and self.zero:
            raise BadInput(f"signed inputs have the zero point 0, not {self.zero}")

    @property
    def range(self) -> tuple[int, int]:
        """The lowest and the highest code."""
        return code_range(self.bits) if self.signed else (0, 2**self.bits - 1)

    @property
    def affine(self) -> tuple[int, int]:
        """(scale, shift) with value = scale · raw − shift, where raw codes run from 0."""
        if self.signed:
            return (2, 1) if self.bits == 1 else (1, 2 ** (self.bits - 1))
        return 1, self.zero

    @property
    def largest(self) -> int:
        """The largest size of a value."""
        return max(abs(code - self.zero) for code in self.range)

    def raw(self, codes: np.ndarray) -> np.ndarray:
        """Return codes from 0, uint8, of the same shape. Raises BadInput for codes that the levels have not."""
        if codes.dtype.kind not in "iu":
            raise BadInput(f"input codes are integers, not {codes.dtype}")
        low, high = self.range
        wrong = codes.size and (codes.min() < low or codes.max() > high or (low == -high and not codes.all()))
        if wrong:
            allowed = "−1 and 1" if low == -high else f"{low} to {high}"
            raise BadInput(f"input codes from {codes.min()} to {codes.max()} do not fit {self.bits} bits ({allowed})")
        if low == -high:
            return (codes > 0).astype(np.uint8)
        return (codes if low == 0 else codes.astype(np.int16) - low).astype(np.uint8)


def numbers(bits: int, odd: bool) -> np.ndarray:
    """Return the value that each bit pattern of a weight stands for, int8."""
    patterns = np.arange(2**bits)
    if odd or bits == 1:
        return (2 * patterns - (2**bits - 1)).astype(np.int8)
    return np.where(patterns < 2 ** (bits - 1), patterns, patterns - 2**bits).astype(np.int8)


def patterns_of(codes: np.ndarray, bits: int, odd: bool = False) -> np.ndarray:
    """Return the bit pattern of each signed code, uint8. Raises BadInput for codes that `bits` bits have not."""
    if bits not in WIDTHS:
        raise BadInput(f"weights of {bits} bits are not packed; allowed: {', '.join(map(str, WIDTHS))}")
    codes = np.asarray(codes)
    values = numbers(bits, odd)
    if not np.isin(codes, values).all():
        found = f"{codes.min()} to {codes.max()}"
        raise BadInput(f"weight codes from {found} do not fit {bits} bits ({', '.join(map(str, sorted(values)))})")
    if odd or bits == 1:
        return ((codes.astype(np.int16) + 2**bits - 1) // 2).astype(np.uint8)
    return (codes.astype(np.int16) & (2**bits - 1)).astype(np.uint8)


def pack(codes: np.ndarray, bits: int, odd: bool = False) -> np.ndarray:
    """Return signed codes [rows, n] as bytes, uint8 [rows, ⌈n · bits / 8⌉]: eight codes of one bit, four of two, two of four.

    The first code is in a byte's lowest bits; the last byte is filled with zeros. Raises BadInput for codes that `bits` bits have not.
    """
    patterns = patterns_of(codes, bits, odd)
    if patterns.ndim != 2:
        raise BadInput(f"codes of {patterns.ndim} dimensions are not packed; allowed: rows of codes")
    each = 8 // bits
    whole = np.pad(patterns, ((0, 0), (0, -patterns.shape[1] % each))).reshape(len(patterns), -1, each)
    return np.bitwise_or.reduce(whole << (np.arange(each, dtype=np.uint8) * bits), 2, dtype=np.uint8)


def unpack(packed: np.ndarray, bits: int, size: int, odd: bool = False) -> np.ndarray:
    """Return the signed codes [rows, size], int8, of what `pack` returned."""
    parts = packed[:, :, None] >> (np.arange(8 // bits, dtype=np.uint8) * bits) & (2**bits - 1)
    return numbers(bits, odd)[parts.reshape(len(packed), -1)[:, :size]]


def kind_of(codes: np.ndarray, bits: int, odd: bool) -> str:
    """Return what the planes of a weight are: "signs", "ternary" where no code is beyond ±1, else "twos"."""
    if odd or bits == 1:
        return "signs"
    return "ternary" if bits == 2 and codes.min() >= -1 else "twos"


def in_planes(patterns: np.ndarray, bits: int, kind: str) -> np.ndarray:
    """Return patterns [outputs, taps, channels] for `bit_product`: uint32 [⌈outputs / 16⌉, bits, taps · ⌈channels / 32⌉, 16].

    Bit c of a word is that of channel 32 · word + c; channels and outputs that are not there are zeros. Plane i holds the
    bits i, of ternary weights plane 0 those that are negative and plane 1 those that are not zero.
    """
    outputs, taps, channels = patterns.shape
    if kind == "ternary":
        patterns = (patterns >> 1) | (patterns != 0) << 1
    whole = np.pad(patterns, ((0, -outputs % LANES), (0, 0), (0, -channels % 32)))
    planes = np.stack([whole >> bit & 1 for bit in range(bits)])
    words = np.ascontiguousarray(np.packbits(planes, axis=-1, bitorder="little")).view("<u4").astype(np.uint32)
    return np.ascontiguousarray(words.reshape(bits, -1, LANES, taps * words.shape[-1]).transpose(1, 0, 3, 2))


def in_codes(patterns: np.ndarray, bits: int) -> np.ndarray:
    """Return patterns [outputs, n] for `code_product`: uint32 [⌈outputs / 16⌉, ⌈n · bits / 32⌉, 16].

    Byte t of a word has at its bit s · bits the code of input 4 s + t among the word's 32 / bits.
    """
    steps = 8 // bits
    whole = np.pad(patterns, ((0, -len(patterns) % LANES), (0, -patterns.shape[1] % (4 * steps))))
    whole = whole.reshape(-1, LANES, whole.shape[1] // (4 * steps), steps, 4).astype(np.uint32)
    shifts = (np.arange(steps)[:, None] * bits + np.arange(4) * 8).astype(np.uint32)
    return np.ascontiguousarray(np.bitwise_or.reduce(whole << shifts, (3, 4)).transpose(0, 2, 1))


def planes_of(raw: np.ndarray, bits: int, path: int) -> np.ndarray:
    """Return raw codes, uint8 [rows, channels], as uint32 [rows, ⌈channels / 32⌉, bits]; what is not there is zeros.

    Rows may be apart, so that a group's channels can be taken out of all. path: a number of `library.path_number`.
    """
    rows, channels = raw.shape
    made = np.empty((rows, -(-channels // 32), bits), np.uint32)
    if library().pack_planes(path, address(raw), address(made), rows, raw.strides[0], channels, bits):
        raise BadInput("this processor has not the path that was asked for")
    return made
