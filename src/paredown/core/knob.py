"""Hyper-parameters that check themselves and tell the search what they may be."""

import dataclasses
import math
import types
import typing
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field
from typing import Any

from paredown.core.errors import BadInput


@dataclass(frozen=True)
class Knob:
    """The range of one hyper-parameter: a set of values, or an interval (closed; `log` for its search scale)."""

    among: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    search: bool = True

    def allowed(self) -> str:
        """Return the range in words."""
        if self.among is not None:
            return "one of " + ", ".join(map(str, self.among))
        return f"from {self.low} to {self.high}"

    def check(self, name: str, value: Any) -> None:
        """Raise BadInput unless `value` is in the range."""
        if self.among is not None:
            if value not in self.among:
                raise BadInput(f"{name}={value!r} is not allowed; {self.allowed()}")
            return
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BadInput(f"{name}={value!r} is not a number; {self.allowed()}")
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            raise BadInput(f"{name}={value!r} is out of range; {self.allowed()}")


def knob(
    default: Any = MISSING,
    *,
    among: Iterable[Any] | None = None,
    low: float | None = None,
    high: float | None = None,
    log: bool = False,
    search: bool = True,
) -> Any:
    """Return a dataclass field with a checked range; `search=False` keeps the searcher's hands off it."""
    meta = Knob(None if among is None else tuple(among), low, high, log, search)
    return field(default=default, metadata={"knob": meta})


def knobs_of(part: type) -> dict[str, Knob]:
    """Return a dataclass's fields that carry a range."""
    return {f.name: f.metadata["knob"] for f in dataclasses.fields(part) if "knob" in f.metadata}


def check_fields(instance: Any) -> None:
    """Raise BadInput for the first field whose type or range is wrong. Integers stand for floats, lists for tuples."""
    hints = typing.get_type_hints(type(instance))
    for f in dataclasses.fields(instance):
        value, name = getattr(instance, f.name), f"{type(instance).__name__}.{f.name}"
        _check_type(name, value, hints[f.name])
        if "knob" in f.metadata and value is not None:
            f.metadata["knob"].check(name, value)


def _check_type(name: str, value: Any, hint: Any) -> None:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for option in options:
        plain = typing.get_origin(option) or option
        if plain is Any or not isinstance(plain, type):
            return
        if getattr(plain, "_is_protocol", False):
            if all(callable(getattr(value, verb, None)) for verb in verbs_of(plain)):
                return
            continue
        if plain is float and isinstance(value, int) and not isinstance(value, bool):
            return
        if plain is int and isinstance(value, bool):
            continue
        if isinstance(value, plain):
            inner = typing.get_args(option)
            items: Any = value if plain is tuple and inner[1:] == (...,) else ()
            for item in items:
                _check_type(name, item, inner[0])
            return
    wanted = " or ".join(getattr(o, "__name__", str(o)) for o in options)
    said = getattr(value, "part_name", None) or repr(value)
    raise BadInput(f"{name}={said} is a {type(value).__name__}; it must be {wanted}")


def verbs_of(protocol: type) -> list[str]:
    """Return the names of the methods that a protocol asks for."""
    return [n for n, v in vars(protocol).items() if isinstance(v, types.FunctionType) and not n.startswith("_")]
