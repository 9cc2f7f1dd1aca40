"""What the models of cost say of a network: its energy by a table, and latency and energy on a named device."""

from collections.abc import Sequence
from typing import Any

from paredown.core.cost import Estimate, Layer
from paredown.core.errors import BadInput
from paredown.cost import energy, mcu, nvdla, roofline
from paredown.cost.devices import Device


def estimates(layers: Sequence[Layer], device: Device | None = None) -> tuple[Estimate, ...]:
    """Return the energy of the counted work, and what is modelled of a device if one is named. Raises BadInput.

    A microcontroller's come from its published results, an NPU's from its array, any other's from its roofline.
    """
    found = [energy.energy(layers)]
    if device is None:
        return tuple(found)
    if device.kind == "mcu":
        found.append(mcu.latency(layers, device))
        if device.power_mw is not None or any(seen.power_mw for seen in device.published.values()):
            found.append(mcu.energy(layers, device))
    elif device.array is not None and device.clock_hz:
        found.append(nvdla.latency(layers, device))
    elif device.array is not None:
        cycles = sum(nvdla.cycles(layer, device.array) for layer in layers)
        found.append(
            Estimate("cycles", cycles, f"nvdla:{device.name}, held to no published measurement", nvdla.VERSION)
        )
    elif device.peak_ops:
        found.append(roofline.latency(layers, device))
    else:
        raise BadInput(f"device {device.name!r} gives neither throughputs, an array nor a peak to model a latency with")
    return tuple(found)


def energies(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """Return every layer's energy by the table, as JSON: name, kind, uj in all, and its parts."""
    found = []
    for layer in layers:
        parts = energy.parts(layer)
        found.append({"name": layer.name, "kind": layer.kind, "uj": parts.total_uj, **vars(parts)})
    return found


def roof(layers: Sequence[Layer], device: Device | None) -> dict[str, Any] | None:
    """Return every layer's place under a device's roof as JSON, or None for a device that has none.

    {"device", "peak_ops" (of the widest format used), "bytes_per_second", "rows": name, kind, intensity, attainable_ops,
    bound, ms and the layer's share of the whole time}.
    """
    if device is None or not device.peak_ops or device.bytes_per_second is None:
        return None
    working = [layer for layer in layers if roofline.operations(layer)]
    points = roofline.points(working, device)
    whole = sum(point.ms for point in points) or 1.0
    rows = [
        {
            "name": point.name, "kind": layer.kind, "intensity": point.intensity, "attainable_ops": point.attainable,
            "bound": point.bound, "ms": point.ms, "share": point.ms / whole,
        }
        for layer, point in zip(working, points, strict=True)
    ]  # fmt: skip
    most = max((roofline.peak(device, point.format)[1] for point in points), default=0.0)
    return {"device": device.title, "peak_ops": most, "bytes_per_second": roofline.bandwidth(device), "rows": rows}
