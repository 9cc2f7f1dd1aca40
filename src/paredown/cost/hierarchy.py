"""Energy of moving data through DRAM, buffer, array and registers, for four ways of ordering a convolution.

Y.-H. Chen, J. Emer, V. Sze, Eyeriss: a spatial architecture for energy-efficient dataflow for CNNs, ISCA 2016: the costs of
table IV, equations (3) and (4), and the comparison of section VII, with all dataflows on the same number of processing
elements and the same bytes of storage.

Differs from the paper: storage is equal in bytes, not in area, and mappings are searched among powers of two.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from paredown.core.cost import Layer
from paredown.core.errors import BadInput

Dataflow = Literal["weight stationary", "output stationary", "no local reuse", "row stationary"]
DATAFLOWS: tuple[Dataflow, ...] = ("weight stationary", "output stationary", "no local reuse", "row stationary")

DRAM, BUFFER, ARRAY, REGISTER, MAC = 200.0, 6.0, 2.0, 1.0, 1.0
"""Energy of one access relative to one MAC."""

NO_REUSE = 4 * DRAM + MAC
"""Per MAC when each operand is read from DRAM and each partial sum is read and written there: 801."""


@dataclass(frozen=True)
class Chip:
    """Processing elements, and words of 16 bits in each one's registers and in the buffer they share."""

    elements: int = 256
    register_words: int = 256
    buffer_words: int = 65536

    def buffer_left(self, register_words: int) -> int:
        """Return the words a buffer has when registers take fewer: what they do not use is the buffer's."""
        return self.buffer_words + self.elements * (self.register_words - register_words)


@dataclass(frozen=True)
class Shape:
    """One group of a convolution: images, filters, channels, filter side, output side, input side, stride."""

    images: int
    filters: int
    channels: int
    kernel: int
    out: int
    size: int
    stride: int = 1

    @classmethod
    def of(cls, layer: Layer, images: int = 1) -> "Shape":
        """Return one group's loops of a layer that has MACs. Non-square layers take the square of the same area."""
        loops = layer.geometry
        if loops is None or not layer.macs:
            raise BadInput(f"layer {layer.name!r} has no loops of a convolution or linear layer")
        side = round(math.sqrt(math.prod(loops.places)))
        size = round(math.sqrt(layer.reads / loops.channels_in)) if layer.reads else side
        kernel = round(math.sqrt(math.prod(loops.kernel)))
        stride = max(1, round((size - kernel) / (side - 1))) if side > 1 else 1
        channels = loops.channels_in // loops.groups
        return cls(images, loops.channels_out // loops.groups, channels, kernel, side, max(size, kernel), stride)

    @property
    def macs(self) -> int:
        """MACs of this group."""
        return self.images * self.filters * self.channels * self.kernel**2 * self.out**2

    @property
    def values(self) -> tuple[int, int, int]:
        """Distinct inputs, weights and outputs."""
        return (
            self.images * self.channels * self.size**2, self.filters * self.channels * self.kernel**2,
            self.images * self.filters * self.out**2,
        )  # fmt: skip


@dataclass(frozen=True)
class Split:
    """How often a value is used: fetches from DRAM, of each from the buffer, of each over the array, of each in registers."""

    dram: float
    buffer: float
    array: float
    register: float

    @classmethod
    def of(cls, uses: float, dram: float, array: float, register: float) -> "Split":
        """Return the split of so many uses; the buffer serves what the others leave."""
        dram = min(dram, uses)
        register = min(max(register, 1.0), uses / dram)
        array = min(max(array, 1.0), uses / dram / register)
        return cls(dram, uses / (dram * array * register), array, register)

    def operand(self, register_cost: float = REGISTER) -> float:
        """Return the energy of one operand, equation (3)."""
        a, b, c, d = self.dram, self.buffer, self.array, self.register
        return a * DRAM + a * b * BUFFER + a * b * c * ARRAY + a * b * c * d * register_cost

    def sums(self, register_cost: float = REGISTER) -> float:
        """Return the energy of accumulating one output, equation (4)."""
        a, b, c, d = self.dram, self.buffer, self.array, self.register
        within = 2 * a * b * c * (d - 1) * register_cost
        return (2 * a - 1) * DRAM + 2 * a * (b - 1) * BUFFER + a * b * (c - 1) * ARRAY + within


@dataclass(frozen=True)
class Mapping:
    """What a dataflow does with its elements at once: reuse of inputs, weights and sums, and what has to be in the buffer."""

    array: tuple[float, float, float]
    register: tuple[float, float, float]
    filters: int
    channels: int
    rows: int
    register_words: int
    sums_in_buffer: bool = True
    weights_per_tile: bool = False


@dataclass(frozen=True)
class Tile:
    """What the buffer holds at a time."""

    images: int
    filters: int
    channels: int
    rows: int


def powers(limit: int, start: int = 1) -> list[int]:
    """Return start, 2 start, 4 start … below the limit, and the limit.

    >>> powers(12), powers(12, 3), powers(2, 5)
    ([1, 2, 4, 8, 12], [3, 6, 12], [2])
    """
    found = [start * 2**i for i in range(max(0, math.ceil(math.log2(max(limit / start, 1)))))]
    return [*(value for value in found if value < limit), limit]


def row_stationary(shape: Shape, chip: Chip) -> Iterator[Mapping]:
    """Yield mappings that keep a filter row in an element and slide it over an input row (section V)."""
    r, out = shape.kernel, shape.out
    for rows in powers(min(out, max(1, chip.elements // r))):
        sets = chip.elements // (r * rows)
        for filters, channels in _splits(sets, shape):
            for p, q in itertools.product(powers(shape.filters), powers(shape.channels)):
                words = p + p * q * r + q * r
                if words > chip.register_words or p * filters > shape.filters or q * channels > shape.channels:
                    continue
                diagonal = r * rows / ((rows - 1) * shape.stride + r)
                along = p * r * out / shape.size
                yield Mapping(
                    (diagonal * filters, rows, r * channels), (along, out, r * q),
                    p * filters, q * channels, rows, words,
                )  # fmt: skip


def weight_stationary(shape: Shape, chip: Chip) -> Iterator[Mapping]:
    """Yield mappings that keep one weight in an element, inputs broadcast, sums passed on through the array."""
    window = shape.kernel**2
    for filters, channels in _splits(max(1, chip.elements // window), shape):
        seen = window * shape.out**2 / shape.size**2
        array = (filters * max(seen, 1.0), 1.0, float(window * channels))
        yield Mapping(array, (1.0, 1.0, 1.0), filters, channels, shape.out, 1, weights_per_tile=True)


def output_stationary(shape: Shape, chip: Chip) -> Iterator[Mapping]:
    """Yield mappings that keep one sum in an element: a patch of outputs of several filters at once."""
    for patch in powers(min(shape.out, math.isqrt(chip.elements))):
        filters = min(shape.filters, chip.elements // patch**2)
        shared = (patch * shape.kernel / ((patch - 1) * shape.stride + shape.kernel)) ** 2
        array = (filters * shared, float(patch**2), 1.0)
        sums = float(shape.channels * shape.kernel**2)
        yield Mapping(array, (1.0, 1.0, sums), filters, 1, patch, 1, sums_in_buffer=False)


def no_local_reuse(shape: Shape, chip: Chip) -> Iterator[Mapping]:
    """Yield mappings without registers: inputs broadcast to filters, sums added over channels, weights from the buffer."""
    for filters, channels in _splits(chip.elements, shape):
        yield Mapping((float(filters), 1.0, float(channels)), (1.0, 1.0, 1.0), filters, channels, 1, 0)


def _splits(elements: int, shape: Shape) -> Iterator[tuple[int, int]]:
    for filters in powers(min(elements, shape.filters)):
        yield filters, max(1, min(shape.channels, elements // filters))


MAPPINGS = {
    "weight stationary": weight_stationary, "output stationary": output_stationary,
    "no local reuse": no_local_reuse, "row stationary": row_stationary,
}  # fmt: skip


def energy_per_mac(shape: Shape, dataflow: Dataflow, chip: Chip = Chip()) -> float:
    """Return the least energy a MAC takes with a dataflow over all mappings, relative to the MAC alone; it is included."""
    return MAC + sum(best_split(shape, dataflow, chip)) / shape.macs


@cache
def best_split(shape: Shape, dataflow: Dataflow, chip: Chip = Chip()) -> tuple[float, float, float]:
    """Return the energy of moving inputs, weights and sums under the best mapping, in MACs.

    Raises BadInput when nothing of the layer fits the chip's buffer.
    """
    best = (math.inf,) * 3
    everything = Tile(shape.images, shape.filters, shape.channels, shape.out)
    for mapping in MAPPINGS[dataflow](shape, chip):
        # With a buffer that holds everything, no tile of this mapping can do better.
        if sum(_energy(shape, mapping, everything, (1.0, 1.0))) < sum(best):
            best = min([best, *_energies(shape, mapping, chip)], key=sum)
    if not math.isfinite(sum(best)):
        raise BadInput(f"a buffer of {chip.buffer_words} words holds no tile of {shape}")
    return best


def _energies(shape: Shape, mapping: Mapping, chip: Chip) -> Iterator[tuple[float, float, float]]:
    room = chip.buffer_left(mapping.register_words)
    for tile in _tiles(shape, mapping):
        for fetches in _fetches(shape, mapping, tile, room):
            yield _energy(shape, mapping, tile, fetches)


def _tiles(shape: Shape, mapping: Mapping) -> Iterator[Tile]:
    for images, filters, channels, rows in itertools.product(
        sorted({1, shape.images}),
        powers(shape.filters, mapping.filters),
        sorted({mapping.channels, shape.channels}),
        powers(shape.out, mapping.rows),
    ):
        yield Tile(images, filters, channels, rows)


def _fetches(shape: Shape, mapping: Mapping, tile: Tile, room: int) -> Iterator[tuple[float, float]]:
    """Yield how often each input and weight comes from DRAM, for the orders whose tile fits the buffer."""
    height = (tile.rows - 1) * shape.stride + shape.kernel
    needed = tile.filters * tile.channels * shape.kernel**2 + tile.images * tile.channels * height * shape.size
    needed += tile.images * tile.filters * tile.rows * shape.out if mapping.sums_in_buffer else 0
    if needed > room:
        return
    halo = max(1.0, height / (tile.rows * shape.stride)) if tile.rows < shape.out else 1.0
    groups = math.ceil(shape.filters / tile.filters)
    places = math.ceil(shape.images / tile.images) * math.ceil(shape.out / tile.rows)
    if tile.channels == shape.channels:
        yield halo * groups, 1.0
        yield halo, float(places)
    else:
        yield halo * groups, float(places)


def _energy(shape: Shape, mapping: Mapping, tile: Tile, fetches: tuple[float, float]) -> tuple[float, float, float]:
    inputs, weights, outputs = shape.values
    register = REGISTER if mapping.register_words else 0.0
    kept = float(tile.images * tile.rows * shape.out) if mapping.weights_per_tile else mapping.register[1]
    splits = (
        Split.of(shape.macs / inputs, fetches[0], mapping.array[0], mapping.register[0]),
        Split.of(shape.macs / weights, fetches[1], mapping.array[1], kept),
        Split.of(shape.macs / outputs, 1.0, mapping.array[2], mapping.register[2]),
    )
    return (
        inputs * splits[0].operand(register), weights * splits[1].operand(register), outputs * splits[2].sums(register),
    )  # fmt: skip
