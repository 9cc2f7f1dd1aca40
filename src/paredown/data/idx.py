"""The idx format of MNIST and its like: two zero bytes, type 8 (uint8), the number of axes, their lengths, the values.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", section "File formats".
"""

import struct
from collections.abc import Sequence
from math import prod

import numpy as np

from paredown.core.errors import Damaged
from paredown.data import files
from paredown.data.raw import Pair


def parse(data: bytes, name: str) -> np.ndarray:
    """Return the uint8 array of an idx file. Raises Damaged when header and length do not agree."""
    axes = data[3] if len(data) >= 4 and data[:3] == b"\0\0\x08" else 0
    if not axes or len(data) < 4 + 4 * axes:
        raise Damaged(
            f"{name} begins with {data[:4].hex() or 'nothing'}; an idx file of bytes begins with 000008 and its axes"
        )
    shape = struct.unpack_from(f">{axes}I", data, 4)
    held = len(data) - 4 - 4 * axes
    if held != prod(shape):
        raise Damaged(f"{name} holds {held} values, its header says {prod(shape)} ({shape}); it is cut short or padded")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def pairs(folder: str, four: Sequence[files.DataFile]) -> dict[str, Pair]:
    """Return train and test from four files: train pictures, train labels, test pictures, test labels."""
    train_x, train_y, test_x, test_y = (parse(files.content(folder, file), file.name) for file in four)
    return {"train": (train_x, train_y), "test": (test_x, test_y)}
