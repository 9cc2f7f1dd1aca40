"""Bytes of whole numbers and of fields of one fixed width, and what reading them back must refuse. Needs no torch."""

import numpy as np

from paredown.core.errors import BadInput, Damaged

LARGEST = 1 << 28
"""An array has at most so many entries, as a tensor of a packed file: no claim of more is believed."""
CHUNK = 1 << 16
"""So many fields are packed at a time, so that the bits laid out singly take little memory."""
_WORD = (1 << 64) - 1


def whole(array: np.ndarray) -> np.ndarray:
    """Return integers of any type as int64, in their shape. Raises BadInput for others, too large ones, too many."""
    found = np.asarray(array)
    if found.dtype.kind not in "iub":
        raise BadInput(f"an array of {found.dtype} cannot be coded; give integers")
    if found.size > LARGEST:
        raise BadInput(f"{found.size} integers are too many for one code; at most {LARGEST}")
    if found.dtype == np.uint64 and found.size and int(found.max()) >> 63:
        raise BadInput(f"{found.max()} does not fit 64 bits with a sign; give int64")
    return found.astype(np.int64)


def believable(size: int) -> int:
    """Return the number of integers that a decoder is asked for. Raises Damaged for more than there can be."""
    if not 0 <= size <= LARGEST:
        raise Damaged(f"{size} integers cannot be; at most {LARGEST}")
    return size


def pack(values: np.ndarray, width: int) -> bytes:
    """Return the `width` low bits (0 to 64) of each value, most significant first, without gaps; zeros fill the last byte."""
    size, kept = -(-width // 8), []
    for at in range(0, len(values) if width else 0, CHUNK):
        words = values[at : at + CHUNK].astype(np.uint64).astype(">u8").view(np.uint8).reshape(-1, 8)
        bits = np.unpackbits(words[:, 8 - size :], axis=1)
        kept.append(np.packbits(bits[:, 8 * size - width :]).tobytes())
    return b"".join(kept)


def unpack(data: bytes, width: int, count: int) -> np.ndarray:
    """Return `count` fields of `width` bits as uint64; the inverse of `pack`. The data must hold them."""
    found, size = np.zeros(count, dtype=np.uint64), -(-width // 8)
    for at in range(0, count if width else 0, CHUNK):
        many = min(CHUNK, count - at)
        part = np.frombuffer(data, np.uint8, -(-many * width // 8), at * width // 8)
        bits = np.zeros((many, 8 * size), dtype=np.uint8)
        bits[:, 8 * size - width :] = np.unpackbits(part, count=many * width).reshape(many, width)
        words = np.zeros((many, 8), dtype=np.uint8)
        words[:, 8 - size :] = np.packbits(bits, axis=1)
        found[at : at + many] = words.view(">u8")[:, 0]
    return found


class Writer:
    """Collects numbers and fields."""

    def __init__(self) -> None:
        self.out = bytearray()

    def number(self, value: int) -> None:
        """Write a number from 0: seven bits a byte, lowest first, the top bit set where more follow."""
        while value > 127:
            self.out.append(value & 127 | 128)
            value >>= 7
        self.out.append(value)

    def fields(self, values: np.ndarray, width: int) -> None:
        """Write values from 0 at a fixed width; neither is stored."""
        self.out += pack(values, width)

    def values(self, values: np.ndarray, nonzero: bool = False) -> None:
        """Write int64 values at the smallest width that holds their range, after the lowest one and that width.

        nonzero: there is no 0 among them, and where they lie on both sides of it no code is kept for it, so that −1 and
        +1 take one bit.
        """
        low = int(values.min()) if values.size else 0
        folded = values - (values > 0) if nonzero and low < 0 else values
        codes = folded.view(np.uint64) - np.uint64(low & _WORD)
        width = int(codes.max()).bit_length() if codes.size else 0
        self.number(2 * low if low >= 0 else -2 * low - 1)
        self.number(width)
        self.fields(codes, width)


class Reader:
    """Reads what a Writer wrote. Raises Damaged where the bytes cannot be that."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def number(self, most: int = _WORD) -> int:
        """Return a number from 0 to `most`."""
        value = 0
        for at in range(10):
            if self.at == len(self.data):
                break
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << (7 * at)
            if byte < 128:
                if value > most:
                    raise Damaged(f"the coded data says {value} where {most} is the most there can be")
                return value
        raise Damaged("the coded data has no number where one must be")

    def take(self, length: int) -> bytes:
        """Return the next `length` bytes."""
        start, self.at = self.at, self.at + length
        if self.at > len(self.data):
            raise Damaged(
                f"{len(self.data)} bytes of coded data cannot hold the {length} that must follow byte {start}"
            )
        return self.data[start : self.at]

    def fields(self, width: int, count: int) -> np.ndarray:
        """Return `count` fields of `width` bits as uint64; they are in the data before anything is allocated."""
        return unpack(self.take(-(-width * count // 8)), width, believable(count))

    def matrix(self, size: int) -> tuple[int, int, int]:
        """Return rows, columns and the number of what is stored of a matrix of `size` integers."""
        rows, count = self.number(size), self.number(size)
        if rows == 0 or size % rows:
            raise Damaged(f"{size} integers are no matrix of {rows} rows")
        return rows, size // rows, count

    def values(self, count: int, nonzero: bool = False) -> np.ndarray:
        """Return `count` values, int64, as `Writer.values` wrote them."""
        told, width = self.number(), self.number(64)
        low = -(told // 2) - 1 if told % 2 else told // 2
        found = (self.fields(width, count) + np.uint64(low & _WORD)).view(np.int64)
        return found + (found >= 0) if nonzero and low < 0 else found

    def end(self) -> None:
        """Raise Damaged where bytes are left that nothing reads."""
        if self.at != len(self.data):
            raise Damaged(f"the coded data has {len(self.data) - self.at} bytes that nothing reads")


def width_of(most: int) -> int:
    """Return the bits of the fields that hold 0 to `most`."""
    return int(most).bit_length()
