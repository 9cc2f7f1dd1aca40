"""The catalogue: a part is a frozen dataclass with a card; discovery imports every file and fails loudly."""

import dataclasses
import difflib
import functools
import importlib
import importlib.metadata
import os
import pkgutil
import typing
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Any

from paredown.core.errors import BadInput
from paredown.core.kinds import KINDS
from paredown.core.knob import Knob, check_fields, knobs_of, verbs_of

FORMS = frozenset({"masked", "thin", "factored", "shared", "quantized", "folded"})
FALLS = frozenset({"params", "nonzero", "bits", "macs", "bops", "ram_bytes", "bytes"})


@dataclass(frozen=True)
class Card:
    """What a part is, where it comes from, what it needs and what must fall.

    `changes`: cost fields that the part lowers. `needs`: services of Work. `takes`, `forbids`, `gives`: forms of a
    network's weights before and after. `cite` is a BibTeX entry's body.
    """

    title: str
    paper: str = ""
    year: int = 0
    authors: str = ""
    source: str = ""
    changes: Set[str] = field(default=frozenset())
    needs: Set[str] = field(default=frozenset())
    takes: Set[str] = field(default=frozenset())
    forbids: Set[str] = field(default=frozenset())
    gives: Set[str] = field(default=frozenset())

    def __post_init__(self) -> None:
        for name in ("changes", "needs", "takes", "forbids", "gives"):
            object.__setattr__(self, name, frozenset(getattr(self, name)))
        if unknown := self.changes - FALLS:
            raise BadInput(f"card {self.title!r} changes {sorted(unknown)}; allowed: {sorted(FALLS)}")
        if unknown := (self.takes | self.forbids | self.gives) - FORMS:
            raise BadInput(f"card {self.title!r} names the forms {sorted(unknown)}; allowed: {sorted(FORMS)}")


@dataclass(frozen=True)
class Entry:
    """A registered part: its dotted name, its kind, its card and its class."""

    name: str
    kind: str
    card: Card
    cls: type


_ENTRIES: dict[str, Entry] = {}


def part(name: str, card: Card) -> Callable[[type], type]:
    """Register a frozen dataclass as the part `name`. Its kind is read off its verb; its fields are checked at birth."""

    def register(cls: type) -> type:
        if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise TypeError(f"part {name!r} must be a frozen dataclass")
        kinds = [kind for kind, protocol in KINDS.items() if all(map(_method_of(cls), verbs_of(protocol)))]
        if len(kinds) != 1:
            raise TypeError(
                f"part {name!r} has the verbs of {kinds or 'no kind'}; it must have those of exactly one kind"
            )
        if name in _ENTRIES and _ENTRIES[name].cls.__module__ != cls.__module__:
            raise TypeError(f"part {name!r} is registered twice: {_ENTRIES[name].cls.__module__} and {cls.__module__}")
        _check_at_birth(cls)
        cls.part_name, cls.card = name, card  # type: ignore[attr-defined]
        _ENTRIES[name] = Entry(name, kinds[0], card, cls)
        return cls

    return register


def _method_of(cls: type) -> Callable[[str], bool]:
    """Return whether a name is one of a class's methods; a field of that name is none."""
    return lambda verb: callable(getattr(cls, verb, None))


def _check_at_birth(cls: type) -> None:
    born = cls.__init__  # type: ignore[misc]

    @functools.wraps(born)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        born(self, *args, **kwargs)
        check_fields(self)

    cls.__init__ = init  # type: ignore[misc]


def discover(package: str) -> None:
    """Import every module below `package`, so that its parts register. An import error is not swallowed."""
    root = importlib.import_module(package)
    for found in pkgutil.walk_packages(getattr(root, "__path__", []), package + "."):
        importlib.import_module(found.name)


@functools.cache
def _discover_all() -> None:
    for room in ("methods", "targets", "search", "rules"):
        discover(f"paredown.{room}")
    for entry_point in importlib.metadata.entry_points(group="paredown.parts"):
        discover(entry_point.value)
    for package in filter(None, os.environ.get("PAREDOWN_PARTS", "").split(",")):
        discover(package.strip())


def entries(kind: str | None = None) -> list[Entry]:
    """Return every part there is (of one kind), by name; packages named in PAREDOWN_PARTS or by an entry point too."""
    _discover_all()
    return [e for _, e in sorted(_ENTRIES.items()) if kind in (None, e.kind)]


def entry(name: str) -> Entry:
    """Return the part called `name`, or raise BadInput naming the nearest ones."""
    if name not in _ENTRIES:
        _discover_all()
    if name not in _ENTRIES:
        near = difflib.get_close_matches(str(name), _ENTRIES, 3) or sorted(_ENTRIES)[:5]
        raise BadInput(f"part {name!r} is unknown; did you mean {', '.join(near)}? `paredown methods` lists them all")
    return _ENTRIES[name]


def rules() -> dict[str, Any]:
    """Return {name: rule} of what is registered: `family.edition` for each edition, or the family where it has one only."""
    found: dict[str, Any] = {}
    for at in sorted(e.name for e in _ENTRIES.values() if e.kind == "rule"):
        editions = knobs_of(_ENTRIES[at].cls).get("edition", Knob()).among or ()
        found |= {f"{at}.{edition}": _ENTRIES[at].cls(edition=edition) for edition in editions} or {
            at: _ENTRIES[at].cls()
        }
    return found


def rule(name: str) -> Any:
    """Return the rule called `name`. Raises BadInput naming the nearest ones."""
    discover("paredown.rules")  # these wake no torch, so scoring a file of counts wakes none
    if name not in rules():
        _discover_all()
    if name not in (known := rules()):
        near = difflib.get_close_matches(str(name), known, 3) or list(known)[:5]
        raise BadInput(f"rule {name!r} is unknown; did you mean {', '.join(near)}? `paredown rules` lists them all")
    return known[name]


def build(data: Any) -> Any:
    """Return the part described by {"part": name, field: value…}, nested parts included. Raises BadInput.

    Where a field takes a part, its name alone stands for it with its own defaults.
    """
    if not isinstance(data, dict) or "part" not in data:
        raise BadInput(f"step {data!r} is not a part; write it like {{part: quantize.uniform, bits: 4}}")
    found = entry(data["part"])
    fields = {f.name for f in dataclasses.fields(found.cls)}
    if unknown := set(data) - fields - {"part"}:
        allowed = ", ".join(sorted(fields)) or "none"
        raise BadInput(f"{found.name} has no field {sorted(map(str, unknown))[0]!r}; its fields: {allowed}")
    hints = typing.get_type_hints(found.cls)
    return found.cls(**{key: _value(value, hints[key]) for key, value in data.items() if key != "part"})


def _value(value: Any, hint: Any = None) -> Any:
    if isinstance(value, dict) and "part" in value:
        return build(value)
    if isinstance(value, str) and hint in KINDS.values():
        return build({"part": value})
    if isinstance(value, dict) and isinstance(hint, type) and dataclasses.is_dataclass(hint):
        known = [f.name for f in dataclasses.fields(hint)]
        if unknown := set(value) - set(known):
            raise BadInput(
                f"{hint.__name__} has no field {sorted(map(str, unknown))[0]!r}; its fields: {', '.join(known)}"
            )
        return hint(**value)
    inner = next(iter(typing.get_args(hint)), None) if typing.get_origin(hint) is tuple else None
    return tuple(_value(v, inner) for v in value) if isinstance(value, list | tuple) else value


def describe(instance: Any) -> Any:
    """Return a part as JSON: {"part": name, field: value…}; the inverse of `build`."""
    if hasattr(instance, "part_name"):
        return {
            "part": instance.part_name,
            **{f.name: describe(getattr(instance, f.name)) for f in dataclasses.fields(instance)},
        }
    if dataclasses.is_dataclass(instance) and not isinstance(instance, type):
        return dataclasses.asdict(instance)
    return [describe(v) for v in instance] if isinstance(instance, tuple | list) else instance
