"""Devices as data: one YAML file each, checked, every constant with its source and spread.

A file of your own is named by its path; `devices/` beside this module shows what can stand in one.
"""

import difflib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from paredown.core.errors import BadInput

Format = Literal["fp32", "fp16", "int16", "int8", "int4"]
"""Number formats that a device can have a peak for."""

TASKS = ("kws", "vww", "ic", "ad")
"""The tasks of MLPerf Tiny that devices publish latencies for."""


class Entry(BaseModel):
    """What a device file is made of: frozen, and nothing that it does not know is allowed in."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Constant(Entry):
    """A value, the range it was seen in, and where it comes from (empty: the file's own source)."""

    value: PositiveFloat
    low: PositiveFloat | None = None
    high: PositiveFloat | None = None
    source: str = ""


def _as_constant(given: Any) -> Any:
    return given if isinstance(given, dict | Constant) else {"value": given}


Number = Annotated[Constant, BeforeValidator(_as_constant)]
"""A constant; in the file either a bare number or {value, low, high, source}."""


class Published(Entry):
    """A task's published latency with the range over the log's windows, energy per inference and power."""

    latency_ms: PositiveFloat
    low_ms: PositiveFloat | None = None
    high_ms: PositiveFloat | None = None
    energy_uj: PositiveFloat | None = None
    power_mw: PositiveFloat | None = None


class Throughputs(Entry):
    """What a microcontroller does in a second: MACs by kind of layer, and output values made; and a fixed time."""

    convolution: PositiveFloat
    depthwise: PositiveFloat
    pointwise: PositiveFloat
    linear: PositiveFloat
    values: PositiveFloat
    fixed_ms: Annotated[float, Field(ge=0)] = 0.0


class Array(Entry):
    """An array that takes `channels` inputs × `kernels` outputs of one kernel position a cycle."""

    channels: PositiveInt
    kernels: PositiveInt
    weight_compression: bool = False


class Device(Entry):
    """A device: peaks in operations a second (a MAC is two) by number format, bandwidth, memories, published results.

    `bytes_per_second` is main memory's; `cache_bytes_per_second` holds for what stays within `cache_bytes`.
    `skips_dead_channels`: its runtime leaves out channels whose weights are all zero.
    """

    name: str
    title: str
    kind: Literal["cpu", "gpu", "mcu", "npu"]
    source: str
    processor: str = ""
    clock_hz: PositiveFloat | None = None
    ram_bytes: PositiveInt | None = None
    flash_bytes: PositiveInt | None = None
    peak_ops: dict[Format, Number] = Field(default_factory=dict)
    bytes_per_second: Number | None = None
    cache_bytes: PositiveInt | None = None
    cache_bytes_per_second: Number | None = None
    power_mw: Number | None = None
    throughputs: Throughputs | None = None
    array: Array | None = None
    skips_dead_channels: bool = False
    published: dict[Literal["kws", "vww", "ic", "ad"], Published] = Field(default_factory=dict)


@cache
def devices() -> dict[str, Device]:
    """Return {name: device} of all that come with the package, by name."""
    folder = resources.files("paredown.cost") / "devices"
    files = (entry for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    found = [parse(entry.read_text(encoding="utf-8"), entry.name) for entry in files]
    return {one.name: one for one in sorted(found, key=lambda device: device.name)}


def device(name_or_path: str | Path) -> Device:
    """Return a device by name, or from a YAML file of your own. Raises BadInput.

    >>> device("nucleo_l4r5zi-x_cube_ai").ram_bytes
    655360
    """
    known = devices()
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        near = ", ".join(
            difflib.get_close_matches(str(name_or_path), [*known, "host"], 3, 0.4) or ["host", "nvidia_t4"]
        )
        raise BadInput(
            f"device {str(name_or_path)!r} is not known; give one like {near} or a .yaml file; `paredown devices` lists them"
        )
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise BadInput(f"device file {path} cannot be read: {error.strerror}") from error


def parse(text: str, where: str) -> Device:
    """Return the device that a YAML text describes; `where` is named in errors. Raises BadInput, one line."""
    try:
        return Device.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise BadInput(f"device file {where} is not YAML: {str(error).splitlines()[0]}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BadInput(f"device file {where}: {place}: {first['msg'].lower()}") from error
