"""Weights that are looked up, in an ONNX graph: short vectors in tables, and values that a hash places. Needs no torch.

All of it is constant, so a runtime does it once.
"""

import math

import numpy as np
from onnx import TensorProto

from paredown.graph.frozen import Hashed, Vectors
from paredown.graph.hashing import BELOW, FACTORS, SHIFTS, start
from paredown.targets.onnx_codes import Codes


class Lookups(Codes):
    """A graph being built, with what it says about shared vectors and hashed values."""

    def __init__(self) -> None:
        super().__init__()
        self.mixes: dict[int, str] = {}

    def vectors(self, stored: Vectors) -> str:
        """Append indices at their width, the tables that they are looked up in, and the weight's shape."""
        books, count, length = stored.centroids.shape
        with self.named("k"):
            table = self.store(stored.centroids.reshape(-1, length))
        places = self.places(stored.codes.reshape(-1, books), stored.bits)
        if books > 1:
            places = self.emit("Add", places, self.keep((count * np.arange(books)).astype(np.int32)))
        return str(self.emit("Reshape", self.emit("Gather", table, places), self.sizes(*stored.shape)))

    def hashed(self, stored: Hashed, most: int) -> str:
        """Append the values and the arithmetic of the hash; `most` entries are hashed, for all tensors of this seed."""
        size = math.prod(stored.shape)
        numbers = self.mix(stored.seed, most)
        if size < most:
            numbers = self.emit("Slice", numbers, self.sizes(0), self.sizes(size))
        numbers = self.emit("Reshape", numbers, self.sizes(*stored.shape))
        below = self.emit("BitwiseAnd", numbers, self._number(BELOW))
        places = self.emit("Mod", below, self._number(len(stored.values)))
        values = self.store(stored.values)
        found = self.emit("Gather", values, self.emit("Cast", places, to=TensorProto.INT32))
        upper = self.emit("BitShift", numbers, self._number(31), direction="RIGHT")
        signs = self.keep(np.array([1, -1], dtype=np.float32))
        return str(self.emit("Mul", found, self.emit("Gather", signs, self.emit("Cast", upper, to=TensorProto.INT32))))

    def mix(self, seed: int, size: int) -> str:
        """Return the name of the mixed numbers of `size` entries; the same one each time (`graph.hashing`)."""
        if seed not in self.mixes:
            ends = (self.keep(np.array(n, dtype=np.int64)) for n in (0, size, 1))
            made = self.emit("Cast", self.emit("Range", *ends), to=TensorProto.UINT32)
            made = self.emit("BitwiseXor", made, self._number(start(seed)))
            for shift, factor in zip(SHIFTS, (*FACTORS, None), strict=True):
                shifted = self.emit("BitShift", made, self._number(shift), direction="RIGHT")
                made = self.emit("BitwiseXor", made, shifted)
                made = made if factor is None else self.emit("Mul", made, self._number(factor))
            self.mixes[seed] = made
        return self.mixes[seed]

    def _number(self, value: int) -> str:
        return self.keep(np.array(value, dtype=np.uint32))
