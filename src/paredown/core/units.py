"""Sizes, times and counts as people write them."""

import math
import re

from paredown.core.errors import BadInput

SIZES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
COUNTS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
TIMES_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = re.compile(r"^\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-zµ]*)\s*$")


def _split(text: str, what: str, allowed: str) -> tuple[float, str]:
    match = _NUMBER.match(str(text))
    if not match:
        raise BadInput(f"{what} {text!r} is not a positive number with a unit; write it like {allowed}")
    number = float(match[1])
    if math.isinf(number):
        raise BadInput(f"{what} {text!r} is beyond all bounds; write it like {allowed}")
    return number, match[2]


def seconds(text: str | float) -> float:
    """Return a duration in seconds: `90s`, `3m`, `1.5h`, or a bare number of seconds. Raises BadInput."""
    number, unit = _split(str(text), "budget", "90s, 5m or 1h")
    if unit.lower() not in TIMES_S and unit != "":
        raise BadInput(f"budget {text!r} has the unknown unit {unit!r}; allowed: ms, s, m, h, d")
    value = number * TIMES_S.get(unit.lower(), 1.0)
    if value <= 0:
        raise BadInput(f"budget {text!r} must be longer than zero; write it like 90s, 5m or 1h")
    return value


def limit(what: str, text: str | float) -> float:
    """Return a hard limit in the unit that the cost field's name ends in: `ram_bytes=32KB`, `latency_ms=5ms`, `macs=2M`.

    Raises BadInput when the number or the unit does not fit the field.
    """
    number, unit = _split(str(text), f"limit {what}", "32KB, 32KiB, 5ms or 2M")
    if what.endswith("_bytes"):
        scales: dict[str, float] = {**SIZES, "": 1}
        unit = unit.lower()
    elif what.endswith("_ms"):
        scales = {"ms": 1, "s": 1e3, "us": 1e-3, "µs": 1e-3, "": 1}
    elif what.endswith("_uj"):
        scales = {"uj": 1, "µj": 1, "mj": 1e3, "j": 1e6, "": 1}
        unit = unit.lower()
    else:
        scales = dict(COUNTS)
        unit = unit.lower()
    if unit not in scales:
        names = ", ".join(name for name in scales if name)
        raise BadInput(f"limit {what}={text} has the unknown unit {unit!r}; allowed: {names} or none")
    if number <= 0:
        raise BadInput(f"limit {what}={text} must be more than zero")
    return number * scales[unit]


def shape(text: str) -> tuple[int, ...]:
    """Return the shape of one sample: `3x32x32`, `64`, or with a batch of one before it, `1x3x32x32`. Raises BadInput."""
    parts = text.lower().split("x")
    if not all(p.isdigit() and int(p) > 0 for p in parts) or len(parts) not in (1, 2, 3, 4):
        raise BadInput(f"input {text!r} is not a shape; write it like 3x32x32 or 64")
    sizes = tuple(map(int, parts))
    return sizes[1:] if len(sizes) == 4 else sizes
