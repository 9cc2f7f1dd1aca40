"""Codes of 1 to 16 bits in an ONNX graph, and how they become values there: exactly, by operators that runtimes fold. Needs no torch.

Integers of 3 bits and more are held in the narrowest integer type of opset 21. Narrower ones, and formats that no type is
as wide as, lie several to a word, which BitShift and BitwiseAnd take apart; all of it is constant, so a runtime does it once.
"""

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from paredown.graph.frozen import Blocks, Shared
from paredown.graph.patterns import integers, table, whole_number, width
from paredown.targets.block_scribe import SHARED, exponents_of, step_form
from paredown.targets.onnx_writer import Writer

UNPACKING_BYTES = 420
"""What the operators that take words apart add to a file; fewer saved bytes are not worth it."""

_NATIVE = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16,
           "fp8_e4m3": TensorProto.FLOAT8E4M3FN, "fp8_e5m2": TensorProto.FLOAT8E5M2}  # fmt: skip
_WORDS = {1: (np.uint8, 8), 2: (np.uint8, 4), 6: (np.uint64, 10),
          9: (np.uint64, 7), 10: (np.uint64, 6), 11: (np.uint64, 5), 12: (np.uint64, 5)}  # fmt: skip
"""Width: the type of a word, and the codes in one."""


class Codes(Writer):
    """A graph being built, with what it says about codes."""

    rounds = False
    """Whether activations are quantized, so that runtimes multiply in integers."""

    def scaled(self, codes: str, step: str, **where: Any) -> str:
        """Append DequantizeLinear of codes around zero: one step, one for each index of an axis, or one for each block.

        Where integers are multiplied, zero points stand there too. ONNX Runtime 1.31 makes integer products of linear layers
        (QGemm) only of those; and told to be exact on processors without VNNI, it makes weights unsigned, gives those
        without zero points a single one, and fails where there are many steps.
        """
        if not self.rounds or self.kind(codes) != TensorProto.INT8:
            return str(self.emit("DequantizeLinear", codes, step, **where))
        dims = [d.dim_value for d in self.types[step].tensor_type.shape.dim]
        with self.named("c"):  # zeros of their own each: shared ones it would replace twice, and refuse
            zeros = self.store(np.zeros(dims, dtype=np.int8))
        return str(self.emit("DequantizeLinear", codes, step, zeros, **where))

    def integers(self, numbers: np.ndarray, bits: int, signed: bool = True) -> str:
        """Return the name of whole numbers in the narrowest form: words of 1 or 2 bits if that is smaller, else a type.

        One signed bit stands for −1 and +1.
        """
        if bits <= 2 and _saved(numbers.size, 4, bits):
            patterns = numbers > 0 if signed and bits == 1 else numbers & (2**bits - 1)
            return self.looked_up(patterns, bits, _unpacked_levels(bits, signed))
        return self.typed(numbers, _integer_type(bits, signed))

    def typed(self, numbers: np.ndarray, kind: int) -> str:
        """Return the name of whole numbers as an initializer of an integer type of `TensorProto`."""
        if kind in (TensorProto.INT4, TensorProto.UINT4):
            return self.hold(helper.make_tensor(self.free_name(), kind, numbers.shape, _nibbles(numbers), raw=True))
        return self.store(numbers.astype(helper.tensor_dtype_to_np_dtype(kind)))

    def places(self, patterns: np.ndarray, bits: int) -> str:
        """Return the name of unsigned integers as int32, to look them up in a table; stored in `bits` bits where it pays."""
        native = 4 if bits <= 4 else 8 if bits <= 8 else 16
        if bits in _WORDS and _saved(patterns.size, native, bits):
            words, count = _WORDS[bits]
            flat = np.zeros(-(-patterns.size // count) * count, dtype=words)
            flat[: patterns.size] = patterns.ravel()
            shifts = (np.arange(count) * bits).astype(words)
            held = self.store(np.bitwise_or.reduce(flat.reshape(-1, count) << shifts, axis=1, keepdims=True))
            shifted = self.emit("BitShift", held, self.keep(shifts), direction="RIGHT")
            split = self.emit("BitwiseAnd", shifted, self.keep(np.array(2**bits - 1, dtype=words)))
            if flat.size > patterns.size:
                split = self.emit("Reshape", split, self.sizes(-1))
                split = self.emit("Slice", split, self.sizes(0), self.sizes(patterns.size))
            shaped = self.emit("Reshape", split, self.sizes(*patterns.shape))
            return str(self.emit("Cast", shaped, to=TensorProto.INT32))
        held = self.typed(patterns, _integer_type(bits, False))
        return str(self.emit("Cast", held, to=TensorProto.INT32))

    def looked_up(self, patterns: np.ndarray, bits: int, levels: np.ndarray) -> str:
        """Return the name of what the unsigned integers stand for in a table of levels."""
        return str(self.emit("Gather", self.keep(levels), self.places(patterns, bits)))

    def codebook(self, stored: Shared) -> str:
        """Append indices at their width and the table that they are looked up in."""
        with self.named("k"):
            values = self.store(stored.centroids)
        return str(self.emit("Gather", values, self.places(stored.codes, stored.bits)))

    def blocks(self, stored: Blocks) -> str:
        """Append weights in blocks: integers with DequantizeLinear, floats as their type or as patterns with a table."""
        whole, alone = whole_number(stored.number), stored.step.shape[1] <= 1
        if whole is None:
            made = self.floats(stored, alone)
        else:
            numbers = integers(stored.codes if alone else stored.rows(), stored.number)
            held = self.integers(numbers, whole[1], whole[0] != "uint")
            with self.named("s"):
                made = self.dequantized_blocks(stored, held, alone, whole[2])
        return made if alone else self.turned(made, stored.shape)

    def dequantized_blocks(self, stored: Blocks, held: str, alone: bool, fraction: int) -> str:
        """Append DequantizeLinear with one step for the tensor, each output, or each block of a row."""
        rows = 1 if len(stored.shape) < 2 else stored.shape[0]
        if alone:
            dims: tuple[int, ...] = () if stored.step.size == 1 else (-1,)
            step = self.store(np.ldexp(stored.steps, -fraction).astype(np.float32).reshape(dims))
            where = {"axis": 0} if dims else {}
        else:
            dims, where = (rows, stored.step.shape[1]), {"axis": 1, "block_size": stored.block}
            step = self.block_steps(stored)
            if fraction:
                step = self.emit("Mul", step, self.keep(np.array(2.0**-fraction, dtype=np.float32)))
            if len(stored.step) < rows:
                step = self.emit("Expand", step, self.sizes(*dims))
        if stored.zero is None:
            return self.scaled(held, step, **where)
        zero = stored.zero.reshape(dims) if alone else np.broadcast_to(stored.zero, dims)
        return str(self.emit("DequantizeLinear", held, step, self.typed(zero, self.kind(held)), **where))

    def block_steps(self, stored: Blocks) -> str:
        """Append the steps of blocks in the narrowest form that is exact; return the name of them as float32."""
        if stored.coarse is not None:
            fine = self.whole_steps(stored.step)
            return str(self.emit("Mul", fine, self.store(stored.coarse.astype(np.float32))))
        form = step_form(stored.step, stored.block)
        if form in ("power", "paired") and np.ptp(exponents_of(stored.step)) <= 255:
            return self.paired_steps(stored.step) if form == "paired" else self.powers(exponents_of(stored.step))
        if form == "half":
            return str(self.emit("Cast", self.store(stored.step.astype(np.float16)), to=TensorProto.FLOAT))
        return self.whole_steps(stored.step) if form == "whole" else self.store(stored.step)

    def whole_steps(self, step: np.ndarray) -> str:
        """Append steps that are small whole numbers; others as floats."""
        if step_form(step, 0) not in ("whole", "power") or step.max() > 65_535 or step.min() < 1:
            return self.store(step)
        held = self.typed(step.astype(np.int64), _integer_type(int(step.max()).bit_length(), False))
        return str(self.emit("Cast", held, to=TensorProto.FLOAT))

    def powers(self, exponents: np.ndarray) -> str:
        """Append one byte for each power of two, and the table of those that there are."""
        least = int(exponents.min())
        levels = np.ldexp(np.float32(1), np.arange(least, int(exponents.max()) + 1)).astype(np.float32)
        return self.looked_up((exponents - least).astype(np.uint8), 8, levels)

    def paired_steps(self, step: np.ndarray) -> str:
        """Append one byte for each 8 pairs' shared power of two, and one with a bit for each pair: half of it."""
        count = -(-step.shape[1] // SHARED) * SHARED
        exponents = exponents_of(np.pad(step, ((0, 0), (0, count - step.shape[1])), mode="edge"))
        exponents = exponents.reshape(len(step), -1, SHARED)
        shared = exponents.max(2, keepdims=True)
        lower = (exponents < shared).astype(np.uint8)
        shifts = np.arange(SHARED, dtype=np.uint8)
        held = self.store(np.bitwise_or.reduce(lower << shifts, axis=2, keepdims=True))
        bits = self.emit("BitShift", held, self.keep(shifts), direction="RIGHT")
        bits = self.emit("BitwiseAnd", bits, self.keep(np.array(1, dtype=np.uint8)))
        bits = self.emit("Cast", bits, to=TensorProto.INT32)
        factor = self.emit("Gather", self.keep(np.array([1, 0.5], dtype=np.float32)), bits)
        both = self.emit("Mul", self.powers(shared), factor)
        return self.cut(self.emit("Reshape", both, self.sizes(len(step), count)), count, step.shape[1])

    def sizes(self, *values: int) -> str:
        """Return the name of a 1-D int64 initializer; the same one each time."""
        return self.keep(np.array(values, dtype=np.int64))

    def cut(self, name: str, size: int, wanted: int) -> str:
        """Append what leaves the first `wanted` of `size` columns of a matrix."""
        if size == wanted:
            return name
        return str(self.emit("Slice", name, self.sizes(0), self.sizes(wanted), self.sizes(1)))

    def floats(self, stored: Blocks, alone: bool) -> str:
        """Append a float format's bit patterns and what multiplies them by their steps."""
        codes = stored.codes if alone else stored.rows()
        if stored.number in _NATIVE:
            raw = codes.astype("<u2" if width(stored.number) == 16 else "u1").tobytes()
            tensor = helper.make_tensor(self.free_name(), _NATIVE[stored.number], codes.shape, raw, raw=True)
            made = str(self.emit("Cast", self.hold(tensor), to=TensorProto.FLOAT))
        else:
            made = self.looked_up(codes, width(stored.number), table(stored.number))
        if (stored.steps == 1).all():
            return made
        with self.named("s"):
            return self.multiplied(stored, made, alone)

    def multiplied(self, stored: Blocks, made: str, alone: bool) -> str:
        """Append the multiplication of values by one step for the tensor, each output, or each block of a row."""
        codes = stored.codes if alone else stored.rows()
        if alone:
            step = (
                stored.steps.reshape(-1, *[1] * (codes.ndim - 1)) if stored.step.size > 1 else stored.steps.ravel()[0]
            )
            return str(self.emit("Mul", made, self.store(np.asarray(step, dtype=np.float32))))
        (rows, blocks), size = stored.step.shape, stored.block
        step = self.emit("Unsqueeze", self.block_steps(stored), self.sizes(2))
        step = self.emit("Expand", step, self.sizes(rows, blocks, size))
        step = self.emit("Reshape", step, self.sizes(rows, blocks * size))
        return str(self.emit("Mul", made, self.cut(step, blocks * size, codes.shape[1])))

    def turned(self, name: str, shape: tuple[int, ...]) -> str:
        """Append what brings rows in which channels run fastest back to the weight's shape."""
        if len(shape) == 2:
            return name
        if len(shape) < 2:
            return str(self.emit("Reshape", name, self.sizes(*shape)))
        apart = self.emit("Reshape", name, self.sizes(shape[0], *shape[2:], shape[1]))
        last = len(shape) - 1
        return str(self.emit("Transpose", apart, perm=[0, last, *range(1, last)]))


def _saved(size: int, native: int, bits: int) -> bool:
    """Return whether words of `bits` bits make the file smaller than a type of `native` bits does."""
    words, count = _WORDS[bits]
    return size * native / 8 - size / count * np.dtype(words).itemsize > UNPACKING_BYTES


def _unpacked_levels(bits: int, signed: bool) -> np.ndarray:
    if not signed:
        return np.arange(2**bits, dtype=np.uint8)
    return np.array([-1, 1] if bits == 1 else [0, 1, -2, -1], dtype=np.int8)


def _integer_type(bits: int, signed: bool) -> int:
    """Return the narrowest integer type, of those that ONNX Runtime runs at opset 21."""
    name = f"{'' if signed else 'U'}INT{4 if bits <= 4 else 8 if bits <= 8 else 16}"
    return int(getattr(TensorProto, name))


def _nibbles(codes: np.ndarray) -> bytes:
    """Return 4-bit integers as ONNX stores them: two a byte, the first in the low half."""
    flat = np.append(codes.ravel(), np.zeros(codes.size % 2, codes.dtype)).astype(np.uint8) & 15
    return (flat[0::2] | flat[1::2] << 4).tobytes()
