"""How long a network's packed file will be, without coding its weights: cheap enough to steer by. Needs no torch."""

from collections.abc import Sequence

import numpy as np

from paredown.graph.code_length import index_bits, level_bits
from paredown.graph.frozen import Frozen
from paredown.methods.code.adaptive import dependent, numbers
from paredown.methods.code.range_coder import Encoder
from paredown.targets.container import HEADER, NetworkScribe
from paredown.targets.scribe import APART, INLINE, TRELLIS

APIECE = 70
"""Bits around a stream: its length, its checksum, its end."""


def file_length(frozen: Frozen) -> float:
    """Return about how many bytes `container.write` makes of a network: within 2 % (tests/targets), at a fraction of the time.

    Architecture, steps and shapes are coded as they will be; the codes' lengths come from counts (`graph.code_length`).
    """
    ruler = _Ruler()
    ruler.network(frozen)
    return HEADER + (ruler.coder.position() + ruler.bits) / 8


class _Ruler(NetworkScribe):
    """Writes what is small, and only measures rows of levels, indices and plain values."""

    def __init__(self) -> None:
        super().__init__(Encoder(), bytearray())
        self.bits = 0.0

    def levels(
        self, kinds: Sequence[str | int], size: int, values: np.ndarray | None = None, shape: tuple[int, ...] = ()
    ) -> np.ndarray:
        """Measure rows of levels."""
        assert values is not None
        total, alone = size * len(kinds), isinstance(kinds[0], str)
        if not alone:
            for kind in dict.fromkeys(kinds):
                own = values[[at for at, other in enumerate(kinds) if other == kind]]
                self.bits += level_bits(own.ravel(), fine=False)
        elif total >= TRELLIS and dependent(values):
            self.bits += level_bits(numbers(values).reshape(shape or -1))
        else:
            self.bits += level_bits(values.reshape(shape or -1))
        self.bits += APIECE if total >= APART else 0
        return values

    def indices(
        self, size: int, count: int, values: np.ndarray | None = None, shape: tuple[int, ...] = ()
    ) -> np.ndarray:
        """Measure indices."""
        assert values is not None
        self.bits += index_bits(values.reshape(shape or -1), count) + (APIECE if size >= APART else 0)
        return values

    def blob(self, kind: np.dtype, count: int, values: np.ndarray | None = None) -> np.ndarray:
        """Measure values as they are."""
        assert values is not None
        size = count * kind.itemsize
        self.bits += 8 * size + (32 if size >= INLINE else 0)
        return values
