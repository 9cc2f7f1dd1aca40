"""The packed container below tensors: numbers, flags, floats, tables of indices, raw bytes, and an architecture.

One description serves writing and reading, so they cannot drift. See docs/packed-format.md. Needs no torch.
"""

import math
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np

from paredown.core.errors import BadInput, Damaged
from paredown.graph.code_length import index_pattern, level_pattern
from paredown.graph.ops import OPS
from paredown.graph.spec import Node, Slot, Spec, Value, references
from paredown.graph.zero_pattern import LEAST, Groups, Layout, Pattern, Tiles, allowed
from paredown.methods.code.adaptive import FINE, Levels, dependent
from paredown.methods.code.range_coder import Coder, Context, Counts, Decoder, Encoder, context
from paredown.methods.code.zeros import zeros
from paredown.targets import streams

_BY_CODE = {op.code: op.name for op in OPS.values()}
_VALUES = frozenset({"input", "self", "other", "tensors", "mat2", "query", "key", "value", "indices", "grid"})
_SLOTS = frozenset({"weight", "bias", "running_mean", "running_var"})
_TAGS = ("none", "bool", "int", "float", "text", "list", "value", "slot", "dict")
MOST = 1 << 28
"""The largest count, and the most entries of a tensor."""
APART = 1 << 14
"""Tensors of so many codes have a stream of their own."""
TRELLIS = 256
"""A row of so many levels says whether they depend on each other."""
INLINE = 1 << 10
"""Plain values of fewer bytes stand among the codes of small tensors."""


class Scribe:
    """Writes (with an Encoder) or reads (with a Decoder); every method takes what to write, or None.

    streams: what is written behind the common section, or is read from there.
    """

    def __init__(self, coder: Encoder | Decoder, streams: bytearray) -> None:
        self.coder: Coder = coder
        self.streams, self.streamed = streams, 0
        self.spent: list[tuple[str, int, int]] = []
        self.models: dict[tuple[str | int, bool], Levels] = {}
        self.flags: dict[str, Context] = defaultdict(context)
        self.counts: dict[str, Counts] = defaultdict(Counts)
        self.exponent = 0
        self.reading = isinstance(coder, Decoder)

    def flag(self, key: str, value: bool | None = None) -> bool:
        """One bit with a context of its own."""
        return bool(self.coder.bit(self.flags[key], None if value is None else int(value)))

    def count(self, key: str, value: int | None = None) -> int:
        """A whole number from 0."""
        number = self.counts[key].code(self.coder, value)
        if number > MOST:
            raise Damaged(f"{key} of {number} is too large")
        return number

    def integer(self, key: str, value: int | None = None) -> int:
        """A whole number of either sign, of any size."""
        size = self.counts[key].code(self.coder, None if value is None else abs(value))
        if size == 0:
            return 0
        return -size if self.flag(f"{key} sign", None if value is None else value < 0) else size

    def architecture(self, spec: Spec | None = None) -> Spec:
        """Inputs, nodes and output. Values are called v0, v1, … and slots s0, s1, … in order of first use."""
        inputs = []
        for at in range(self.count("inputs", None if spec is None else len(spec.inputs))):
            inputs.append((f"v{at}", self.shape(None if spec is None else spec.inputs[at][1])))
        nodes: list[Node] = []
        self.made, self.used = len(inputs), 0
        for at in range(self.count("nodes", None if spec is None else len(spec.nodes))):
            nodes.append(self.node(None if spec is None else spec.nodes[at]))
        output = self.tree("output", "value", spec is not None, None if spec is None else spec.output)
        if not inputs or not any(isinstance(made, Value) for made in references(output)):
            raise BadInput("it has no input, or returns nothing")
        return Spec(tuple(inputs), tuple(nodes), output)

    def node(self, node: Node | None = None) -> Node:
        """One node: its operator, and for each argument whether it is given, and its value."""
        code = self.count("op", None if node is None else OPS[node.op].code)
        op = OPS[_BY_CODE[code]]
        args: dict[str, Any] = {}
        for name in op.names:
            optional = name in op.defaults
            if optional and not self.flag(f"has {op.name} {name}", None if node is None else name in node.args):
                continue
            args[name] = self.tree(
                name,
                _expected(name, op.defaults.get(name)),
                node is not None,
                None if node is None else node.args[name],
            )
        self.made += 1
        return Node(f"v{self.made - 1}", op.name, args)

    def tree(self, key: str, expected: str, writing: bool, value: Any = None) -> Any:
        """An argument's value; its type costs little when it is the expected one."""
        tag = _tag(value) if writing else None
        if self.flag("as expected", None if tag is None else tag == expected):
            tag = expected
        else:
            tag = _TAGS[self.coder.even(4, None if tag is None else _TAGS.index(tag)) % 16]
        if tag in ("list", "dict"):
            return self.collection(key, tag, writing, value)
        return getattr(self, f"leaf_{tag}")(key, *((value,) if writing else ()))

    def collection(self, key: str, tag: str, writing: bool, value: Any = None) -> Any:
        """A list, or a dict with text keys."""
        size = self.count("length", len(value) if writing else None)
        if tag == "dict":
            keys = [self.leaf_text(key, list(value)[i]) if writing else self.leaf_text(key) for i in range(size)]
            return {k: self.tree(key, "value", writing, value[k] if writing else None) for k in keys}
        inner = "value" if key in _VALUES or key == "output" else "int"
        return [self.tree(key, inner, writing, value[i] if writing else None) for i in range(size)]

    def leaf_none(self, key: str, value: None = None) -> None:
        """Nothing."""

    def leaf_bool(self, key: str, value: bool | None = None) -> bool:
        """A truth value."""
        return self.flag(f"bool {key}", value)

    def leaf_int(self, key: str, value: int | None = None) -> int:
        """A whole number."""
        return self.integer("int", value)

    def leaf_float(self, key: str, value: float | None = None) -> float:
        """A double: four significant bits where they are enough, else all 64."""
        if value is not None and value > 0:
            short = self.flag("short float", is_short(value))
        else:
            short = self.flag("short float", None if value is None else False)
        if short:
            return self.short(value)
        bits = None if value is None else struct.unpack("<Q", struct.pack("<d", value))[0]
        return struct.unpack("<d", struct.pack("<Q", self.coder.even(64, bits)))[0]

    def leaf_text(self, key: str, value: str | None = None) -> str:
        """UTF-8 text."""
        data = None if value is None else value.encode()
        size = self.count("text", None if data is None else len(data))
        return bytes(self.coder.even(8, None if data is None else data[i]) for i in range(size)).decode()

    def leaf_value(self, key: str, value: str | None = None) -> Value:
        """A reference to a value: how many back."""
        back = self.count("back", None if value is None else self.made - 1 - int(value[1:]))
        return Value(f"v{self.made - 1 - back}")

    def leaf_slot(self, key: str, value: str | None = None) -> Slot:
        """A reference to a slot: the next new one, or how many back."""
        back = self.count("slot back", None if value is None else self.used - int(value[1:]))
        if back > self.used:
            raise Damaged("a reference goes back before the first slot")
        slot = Slot(f"s{self.used - back}")
        self.used += back == 0
        return slot

    def shape(self, value: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """A tensor's dimensions."""
        size = self.count("rank", None if value is None else len(value))
        return tuple(self.count("dimension", None if value is None else value[i]) for i in range(size))

    def short(self, value: float | None = None) -> float:
        """A positive float of four significant bits; the exponent as the change from the last one."""
        mantissa, exponent = (None, None) if value is None else np.frexp(value)
        exponent = self.integer("exponent", None if exponent is None else int(exponent) - self.exponent) + self.exponent
        self.exponent = exponent
        part = self.coder.even(3, None if mantissa is None else round(float(mantissa) * 16) - 8)
        return float(np.ldexp((part + 8) / 16, exponent))

    def step(self, value: float | None = None) -> float:
        """A positive float32: four significant bits where they are enough, else all 32."""
        if self.flag("short step", None if value is None else value > 0 and is_short(value)):
            return self.short(value)
        bits = None if value is None else struct.unpack("<I", struct.pack("<f", value))[0]
        return struct.unpack("<f", struct.pack("<I", self.coder.even(32, bits)))[0]

    def stream(self, size: int | None, data: bytes | None = None) -> bytes:
        """Bytes of their own behind the common section, which holds their checksum; and their number, unless it is known."""
        if size is None:
            size = self.count("stream", None if data is None else len(data))
        check = self.coder.even(32, None if data is None else zlib.crc32(data))
        if data is not None:
            self.streams += data
            return data
        end = self.streamed + size
        if end > len(self.streams):
            raise Damaged("the file ends too early")
        piece, self.streamed = bytes(self.streams[self.streamed : end]), end
        if zlib.crc32(piece) != check:
            raise Damaged("the checksum of a tensor does not fit")
        return piece

    def levels(
        self, kinds: Sequence[str | int], size: int, values: np.ndarray | None = None, shape: tuple[int, ...] = ()
    ) -> np.ndarray:
        """Signed integers around zero in rows of `size`, int64; each row under the model of its kind.

        kinds: of each row, "matrix", "vector" or a width; a kind keeps what it learned from tensor to tensor. Many levels
        have a stream of their own, whose models begin afresh. shape: of a single row that is a whole weight.
        """
        total, alone = size * len(kinds), isinstance(kinds[0], str)
        fine = alone and total >= FINE
        trellis = alone and total >= TRELLIS and self.flag("dependent", None if values is None else dependent(values))
        layout = self.zero_layout(
            shape, None if values is None else level_pattern(values.reshape(shape or values.shape))
        )
        if total >= APART:
            data = None if values is None else streams.write_levels(values, kinds, fine, trellis, layout)
            data = self.stream(None, data)
            return streams.read_levels(data, kinds, size, fine, trellis, layout) if values is None else values
        used = {kind: self.models.setdefault((kind, fine), Levels(fine)) for kind in kinds}
        done = []
        for at, kind in enumerate(kinds):
            model = used[kind]
            row: Callable[..., list[int]] = model.dependent_row if trellis else model.row
            given = None if values is None else values[at]
            pattern = None if layout is None else zeros(layout, given)
            done.append(row(self.coder, size, None if given is None else given.tolist(), pattern))
        for model in used.values():
            model.relax()
        return np.array(done, dtype=np.int64).reshape(len(kinds), size)

    def indices(
        self, size: int, count: int, values: np.ndarray | None = None, shape: tuple[int, ...] = ()
    ) -> np.ndarray:
        """Indices below `count`, int64, through a binary tree of adaptive contexts; many have a stream of their own.

        shape: of a weight of which they are the entries, 0 standing for zero.
        """
        width = max(1, (count - 1).bit_length())
        layout = self.zero_layout(shape, None if values is None else index_pattern(values.reshape(shape or -1), count))
        if size >= APART:
            data = self.stream(None, None if values is None else streams.write_indices(values, width, layout))
            found = streams.read_indices(data, size, width, layout) if values is None else values
        else:
            found = streams.tree(self.coder, width, size, values, layout)
        if size and found.max() >= count:
            raise Damaged(f"an index is beyond its table of {count}")
        return found

    def zero_layout(self, shape: tuple[int, ...], pattern: Pattern | None = None) -> Layout | None:
        """Where the zeros of a weight of this shape lie by a pattern."""
        if len(shape) < 2 or math.prod(shape) < LEAST or not self.flag("pattern", pattern is not None):
            return None
        tiles = self.flag("tiles", isinstance(pattern, Tiles))
        told = (None, None) if pattern is None else astuple(pattern)
        sides = self.count("pattern first", told[0]), self.count("pattern second", told[1])
        found = Layout(Tiles(*sides) if tiles else Groups(*sides), shape)
        if not allowed(found.pattern, shape):
            raise Damaged(f"zeros of {shape} cannot lie by {found.pattern}")
        return found

    def blob(self, kind: np.dtype, count: int, values: np.ndarray | None = None) -> np.ndarray:
        """Values as they are: few of them among the codes, many in a stream of their own."""
        data = None if values is None else values.astype(kind.newbyteorder("<")).tobytes()
        size = count * kind.itemsize
        if size >= INLINE:
            data = self.stream(size, data)
        else:
            data = bytes(self.coder.even(8, None if data is None else data[at]) for at in range(size))
        return np.frombuffer(data, dtype=kind.newbyteorder("<"))

    def charged(self, item: str, method: Any, *args: Any) -> Any:
        """Call a method and charge the bits and the bytes of streams that it writes to an item."""
        start, streamed = self.coder.position(), len(self.streams)
        result = method(*args)
        self.spent.append((item, self.coder.position() - start, len(self.streams) - streamed))
        return result


def _expected(name: str, default: Any) -> str:
    if name in _VALUES:
        return "list" if name == "tensors" else "value"
    if name in _SLOTS:
        return "slot"
    return "int" if default is None else _tag(default)


def _tag(value: Any) -> str:
    for kind, tag in (
        (Value, "value"),
        (Slot, "slot"),
        (str, "text"),
        (bool, "bool"),
        (int, "int"),
        (float, "float"),
        (dict, "dict"),
    ):
        if isinstance(value, kind):
            return tag
    return "none" if value is None else "list"


def is_short(value: float) -> bool:
    """Return whether a positive number has at most four significant bits."""
    return bool(value > 0 and float(np.frexp(value)[0]) * 16 % 1 == 0)
