"""A second reader of packed files, written from docs/packed-format.md alone: it shares no code with the writer.

It reads networks of linear layers without biases, and returns what is in the file: codes as whole numbers and steps.
"""

import struct
import zlib
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Tensor:
    """What a file says of one tensor: form "rounded", "shared", "blocks" or "plain"; codes; steps; the bits of a code."""

    form: str
    shape: tuple[int, ...]
    bits: int
    codes: np.ndarray
    steps: list[float] = field(default_factory=list)
    zeros: list[int] = field(default_factory=list)
    number: str = ""


class Reader:
    """An arithmetic decoder with 32-bit registers, and the models above it."""

    def __init__(self, data: bytes) -> None:
        assert data[:3] == b"PDN" and data[3] & 0x7F == 1
        assert zlib.crc32(data[:4] + data[8:]) == struct.unpack("<I", data[4:8])[0]
        coded, self.raw = data[8:], b""
        if data[3] & 0x80:
            size = struct.unpack("<I", data[8:12])[0]
            coded, self.raw = data[12 : 12 + size], data[12 + size :]
        self.bits = "".join(f"{byte:08b}" for byte in coded) + "0" * 600
        self.low, self.high, self.at = 0, 2**32 - 1, 32
        self.code = int(self.bits[:32], 2)
        self.flags: dict = defaultdict(lambda: [1, 1])
        self.models: dict = defaultdict(lambda: (defaultdict(lambda: [1, 1]), defaultdict(lambda: [1, 1])))
        self.level_models: dict = defaultdict(lambda: defaultdict(lambda: [1, 1]))
        self.exponent = 0

    def bit(self, context: list[int]) -> int:
        split = self.low + (self.high - self.low) * context[0] // sum(context)
        bit = 1 if self.code > split else 0
        self.low, self.high = (split + 1, self.high) if bit else (self.low, split)
        context[bit] += 2
        if sum(context) > 1024:
            context[:] = [count // 2 | 1 for count in context]
        while True:
            if self.high < 2**31:
                off = 0
            elif self.low >= 2**31:
                off = 2**31
            elif self.low >= 2**30 and self.high < 3 * 2**30:
                off = 2**30
            else:
                return bit
            self.low, self.high = 2 * (self.low - off), 2 * (self.high - off) + 1
            self.code = 2 * (self.code - off) + int(self.bits[self.at])
            self.at += 1

    def even(self, width: int) -> int:
        number = 0
        for _ in range(width):
            number = 2 * number + self.bit([1, 1])
        return number

    def flag(self, name: str) -> int:
        return self.bit(self.flags[name])

    def count(self, name: str) -> int:
        return self._count(*self.models[name])

    def _count(self, length: dict, top: dict) -> int:
        width = 0
        while self.bit(length[width]):
            width += 1
        if not width:
            return 0
        second = self.bit(top[width])
        return ((2 + second) << (width - 1) | self.even(width - 1)) - 1

    def integer(self, name: str) -> int:
        size = self.count(name)
        return -size if size and self.flag(f"{name} sign") else size

    def shape(self) -> tuple[int, ...]:
        return tuple(self.count("dimension") for _ in range(self.count("rank")))

    def step(self) -> float:
        if not self.flag("short step"):
            return struct.unpack("<f", struct.pack("<I", self.even(32)))[0]
        self.exponent += self.integer("exponent")
        return (self.even(3) + 8) / 16 * 2.0**self.exponent

    def tree(self, size: int, below: int) -> list[int]:
        width = max(1, int(np.ceil(np.log2(below))))
        contexts: dict = defaultdict(lambda: [1, 1])
        found = []
        for _ in range(size):
            place = 1
            for _ in range(width):
                place = 2 * place + self.bit(contexts[place])
            found.append(place - 2**width)
        return found

    def levels(self, name: object, size: int) -> list[int]:
        model, found = self.level_models[name], [0, 0]
        for _ in range(size):
            if not self.bit(model["zero", min(2, abs(found[-1]) + abs(found[-2]))]):
                found.append(0)
                continue
            sign, level = -1 if self.bit(model["sign"]) else 1, 1
            while level < 15 and self.bit(model["more", level]):
                level += 1
            if level == 15:
                level += self._count(*self.models["beyond", name])
            found.append(sign * level)
        for key, context in model.items():
            while key[0] in ("zero", "more") and sum(context) > 12:
                context[:] = [count // 2 | 1 for count in context]
        model.pop("sign", None)
        return found[2:]

    def linear_layers(self) -> list[Tensor]:
        """Return the tensors of a network of linear layers, each of which reads the one before."""
        assert self.count("inputs") == 1
        self.shape()
        count = self.count("nodes")
        for _ in range(count):
            assert self.count("op") == 2  # linear
            for name in ("back", "slot back"):
                assert self.flag("as expected") and self.count(name) == 0
            assert not self.flag("has linear bias")
        assert self.flag("as expected") and self.count("back") == 0
        found: list[Tensor] = []
        for _ in range(count):
            before = found[-1].shape[:1] if found else ()
            found.append(self.tensor(before if found and self.flag("follows") else self.shape()))
        return found

    def tensor(self, shape: tuple[int, ...]) -> Tensor:
        size = int(np.prod(shape))
        if not self.flag("rounded"):
            if not self.flag("shared"):
                return Tensor("plain", shape, 32, np.zeros(0))
            raise AssertionError("a codebook")
        bits = self.count("bits")
        if bits == 17:
            return self.blocks(shape)
        steps = [self.step() for _ in range(1 if self.flag("one step") else shape[0])]
        return Tensor("rounded", shape, bits, np.array(self.levels(len(shape) > 1, size)).reshape(shape), steps)

    def blocks(self, shape: tuple[int, ...]) -> Tensor:
        number = ("int", "uint", "q", "bf16", "fp16", "fp8", "fp8", "fp6", "fp6", "fp4")[self.count("number")]
        widths = {"bf16": 16, "fp16": 16, "fp8": 8, "fp6": 6, "fp4": 4}
        bits = self.count("number bits") if number in ("int", "uint", "q") else widths[number]
        if number == "q":
            self.count("fraction")
        block = self.count("block")
        single, two, shifted = (self.flag(name) for name in ("one row", "two levels", "zero point"))
        rows, size = 1 if single else shape[0], int(np.prod(shape))
        each = -(-size // shape[0] // block)
        coarse = self.scales(rows, 1) if two else [1.0] * rows
        steps = self.scales(rows, each)
        zeros = np.cumsum([self.integer("zero point") for _ in range(rows * each)]).tolist() if shifted else []
        if number in ("int", "q") or (number == "uint" and bits > 8):
            codes = self.levels(bits, size)
        elif bits == 16:
            low = 7 if number == "bf16" else 10
            high = self.tree(size, 2 ** (16 - low))
            flat = "".join(f"{byte:08b}" for byte in self.raw[: -(-size * low // 8)])
            self.raw = self.raw[-(-size * low // 8) :]
            codes = [(h << low) | int(flat[low * i : low * (i + 1)], 2) for i, h in enumerate(high)]
        else:
            codes = self.tree(size, 2**bits)
        whole = [float(np.float32(s) * np.float32(coarse[at // each])) for at, s in enumerate(steps)]
        return Tensor("blocks", shape, bits, np.array(codes).reshape(shape), whole, zeros, number)

    def scales(self, rows: int, each: int) -> list[float]:
        form, size = self.count("scale form"), rows * each
        if form == 0:
            return [self.step() for _ in range(size)]
        if form == 1:
            upper, found = 0, []
            for _ in range(size):
                upper += self.integer("half exponent")
                found.append(float(np.array(upper << 10 | self.even(10), np.uint16).view(np.float16)))
            return found
        if form == 2:
            return [2.0 ** float(e) for e in np.cumsum([self.integer("power") for _ in range(size)])]
        if form == 3:
            last, found = 0, []
            for at in (at for _ in range(rows) for at in range(0, each, 8)):
                last += self.integer("power")
                found += [2.0 ** (last - self.flag("lower")) for _ in range(min(8, each - at))]
            return found
        return [float(n) for n in self.tree(size, self.count("largest scale") + 1)]
