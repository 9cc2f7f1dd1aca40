"""The packed container, `.pdn`: a whole network in one checked, entropy-coded file. See docs/packed-format.md.

Needs neither torch nor the training code. One description (`_Scribe`) serves writing and reading, so they cannot drift;
`targets/scribe.py` has what is below tensors.
"""

import math
import struct
import zlib
from collections import defaultdict

import numpy as np

from paredown.core.errors import BadInput, Damaged
from paredown.graph.frozen import Blocks, Frozen, Plain, Rounded, Shared, Stored, fit_widths, fits, renamed
from paredown.methods.code.adaptive import Decoder, Encoder, Levels
from paredown.targets.block_scribe import BLOCKED, BlockScribe
from paredown.targets.scribe import MOST

MAGIC = b"PDN"
VERSION = 1
RAW = 0x80
"""Set in the version byte when a raw section follows the coded one."""

_DTYPES = ("float32", "int64", "int32", "uint8", "int8", "bool", "float16")


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


class _Scribe(BlockScribe):
    """Writes (with an Encoder) or reads (with a Decoder) a network; every method takes what to write, or None."""

    def __init__(self, coder: Encoder | Decoder, raw: bytearray) -> None:
        super().__init__(coder, raw)
        self.levels: dict[bool, Levels] = {True: Levels(), False: Levels()}

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

    def tensor(self, before: tuple[int, ...], stored: Stored | None = None) -> Stored:
        """A slot's content; a vector as long as the last tensor's first dimension says so in one bit."""
        kind = (
            None
            if stored is None
            else ("rounded", "plain", "shared", "rounded")[[Rounded, Plain, Shared, Blocks].index(type(stored))]
        )
        shape = self.charged("graph", self.slot_shape, before, None if stored is None else stored.shape)
        if math.prod(shape) > MOST:
            raise Damaged(f"a tensor of shape {shape} is too large")
        rounded = self.charged("graph", self.flag, "rounded", None if kind is None else kind == "rounded")
        if rounded:
            return self.coded(shape, stored)  # type: ignore[arg-type]
        shared = self.charged("graph", self.flag, "shared", None if kind is None else kind == "shared")
        if shared:
            return self.shared(shape, stored)  # type: ignore[arg-type]
        return Plain(self.charged("floats", self.plain, shape, None if stored is None else stored.array))  # type: ignore[union-attr]

    def slot_shape(self, before: tuple[int, ...], shape: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """A slot's shape."""
        follows = bool(before) and self.flag("follows", None if shape is None else shape == before[:1])
        return before[:1] if follows else self.shape(shape)

    def coded(self, shape: tuple[int, ...], stored: Rounded | Blocks | None = None) -> Rounded | Blocks:
        """Integers times a step, or blocks: what stands in the place of the width says which."""
        if isinstance(stored, Blocks):
            told: int | None = BLOCKED
        else:
            told = None if stored is None else 0 if stored.widths is not None else stored.bits
        bits = self.charged("graph", self.count, "bits", told)
        if bits == BLOCKED:
            return self.blocks(shape, stored if isinstance(stored, Blocks) else None)
        return self.rounded(shape, bits, stored if isinstance(stored, Rounded) else None)

    def rounded(self, shape: tuple[int, ...], bits: int, stored: Rounded | None = None) -> Rounded:
        """Codes and steps. A width of 0 says that the entries of the first dimension have widths of their own."""
        widths = None
        if bits == 0:
            bits = self.charged("graph", self.count, "bits", None if stored is None else stored.bits)
            widths = self.charged("graph", self.widths, shape, bits, None if stored is None else stored.widths)
        if not 1 <= bits <= 16:
            raise Damaged(f"codes of {bits} bits are not allowed")
        step = self.charged("scales", self.steps, shape, None if stored is None else stored.step, widths)
        item = "weights" if len(shape) > 1 else "biases"
        codes = self.charged(item, self.codes, shape, widths, None if stored is None else stored.codes)
        if not (fits(codes, bits) if widths is None else fit_widths(codes, widths, bits)):
            raise Damaged(f"a code does not fit its {bits} bits")
        kind = np.int8 if bits <= 8 else np.int16
        own = None if widths is None else np.array(widths, dtype=np.uint8)
        return Rounded(codes.astype(kind), step, bits, own)

    def widths(self, shape: tuple[int, ...], most: int, widths: np.ndarray | None = None) -> list[int]:
        """The bits of each entry of the first dimension, 0 to `most`, as the difference from the entry before."""
        if not shape:
            raise Damaged("a scalar has no channels with widths of their own")
        found: list[int] = []
        for at in range(shape[0]):
            before = found[-1] if found else most
            change = self.integer("width", None if widths is None else int(widths[at]) - before)
            found.append(before + change)
        if not all(0 <= bits <= most <= 16 for bits in found):
            raise Damaged(f"widths of {most} bits at most hold one beyond that")
        return found

    def codes(self, shape: tuple[int, ...], widths: list[int] | None, codes: np.ndarray | None = None) -> np.ndarray:
        """A tensor's levels, under one model; or, with widths, each entry of the first dimension under its width's."""
        size, matrix = math.prod(shape), len(shape) > 1
        if widths is None:
            values = None if codes is None else codes.ravel().tolist()
            levels = self.levels[matrix].row(self.coder, size, values)
            self.levels[matrix].relax()
            return np.array(levels, dtype=np.int64).reshape(shape)
        done = np.zeros((shape[0], size // max(1, shape[0])), dtype=np.int16)
        for at, bits in enumerate(widths):
            if bits:
                values = None if codes is None else codes[at].ravel().tolist()
                done[at] = self.by_width[bits].row(self.coder, done.shape[1], values)
        for bits in set(widths):
            self.by_width[bits].relax()
        return done.reshape(shape)

    def steps(
        self, shape: tuple[int, ...], step: np.ndarray | None = None, widths: list[int] | None = None
    ) -> np.ndarray:
        """One positive float32 for the tensor, or one for each entry of its first dimension; 1 where it has no bits."""
        single = self.flag("one step", None if step is None else step.size == 1)
        dims = () if single else (shape[0], *[1] * (len(shape) - 1))
        if step is not None and not single and step.shape != dims:
            raise BadInput(f"steps of shape {step.shape} cannot be packed; allowed: one, or {dims}")
        values = None if step is None else step.ravel().astype(np.float64).tolist()
        found = np.ones(1 if single else shape[0], dtype=np.float32)
        for at in range(len(found)):
            if single or widths is None or widths[at]:
                found[at] = self.step(None if values is None else values[at])
        return found.reshape(dims)

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
