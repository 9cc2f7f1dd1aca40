"""The packed container, `.pdn`: a whole network in one checked, entropy-coded file. See docs/packed-format.md.

Needs neither torch nor the training code. One description (`NetworkScribe`) serves writing and reading, so they cannot drift;
`targets/scribe.py` has what is below tensors.
"""

import math
import struct
import zlib
from collections import defaultdict

import numpy as np

from paredown.core.errors import BadInput, Damaged
from paredown.graph.frozen import (
    Blocks,
    Frozen,
    Hashed,
    Plain,
    Rounded,
    Shared,
    Stored,
    Vectors,
    fit_widths,
    fits,
    renamed,
)
from paredown.methods.code.range_coder import Decoder, Encoder
from paredown.targets.block_scribe import BLOCKED, BlockScribe
from paredown.targets.scribe import MOST

MAGIC = b"PDN"
VERSION = 2
HEADER = 8
"""Bytes before the common section."""
APART = 0x80
"""Set in the version byte when streams follow the common section."""

RANK = 8
"""The most dimensions of a tensor."""

_DTYPES = ("float32", "int64", "int32", "uint8", "int8", "bool", "float16")
_FORMS = ("plain", "vectors", "hashed")
_TABLE = ("books", "centroids", "vector")


def write(frozen: Frozen) -> tuple[bytes, dict[str, int]]:
    """Return the file's bytes, and where they go: {"header", "graph", "weights", "scales", "codebooks", "floats"}."""
    coder, streams = Encoder(), bytearray()
    scribe = NetworkScribe(coder, streams)
    scribe.network(frozen)
    common = coder.finish()
    first = (struct.pack("<I", len(common)) if streams else b"") + common
    head = MAGIC + bytes([VERSION | (APART if streams else 0)])
    data = head + struct.pack("<I", zlib.crc32(head + first)) + first + streams
    return data, _itemised(scribe.spent, len(common), len(data))


def _itemised(spent: list[tuple[str, int, int]], coded: int, total: int) -> dict[str, int]:
    """Return {item: bytes} that sum to `total`; what no item fills by itself counts as graph."""
    left, sizes = 8 * coded, defaultdict[str, int](int)
    for item, bits, streamed in spent:
        taken = min(bits, left)  # less than it wrote where zero bytes were left out at the end
        left -= taken
        sizes[item] += taken + 8 * streamed
    items = {"header": HEADER, "graph": 0, **{item: bits // 8 for item, bits in sizes.items() if item != "graph"}}
    items["graph"] = total - sum(items.values())
    return {item: size for item, size in items.items() if size}


def read(data: bytes) -> Frozen:
    """Return the network in a file's bytes. Raises Damaged unless every bit of it is as it was written."""
    if data[:3] != MAGIC:
        raise Damaged(f"this is not a packed network: it begins with {data[:3]!r}, not {MAGIC!r}")
    if len(data) < 9:
        raise Damaged(f"this packed network is cut short: {len(data)} bytes")
    if data[3] & ~APART != VERSION:
        raise Damaged(f"this packed network is of version {data[3] & ~APART}; this program reads version {VERSION}")
    end = len(data)
    if data[3] & APART:
        end = min(end, 12 + struct.unpack("<I", data[8:12].ljust(4, b"\0"))[0])
    if zlib.crc32(data[:4] + data[8:end]) != struct.unpack("<I", data[4:8])[0]:
        raise Damaged("this packed network is damaged: its checksum does not fit; get the file again")
    try:
        decoder = Decoder(data[12 if data[3] & APART else 8 : end])
        scribe = NetworkScribe(decoder, bytearray(data[end:]))
        frozen = scribe.network()
    except (LookupError, ValueError, TypeError, ArithmeticError, MemoryError, RecursionError, struct.error) as error:
        raise Damaged(f"this packed network holds no valid network: {error}") from error
    if scribe.streamed < len(scribe.streams) or not decoder.ended():
        raise Damaged("this packed network has bytes that nothing reads")
    return frozen


class NetworkScribe(BlockScribe):
    """Writes (with an Encoder) or reads (with a Decoder) a network; every method takes what to write, or None."""

    def network(self, frozen: Frozen | None = None) -> Frozen:
        """The whole: tensors in the order of their first use, then inputs, nodes and output."""
        spec, names = (None, {}) if frozen is None else renamed(frozen.spec)
        tensors: dict[str, Stored] = {}
        before: tuple[int, ...] = ()
        for at in range(self.charged("graph", self.count, "tensors", None if frozen is None else len(names))):
            stored = None if frozen is None else frozen.tensors[names[f"s{at}"]]
            tensors[f"s{at}"] = self.tensor(before, stored)
            before = tensors[f"s{at}"].shape
        done = self.charged("graph", self.architecture, spec)
        if list(done.slot_users()) != list(tensors):
            raise Damaged(f"it has {len(tensors)} tensors, and uses {len(done.slot_users())}")
        return Frozen(done, tensors)

    def tensor(self, before: tuple[int, ...], stored: Stored | None = None) -> Stored:
        """A slot's content; a vector as long as the last tensor's first dimension says so in one bit."""
        shape = self.charged("graph", self.slot_shape, before, None if stored is None else stored.shape)
        if math.prod(shape) > MOST:
            raise Damaged(f"a tensor of shape {shape} is too large")
        told = None if stored is None else isinstance(stored, Rounded | Blocks)
        if self.charged("graph", self.flag, "rounded", told):
            return self.coded(shape, stored)  # type: ignore[arg-type]
        if self.charged("graph", self.flag, "shared", None if stored is None else isinstance(stored, Shared)):
            return self.shared(shape, stored)  # type: ignore[arg-type]
        told_form = None if stored is None else (Plain, Vectors, Hashed).index(type(stored))
        form = _FORMS[self.charged("graph", self.count, "form", told_form) % len(_FORMS)]
        return getattr(self, f"form_{form}")(shape, stored)

    def form_plain(self, shape: tuple[int, ...], stored: Plain | None = None) -> Plain:
        """Values as they are."""
        return Plain(self.charged("floats", self.plain, shape, None if stored is None else stored.array, shape))

    def form_vectors(self, shape: tuple[int, ...], stored: Vectors | None = None) -> Vectors:
        """Tables of vectors, and for each vector of the tensor its index."""
        told = (None, None, None) if stored is None else stored.centroids.shape
        dims = tuple(self.charged("graph", self.count, name, n) for name, n in zip(_TABLE, told, strict=True))
        if not all(dims) or dims[1] > 4096 or math.prod(shape[1:]) % (dims[0] * dims[2]):
            raise Damaged(f"tables of {dims} do not divide a tensor of shape {shape}")
        table = self.charged("codebooks", self.plain, dims, None if stored is None else stored.centroids)
        size = math.prod(shape) // dims[2]
        codes = self.charged("weights", self.indices, size, dims[1], None if stored is None else stored.codes.ravel())
        return Vectors(codes.astype(np.uint16), table.astype(np.float32), shape)

    def form_hashed(self, shape: tuple[int, ...], stored: Hashed | None = None) -> Hashed:
        """The seed of a hash, and the values that it spreads."""
        seed = self.charged("graph", self.coder.even, 32, None if stored is None else stored.seed)
        count = self.charged("graph", self.count, "values", None if stored is None else len(stored.values))
        if not math.prod(shape) // 4096 <= count <= MOST or not count:
            raise Damaged(f"{count} values for a tensor of shape {shape} are not allowed")
        values = self.charged("weights", self.plain, (count,), None if stored is None else stored.values)
        return Hashed(values.astype(np.float32), shape, seed)

    def slot_shape(self, before: tuple[int, ...], shape: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """A slot's shape."""
        follows = bool(before) and self.flag("follows", None if shape is None else shape == before[:1])
        if shape is not None and len(shape) > RANK:
            raise BadInput(f"a tensor of {len(shape)} dimensions cannot be packed; allowed: {RANK}")
        found = before[:1] if follows else self.shape(shape)
        if len(found) > RANK:
            raise Damaged(f"a tensor of {len(found)} dimensions is not allowed")
        return found

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
        size = math.prod(shape)
        if widths is None:
            values = None if codes is None else codes.reshape(1, -1)
            return self.levels(["matrix" if len(shape) > 1 else "vector"], size, values, shape).reshape(shape)
        done = np.zeros((shape[0], size // max(1, shape[0])), dtype=np.int64)
        there = [at for at, bits in enumerate(widths) if bits]
        if there:
            values = None if codes is None else codes.reshape(done.shape)[there]
            done[there] = self.levels([widths[at] for at in there], done.shape[1], values)
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
        found = []
        for at in range(1 if single else shape[0]):
            there = single or widths is None or widths[at]
            found.append(self.step(None if values is None else values[at]) if there else 1.0)
        with np.errstate(over="ignore"):  # a damaged exponent
            return np.array(found, dtype=np.float32).reshape(dims)

    def shared(self, shape: tuple[int, ...], stored: Shared | None = None) -> Shared:
        """A table of float32 and indices into it."""
        count = self.charged("graph", self.count, "centroids", None if stored is None else len(stored.centroids))
        if not 1 <= count <= 256:
            raise Damaged(f"a codebook of {count} values is not allowed")
        table = self.charged("codebooks", self.plain, (count,), None if stored is None else stored.centroids)
        size = math.prod(shape)
        order = np.argsort(np.abs(table), kind="stable")
        ranks = None if stored is None else np.argsort(order)[stored.codes.ravel()]
        found = self.charged("weights", self.indices, size, count, ranks, shape)
        return Shared(order[found].astype(np.uint8).reshape(shape), table.astype(np.float32))

    def plain(
        self, shape: tuple[int, ...], array: np.ndarray | None = None, weight: tuple[int, ...] = ()
    ) -> np.ndarray:
        """Values as they are; zeros cost a coded bit where there are many, halves two bytes. weight: its shape, if it is one."""
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
        kept = self.indices(size, 2, None if marks is None else marks.astype(np.int64), weight).astype(bool)
        values = self.blob(raw, int(kept.sum()), None if flat is None else flat[kept])
        done = np.zeros(size, dtype=kind)
        done[kept] = values.astype(kind)
        return done.reshape(shape)


def _is_half(array: np.ndarray) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(array.size) and bool((array.astype(np.float16).astype(np.float32) == array).all())


def tensor_bytes(frozen: Frozen) -> dict[str, int]:
    """Return what each slot's values take in the file, rounded up to whole bytes."""
    coder, streams = Encoder(), bytearray()
    scribe = NetworkScribe(coder, streams)
    before: tuple[int, ...] = ()
    sizes = {}
    for name in frozen.spec.slot_users():
        start = coder.position() + 8 * len(streams)
        before = scribe.tensor(before, frozen.tensors[name]).shape
        sizes[name] = -(-(coder.position() + 8 * len(streams) - start) // 8)
    return sizes
