"""How fast a thinner network is expected to be in a runtime, before it is trained: modelled from its measured shape classes.

Needs no torch. A file is cut into the nodes that the runtime makes of it (`pieces`), each class is timed once (`classes`), and

    t(file) = call + nodes · dispatch + Σ t(class) + m · bytes,

where calling the runtime and dispatching a node are measured on files that compute nothing. A class is timed with all that it
reads near; in a network weights and values come from further away. That is m, for each byte that the nodes read and make: it
makes the sum of the network before pruning its whole file's measured time.
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from paredown.core.cost import Estimate, Layer, Measurement
from paredown.core.errors import BadInput
from paredown.cost.measure import disturbances, observed
from paredown.targets.classes import Book, Timed, Timer, in_turn, one_layer, timed, whole
from paredown.targets.pieces import Feeds, Piece, pieces

MODEL, VERSION = "sum of measured shape classes", "1"
RUNTIMES = ("onnx", "packed")
"""Where layers can be timed one by one; a packed file is decoded to the same file and run in ONNX Runtime."""
BLOCK = 16
"""Channels are compared with the next multiple of this many."""
ROUGH = 0.15
"""A share of the time for memory from which an expectation is called rough."""
FEW = 4
"""Inputs of at most so many channels are the data's, which nothing widens."""
TWINS = 3


@dataclass(frozen=True, eq=False)
class Side:
    """A network before or after: its ONNX model, inputs by name, and its counted layers.

    order: the names of the layers with weights in the order of the model's nodes. zeros: {layer: share of its weights that
    are zero}. file_bytes: of its coded file. predicted: whether those are what the index cost predicts, not a file's.
    """

    model: onnx.ModelProto
    feeds: Feeds
    layers: Mapping[str, Layer]
    order: tuple[str, ...] = ()
    zeros: Mapping[str, float] = field(default_factory=dict)
    file_bytes: int = 0
    predicted: bool = False

    def cut(self) -> list[Piece]:
        """Return the nodes that the runtime runs for it."""
        return pieces(self.model, self.feeds, self.order)


@dataclass(frozen=True)
class Row:
    """One layer (or, in brackets, all nodes of one operator): what its classes take before and after, and its MACs."""

    layer: str
    before_ms: float
    after_ms: float
    before_macs: int = 0
    after_macs: int = 0
    shape: str = ""
    untouched: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the row as a JSON object."""
        return dict(vars(self))


@dataclass(frozen=True)
class Twin:
    """A layer's convolution alone beside one whose channels are a multiple of BLOCK: "27 to 45" beside "32 to 48", in ms."""

    layer: str
    own: str
    wider: str
    own_ms: float
    wider_ms: float


@dataclass(frozen=True)
class Expectation:
    """What pruning is expected to bring: `before`, `after` and `ratio` are modelled; `whole` is the file before, measured."""

    runtime: str
    before: Estimate
    after: Estimate
    ratio: Estimate
    whole: Measurement
    fixed_ms: tuple[float, float]
    memory_ms: tuple[float, float]
    rows: tuple[Row, ...]
    twins: tuple[Twin, ...]
    classes: int
    fresh: int
    notes: tuple[str, ...] = ()


def expected(before: Side, after: Side, runtime: str, book: Book, timer: Timer = in_turn) -> Expectation:
    """Return the expected latency of `after` beside `before` in a runtime. Raises BadInput.

    Only classes that `book` does not know are measured, all in turn with the whole file before. timer: how.
    """
    return Plan.of(before, after, runtime, book).carried_out(timer)


@dataclass(frozen=True, eq=False)
class Plan:
    """Both networks cut into classes, and what is missing in the book."""

    before: Side
    after: Side
    runtime: str
    book: Book
    parts: tuple[list[Piece], list[Piece]]
    pairs: Mapping[str, tuple[str, str, Piece, Piece]]

    @staticmethod
    def of(before: Side, after: Side, runtime: str, book: Book) -> "Plan":
        """Return the plan of an expectation; nothing is measured yet. Raises BadInput."""
        check_runtime(runtime)
        return Plan(before, after, runtime, book, (before.cut(), after.cut()), _pairs(before, after))

    @property
    def wanted(self) -> dict[str, Piece]:
        """Every class, by its key."""
        alone = [piece for _, _, own, wider in self.pairs.values() for piece in (own, wider)]
        return {piece.key: piece for piece in (*self.parts[0], *self.parts[1], *alone)}

    @property
    def missing(self) -> int:
        """How many classes have to be measured."""
        return len(self.book.missing(self.wanted))

    def carried_out(self, timer: Timer = in_turn) -> Expectation:
        """Return the expectation, measuring what is missing."""
        found = timed(self.book, self.wanted, {"whole": whole(self.before.model, self.before.feeds)}, timer)
        sums = [sum(found.ms[piece.key] for piece in part) for part in self.parts]
        fixed = [found.call_ms + len(part) * found.node_ms for part in self.parts]
        took = statistics.median(found.others["whole"])
        size = [sum(piece.bytes for piece in part) for part in self.parts]
        rest = took - fixed[0] - sums[0]
        memory = (max(0.0, rest), max(0.0, rest) * size[1] / size[0])
        scale = took / (took - min(0.0, rest))
        before, after = (scale * (f + s + m) for f, s, m in zip(fixed, sums, memory, strict=True))
        source = f"{VERSION}; {len(self.wanted)} classes measured in {self.book.runtime}"
        return Expectation(
            self.runtime, Estimate("latency_ms", before, MODEL, source), Estimate("latency_ms", after, MODEL, source),
            Estimate("speedup", before / after if after else 1.0, MODEL, source),
            observed("latency_ms", found.others["whole"], "the whole file before, thread time"), (fixed[0], fixed[1]), memory,
            self._rows(found), self._twins(found), len(self.wanted), found.fresh, self._notes(found, memory[0] / took, size[0]),
        )  # fmt: skip

    def _notes(self, found: Timed, share: float, size: int) -> tuple[str, ...]:
        seen = observed("latency_ms", found.others["whole"])
        busy = [f"measured on a busy machine ({why}); times are of this thread alone" for why in disturbances(seen)]
        if share > ROUGH:
            busy.append(
                f"{100 * share:.0f} % of the time before goes into bringing {size / 1e6:.1f} MB from memory, taken in proportion to the "
                "bytes after; where these fit a nearer cache it is less, so this is rough"
            )
        return (*([self.book.damaged] if self.book.damaged else []), *busy)

    def _rows(self, found: Timed) -> tuple[Row, ...]:
        labels = dict.fromkeys(piece.label for part in self.parts for piece in part)
        return tuple(self._row(label, found) for label in labels)

    def _row(self, label: str, found: Timed) -> Row:
        keys = [sorted(piece.key for piece in part if piece.label == label) for part in self.parts]
        times = [sum(found.ms[key] for key in some) for some in keys]
        ends = [side.layers.get(label) for side in (self.before, self.after)]
        macs = [layer.macs if layer else 0 for layer in ends]
        shapes = [_channels(layer) for layer in ends]
        shape = _window(ends[0]) + (shapes[0] if shapes[0] == shapes[1] else f"{shapes[0]}, then {shapes[1]}")
        return Row(label, times[0], times[1], macs[0], macs[1], shape, keys[0] == keys[1])

    def _twins(self, found: Timed) -> tuple[Twin, ...]:
        return tuple(
            Twin(layer, own, wider, found.ms[a.key], found.ms[b.key])
            for layer, (own, wider, a, b) in self.pairs.items()
        )


def check_runtime(runtime: str) -> None:
    """Raise BadInput for a runtime whose layers cannot be timed one by one."""
    if runtime not in RUNTIMES:
        raise BadInput(
            f"runtime {runtime!r} cannot be timed layer by layer; allowed: {', '.join(RUNTIMES)} (both run in ONNX Runtime)"
        )


def _channels(layer: Layer | None) -> str:
    """Return "16 to 32"."""
    if layer is None or layer.geometry is None:
        return ""
    loops = layer.geometry
    return f"{loops.channels_in} to {loops.channels_out}"


def _window(layer: Layer | None) -> str:
    """Return "3×3 at 8×8"."""
    if layer is None or layer.geometry is None:
        return ""
    kernel, places = ("×".join(map(str, dims)) for dims in (layer.geometry.kernel, layer.geometry.places))
    return f"{kernel} at {places}: "


def _pairs(before: Side, after: Side) -> dict[str, tuple[str, str, Piece, Piece]]:
    """Return {layer: (channels, wider channels, its class alone, the wider one's)} of the largest convolutions cut to odd ones."""
    convolutions = dict(_convolutions(after))
    largest = sorted(
        (n for n in convolutions if _odd(before.layers.get(n), after.layers[n])), key=lambda n: -after.layers[n].macs
    )
    distinct = {convolutions[name][0]: name for name in reversed(largest)}
    first = [name for name in largest if name in distinct.values()][:TWINS]
    return {name: _pair(*convolutions[name]) for name in first}


def _odd(before: Layer | None, after: Layer) -> bool:
    """Return whether a plain convolution was cut to channels that fill no whole blocks."""
    cut = after.geometry
    if before is None or before.geometry == cut or cut is None or cut.groups > 1:
        return False
    return bool(cut.channels_out % BLOCK or (cut.channels_in > FEW and cut.channels_in % BLOCK))


def _convolutions(side: Side) -> list[tuple[str, tuple[tuple[int, ...], tuple[int, int], dict[str, Any]]]]:
    """Return (layer, (shape of its weight, sides of its input, attributes)) for the convolutions of a model, where names fit."""
    stored = {t.name: tuple(t.dims) for t in side.model.graph.initializer}
    nodes = [n for n in side.model.graph.node if n.op_type in ("Conv", "Gemm", "MatMul") and n.input[1] in stored]
    if len(nodes) != len(side.order):
        return []
    found = []
    for name, node in zip(side.order, nodes, strict=True):
        layer = side.layers.get(name)
        if node.op_type == "Conv" and layer is not None and layer.geometry is not None:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            found.append((name, (stored[node.input[1]], _sides(layer, attributes), attributes)))
    return found


def _sides(layer: Layer, attributes: Mapping[str, Any]) -> tuple[int, int]:
    """Return an input's height and width from which a convolution makes as many places."""
    assert layer.geometry is not None
    strides, pads = attributes.get("strides", [1, 1]), attributes.get("pads", [0] * 4)
    wide = [d * (k - 1) + 1 for d, k in zip(attributes.get("dilations", [1, 1]), layer.geometry.kernel, strict=True)]
    high, long = (
        (p - 1) * s + w - pads[at] - pads[at + 2]
        for at, (p, s, w) in enumerate(zip(layer.geometry.places, strides, wide, strict=True))
    )
    return high, long


def _pair(weight: tuple[int, ...], sides: tuple[int, int], attributes: dict[str, Any]) -> tuple[str, str, Piece, Piece]:
    wide = tuple(-(-n // BLOCK) * BLOCK if n > FEW or at == 0 else n for at, n in enumerate(weight[:2]))
    own, wider = (
        one_layer(
            np.random.default_rng(0).random((1, shape[1], *sides), dtype=np.float32),
            (*shape, *weight[2:]),
            **attributes,
        )
        for shape in (weight[:2], wide)
    )
    return f"{weight[1]} to {weight[0]}", f"{wide[1]} to {wide[0]}", own, wider


Told = Callable[[dict[str, Any]], None]
