"""The roofline: what a device can attain at a layer's intensity, which bound holds, and the time that follows.

S. Williams, A. Waterman, D. Patterson, Roofline: an insightful visual performance model, CACM 52(4), 2009: attainable
operations a second = min(peak, bandwidth × intensity), intensity = operations ÷ bytes moved. A MAC is two operations.
Bytes: weights, inputs and outputs once each, nothing reused between layers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from paredown.core.cost import Estimate, Layer
from paredown.core.errors import BadInput
from paredown.cost.devices import Device, Format

VERSION = "1"
WIDER: dict[Format, Format] = {"int4": "int8", "int8": "fp16", "fp16": "fp32"}
"""Where a device says no peak for a format, the layer computes in the next wider one."""


@dataclass(frozen=True)
class Point:
    """A layer on the roofline: operations, bytes, the roof over it in operations a second, its bound, and its time."""

    name: str
    format: Format
    operations: int
    traffic_bytes: float
    attainable: float
    bound: Literal["compute", "memory"]
    ms: float

    @property
    def intensity(self) -> float:
        """Operations per byte moved."""
        return self.operations / self.traffic_bytes if self.traffic_bytes else float("inf")


def operations(layer: Layer) -> int:
    """Return a layer's operations: multiplications, additions, comparisons and special functions, one each."""
    return layer.mults + layer.adds + layer.compares + layer.specials


def intensity(layer: Layer) -> float:
    """Return operations per byte moved: 2.25 for a large float depthwise 3 × 3, since each value moved serves nine MACs."""
    return 8 * operations(layer) / layer.traffic_bits if layer.traffic_bits else float("inf")


def attainable(peak: float, bytes_per_second: float, at_intensity: float) -> float:
    """Return operations a second at an intensity.

    >>> attainable(100.0, 10.0, 2.0), attainable(100.0, 10.0, 50.0)
    (20.0, 100.0)
    """
    return min(peak, bytes_per_second * at_intensity)


def format_of(layer: Layer) -> Format:
    """Return the format a layer computes in: that of its wider operand; up to 8 bits are integers."""
    width = max(layer.weight_bits if layer.weights or layer.params else 0, layer.activation_bits)
    return "fp32" if width > 16 else "fp16" if width > 8 else "int8" if width > 4 else "int4"


def peak(device: Device, format_: Format) -> tuple[Format, float]:
    """Return the format a device computes in for this one, and its peak operations a second. Raises BadInput."""
    taken: Format | None = format_
    while taken is not None:
        if taken in device.peak_ops:
            return taken, device.peak_ops[taken].value
        taken = WIDER.get(taken)
    raise BadInput(
        f"device {device.name!r} gives no peak_ops for {format_} or wider; it gives {sorted(device.peak_ops)}"
    )


def bandwidth(device: Device, working_bytes: float = math.inf) -> float:
    """Return a device's bytes a second: its cache's for a working set that stays there. Raises BadInput when it gives none."""
    if device.cache_bytes and device.cache_bytes_per_second and working_bytes <= device.cache_bytes:
        return device.cache_bytes_per_second.value
    if device.bytes_per_second is None:
        raise BadInput(f"device {device.name!r} gives no bytes_per_second")
    return device.bytes_per_second.value


def ridge(device: Device, format_: Format = "fp32") -> float:
    """Return the intensity from which a device is bound by computing: peak ÷ bandwidth, operations per byte."""
    return peak(device, format_)[1] / bandwidth(device)


def point(layer: Layer, device: Device, working_bytes: float = math.inf) -> Point:
    """Return a layer's place under a device's roof. Raises BadInput when the device gives no peak or bandwidth.

    working_bytes: what is used between one inference and the next; as it stands, everything comes from main memory.
    """
    format_, most = peak(device, format_of(layer))
    rate, work, moved = bandwidth(device, working_bytes), operations(layer), layer.traffic_bits / 8
    bound: Literal["compute", "memory"] = "compute" if work / most >= moved / rate else "memory"
    roof = attainable(most, rate, work / moved) if moved else most
    return Point(layer.name, format_, work, moved, roof, bound, 1e3 * max(work / most, moved / rate))


def points(layers: Sequence[Layer], device: Device) -> tuple[Point, ...]:
    """Return all layers' places under a device's roof, in order."""
    return tuple(point(layer, device) for layer in layers)


def latency(layers: Sequence[Layer], device: Device) -> Estimate:
    """Return the least time of one sample in ms: each layer at its roof, one after the other.

    No runtime is faster, unless it keeps weights or activations in a cache from one layer or inference to the next.
    """
    value = sum(one.ms for one in points(layers, device))
    return Estimate("latency_ms", value, f"roofline:{device.name}", VERSION)
