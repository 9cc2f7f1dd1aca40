"""The packed container, `.pdn`: a whole network in one checked, entropy-coded file. See docs/packed-format.md.

Needs neither torch nor the training code. One description (`_Scribe`) serves writing and reading, so they cannot drift.
"""

import math
import struct
import zlib
from collections import defaultdict
from typing import Any

import numpy as np

from paredown.core.errors import BadInput, Damaged
from paredown.graph.frozen import Frozen, Plain, Rounded, Shared, Stored, fits, renamed
from paredown.graph.ops import OPS
from paredown.graph.spec import Node, Slot, Spec, Value, references
from paredown.methods.code.adaptive import Coder, Context, Counts, Decoder, Encoder, Levels, context

MAGIC = b"PDN"
VERSION = 1
RAW = 0x80
"""Set in the version byte when a raw section follows the coded one."""

_BY_CODE = {op.code: op.name for op in OPS.values()}
_VALUES = frozenset({"input", "self", "other", "tensors", "mat2", "query", "key", "value", "indices"})
_SLOTS = frozenset({"weight", "bias", "running_mean", "running_var"})
_TAGS = ("none", "bool", "int", "float", "text", "list", "value", "slot", "dict")
_DTYPES = ("float32", "int64", "int32", "uint8", "int8", "bool", "float16")
_MOST = 1 << 28


def write(frozen: Frozen) -> tuple[bytes, dict[str, int]]:
    """Return the file's bytes, and where they go: {"header", "graph", "weights", "scales", "codebooks", "floats"}."""
    coder, raw = Encoder(), bytearray()
    scribe = _Scribe(coder, raw)
    scribe.network(frozen)
    coded = coder.finish()
    body = (struct.pack("<I", len(coded)) + coded + raw) if raw else coded
    version = VERSION | (RAW if raw else 0)
    head = MAGIC + bytes([version])
    check = zlib.crc32(head + body)
    data = head + struct.pack("<I", check) + body
    return data, _itemised(scribe.spent, len(coded), len(data))


def _itemised(spent: list[tuple[str, int, int]], coded: int, total: int) -> dict[str, int]:
    """Return {item: bytes} that sum to `total`; what no item fills by itself counts as graph."""
    left, sizes = 8 * coded, defaultdict[str, int](int)
    for item, bits, raw in spent:
        taken = min(bits, left)  # less than it wrote where zero bytes were left out at the end
        left -= taken
        sizes[item] += taken + 8 * raw
    items = {"header": 8, "graph": 0, **{item: bits // 8 for item, bits in sizes.items() if item != "graph"}}
    items["graph"] = total - sum(items.values())
    return {item: size for item, size in items.items() if size}


def read(data: bytes) -> Frozen:
    """Return the network in a file's bytes. Raises Damaged unless every bit of it is as it was written."""
    if data[:3] != MAGIC:
        raise Damaged(f"this is not a packed network: it begins with {data[:3]!r}, not {MAGIC!r}")
    if len(data) < 9:
        raise Damaged(f"this packed network is cut short: {len(data)} bytes")
    if data[3] & ~RAW != VERSION:
        raise Damaged(f"this packed network is of version {data[3] & ~RAW}; this program reads version {VERSION}")
    if zlib.crc32(data[:4] + data[8:]) != struct.unpack("<I", data[4:8])[0]:
        raise Damaged("this packed network is damaged: its checksum does not fit; get the file again")
    body, raw = data[8:], b""
    if data[3] & RAW:
        size = struct.unpack("<I", body[:4])[0]
        body, raw = body[4 : 4 + size], body[4 + size :]
    try:
        decoder = Decoder(body)
        scribe = _Scribe(decoder, bytearray(raw))
        frozen = scribe.network()
    except (LookupError, ValueError, TypeError, ArithmeticError, MemoryError, RecursionError, struct.error) as error:
        raise Damaged(f"this packed network holds no valid network: {error}") from error
    if scribe.raw_at < len(raw) or decoder.at < len(decoder.bits):
        raise Damaged("this packed network has bytes that nothing reads")
    return frozen


class _Scribe:
    """Writes (with an Encoder) or reads (with a Decoder) a network; every method takes what to write, or None."""

    def __init__(self, coder: Encoder | Decoder, raw: bytearray) -> None:
        self.coder: Coder = coder
        self.raw, self.raw_at = raw, 0
        self.flags: dict[str, Context] = defaultdict(context)
        self.counts: dict[str, Counts] = defaultdict(Counts)
        self.levels: dict[bool, Levels] = {True: Levels(), False: Levels()}
        self.exponent = 0
        self.spent: list[tuple[str, int, int]] = []
        self.reading = isinstance(coder, Decoder)

    def network(self, frozen: Frozen | None = None) -> Frozen:
        """The whole: inputs, nodes, output, tensors."""
        spec = None if frozen is None else renamed(frozen.spec)[0]
        names = None if frozen is None else renamed(frozen.spec)[1]
        done = self.charged("graph", self.architecture, spec)
        tensors: dict[str, Stored] = {}
        before: tuple[int, ...] = ()
        for slot in done.slot_users():
            stored = None if frozen is None or names is None else frozen.tensors[names[slot]]
            tensors[slot] = self.tensor(before, stored)
            before = tensors[slot].shape
        return Frozen(done, tensors)

    def charged(self, item: str, method: Any, *args: Any) -> Any:
        """Call a method and charge the coded bits and raw bytes that it writes to an item."""
        start, raw = self.position(), len(self.raw)
        result = method(*args)
        self.spent.append((item, self.position() - start, len(self.raw) - raw))
        return result

    def position(self) -> int:
        """The bits written so far."""
        return len(self.coder.out) + self.coder.pending if isinstance(self.coder, Encoder) else 0

    def flag(self, key: str, value: bool | None = None) -> bool:
        """One bit with a context of its own."""
        return bool(self.coder.bit(self.flags[key], None if value is None else int(value)))

    def count(self, key: str, value: int | None = None) -> int:
        """A whole number from 0."""
        number = self.counts[key].code(self.coder, value)
        if number > _MOST:
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
            short = self.flag("short float", _is_short(value))
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

    def tensor(self, before: tuple[int, ...], stored: Stored | None = None) -> Stored:
        """A slot's content; a vector as long as the last tensor's first dimension says so in one bit."""
        kind = None if stored is None else ("rounded", "plain", "shared")[[Rounded, Plain, Shared].index(type(stored))]
        shape = self.charged("graph", self.slot_shape, before, None if stored is None else stored.shape)
        if math.prod(shape) > _MOST:
            raise Damaged(f"a tensor of shape {shape} is too large")
        rounded = self.charged("graph", self.flag, "rounded", None if kind is None else kind == "rounded")
        if rounded:
            return self.rounded(shape, stored)  # type: ignore[arg-type]
        shared = self.charged("graph", self.flag, "shared", None if kind is None else kind == "shared")
        if shared:
            return self.shared(shape, stored)  # type: ignore[arg-type]
        return Plain(self.charged("floats", self.plain, shape, None if stored is None else stored.array))  # type: ignore[union-attr]

    def slot_shape(self, before: tuple[int, ...], shape: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """A slot's shape."""
        follows = bool(before) and self.flag("follows", None if shape is None else shape == before[:1])
        return before[:1] if follows else self.shape(shape)

    def rounded(self, shape: tuple[int, ...], stored: Rounded | None = None) -> Rounded:
        """Codes and steps."""
        bits = self.charged("graph", self.count, "bits", None if stored is None else stored.bits)
        if not 1 <= bits <= 16:
            raise Damaged(f"codes of {bits} bits are not allowed")
        step = self.charged("scales", self.steps, shape, None if stored is None else stored.step)
        size = math.prod(shape)
        values = None if stored is None else stored.codes.ravel().tolist()
        matrix = len(shape) > 1
        levels = self.charged("weights" if matrix else "biases", self.levels[matrix].row, self.coder, size, values)
        self.levels[matrix].relax()
        kind = np.int8 if bits <= 8 else np.int16
        codes = np.array(levels, dtype=np.int64)
        if not fits(codes, bits):
            raise Damaged(f"a code does not fit its {bits} bits")
        return Rounded(codes.astype(kind).reshape(shape), step, bits)

    def steps(self, shape: tuple[int, ...], step: np.ndarray | None = None) -> np.ndarray:
        """One positive float32 for the tensor, or one for each entry of its first dimension."""
        single = self.flag("one step", None if step is None else step.size == 1)
        dims = () if single else (shape[0], *[1] * (len(shape) - 1))
        if step is not None and not single and step.shape != dims:
            raise BadInput(f"steps of shape {step.shape} cannot be packed; allowed: one, or {dims}")
        values = None if step is None else step.ravel().astype(np.float64).tolist()
        count = 1 if single else shape[0]
        return np.array(
            [self.step(None if values is None else values[i]) for i in range(count)], dtype=np.float32
        ).reshape(dims)

    def step(self, value: float | None = None) -> float:
        """A positive float32: four significant bits where they are enough, else all 32."""
        if self.flag("short step", None if value is None else value > 0 and _is_short(value)):
            return self.short(value)
        bits = None if value is None else struct.unpack("<I", struct.pack("<f", value))[0]
        return struct.unpack("<f", struct.pack("<I", self.coder.even(32, bits)))[0]

    def short(self, value: float | None = None) -> float:
        """A positive float of four significant bits; the exponent as the change from the last one."""
        mantissa, exponent = (None, None) if value is None else np.frexp(value)
        exponent = self.integer("exponent", None if exponent is None else int(exponent) - self.exponent) + self.exponent
        self.exponent = exponent
        part = self.coder.even(3, None if mantissa is None else round(float(mantissa) * 16) - 8)
        return float(np.ldexp((part + 8) / 16, exponent))

    def shared(self, shape: tuple[int, ...], stored: Shared | None = None) -> Shared:
        """A table of float32 and indices into it."""
        count = self.charged("graph", self.count, "centroids", None if stored is None else len(stored.centroids))
        if not 1 <= count <= 256:
            raise Damaged(f"a codebook of {count} values is not allowed")
        table = self.charged("codebooks", self.plain, (count,), None if stored is None else stored.centroids)
        size = math.prod(shape)
        order = np.argsort(np.abs(table), kind="stable")
        ranks = None if stored is None else np.argsort(order)[stored.codes.ravel()].tolist()
        found = np.array(self.charged("weights", self.indices, size, count, ranks), dtype=np.int64)
        return Shared(order[found].astype(np.uint8).reshape(shape), table.astype(np.float32))

    def indices(self, size: int, count: int, values: list[int] | None = None) -> list[int]:
        """Indices below `count` through a binary tree of adaptive contexts."""
        width = max(1, (count - 1).bit_length())
        nodes = [context() for _ in range(1 << width)]
        done = []
        for at in range(size):
            place = 1
            for bit in range(width - 1, -1, -1):
                place = 2 * place + self.coder.bit(nodes[place], None if values is None else values[at] >> bit & 1)
            done.append(place - (1 << width))
        if done and max(done) >= count:
            raise Damaged(f"an index is beyond its codebook of {count}")
        return done

    def plain(self, shape: tuple[int, ...], array: np.ndarray | None = None) -> np.ndarray:
        """Values as they are, in the raw section; zeros cost a coded bit where there are many, halves two bytes."""
        if array is not None and array.dtype.name not in _DTYPES:
            raise BadInput(f"values of type {array.dtype} cannot be packed; allowed: {', '.join(_DTYPES)}")
        kind = _DTYPES[self.count("dtype", None if array is None else _DTYPES.index(array.dtype.name)) % len(_DTYPES)]
        half = kind == "float32" and self.flag("half", None if array is None else _is_half(array))
        size = math.prod(shape)
        flat = None if array is None else array.ravel()
        marks = None if flat is None else (flat != 0) | (np.signbit(flat) if flat.dtype.kind == "f" else False)
        sparse = self.flag("sparse", None if marks is None else bool(8 * np.count_nonzero(marks) < 7 * size))
        raw = np.dtype("float16" if half else kind)
        if not sparse:
            return self.blob(raw, size, flat).astype(kind).reshape(shape)
        kept = np.array(self.indices(size, 2, None if marks is None else marks.astype(int).tolist()), dtype=bool)
        values = self.blob(raw, int(kept.sum()), None if flat is None else flat[kept])
        done = np.zeros(size, dtype=kind)
        done[kept] = values.astype(kind)
        return done.reshape(shape)

    def blob(self, kind: np.dtype, count: int, values: np.ndarray | None = None) -> np.ndarray:
        """Bytes of the raw section."""
        if values is not None:
            self.raw += values.astype(kind.newbyteorder("<")).tobytes()
            return values
        end = self.raw_at + count * kind.itemsize
        if end > len(self.raw):
            raise Damaged("the raw section ends too early")
        piece, self.raw_at = bytes(self.raw[self.raw_at : end]), end
        return np.frombuffer(piece, dtype=kind.newbyteorder("<"))


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


def _is_short(value: float) -> bool:
    return bool(value > 0 and float(np.frexp(value)[0]) * 16 % 1 == 0)


def _is_half(array: np.ndarray) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(array.size) and bool((array.astype(np.float16).astype(np.float32) == array).all())


def tensor_bytes(frozen: Frozen) -> dict[str, int]:
    """Return what each slot's values take in the file, rounded up to whole bytes."""
    coder, raw = Encoder(), bytearray()
    scribe = _Scribe(coder, raw)
    before: tuple[int, ...] = ()
    sizes = {}
    for name in frozen.spec.slot_users():
        start = scribe.position() + 8 * len(raw)
        before = scribe.tensor(before, frozen.tensors[name]).shape
        sizes[name] = -(-(scribe.position() + 8 * len(raw) - start) // 8)
    return sizes
