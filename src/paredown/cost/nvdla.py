"""Cycles of a convolution on an NVDLA-like array, and its coding of sparse weights.

nvdla.org, hardware manual: the convolution core takes Atomic-C input channels × Atomic-K kernels of one kernel position
and one output place a cycle; compressed weights are nonzero bytes, a mask of one bit a weight (WMB), and the number of bytes
in each group of kernels (WGS).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paredown.core.cost import Estimate, Layer
from paredown.core.errors import BadInput, Damaged
from paredown.cost.devices import Array, Device

VERSION = "1"


def cycles(layer: Layer, array: Array) -> int:
    """Return ⌈C / Atomic-C⌉ ⌈K / Atomic-K⌉ × kernel positions × output places, over all groups; 0 for a layer without MACs.

    Direct convolution: no Winograd, no batching, and memory never in the way.
    """
    loops = layer.geometry
    if loops is None or not layer.macs:
        return 0
    inputs = math.ceil(loops.channels_in // loops.groups / array.channels)
    kernels = math.ceil(loops.channels_out // loops.groups / array.kernels)
    return loops.groups * inputs * kernels * math.prod(loops.kernel) * math.prod(loops.places)


def utilisation(layer: Layer, array: Array) -> float:
    """Return the fraction of the array's multipliers that work: 3 / 64 for a picture's first layer on 64 channels."""
    taken = cycles(layer, array)
    return layer.macs / (taken * array.channels * array.kernels) if taken else 0.0


def latency(layers: Sequence[Layer], device: Device, clock_hz: float | None = None) -> Estimate:
    """Return the predicted ms of all convolutions, one after the other. Raises BadInput without an array or a clock."""
    clock = clock_hz or device.clock_hz
    if device.array is None:
        raise BadInput(f"device {device.name!r} has no array; latency by cycles needs one")
    if clock is None:
        raise BadInput(f"device {device.name!r} gives no clock_hz; say at which clock to count")
    total = sum(cycles(layer, device.array) for layer in layers)
    return Estimate(
        "latency_ms",
        1e3 * total / clock,
        f"cycles:{device.name} at {clock:g} Hz, held to no published measurement",
        VERSION,
    )


@dataclass(frozen=True)
class MaskedWeights:
    """Sparse int8 weights: nonzero values in order, one bit a weight, values in each group of kernels, and their shape."""

    values: bytes
    mask: bytes
    groups: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def total_bytes(self) -> int:
        """Values, mask, and four bytes for each group's size."""
        return len(self.values) + len(self.mask) + 4 * len(self.groups)


def encode(weights: np.ndarray, kernels: int = 16) -> MaskedWeights:
    """Return int8 weights (kernels first) in mask coding, grouped by so many kernels."""
    taken = np.ascontiguousarray(weights, dtype=np.int8)
    flat = taken.ravel()
    counts = [int(np.count_nonzero(taken[at : at + kernels])) for at in range(0, len(taken), kernels)]
    mask = np.packbits(flat != 0, bitorder="little")
    return MaskedWeights(flat[flat != 0].tobytes(), mask.tobytes(), tuple(counts), taken.shape)


def decode(coded: MaskedWeights) -> np.ndarray:
    """Return the int8 weights. Raises Damaged when mask and values disagree."""
    size = math.prod(coded.shape)
    if len(coded.mask) != (size + 7) // 8:
        raise Damaged(f"a mask of {len(coded.mask)} bytes does not cover {size} weights")
    mask = np.unpackbits(np.frombuffer(coded.mask, np.uint8), count=size, bitorder="little").astype(bool)
    values = np.frombuffer(coded.values, np.int8)
    if not mask.sum() == len(values) == sum(coded.groups):
        raise Damaged(f"mask, values and group sizes disagree: {mask.sum()}, {len(values)}, {sum(coded.groups)}")
    found = np.zeros(size, np.int8)
    found[mask] = values
    return found.reshape(coded.shape)
