"""`paredown methods`, `tasks`, `models`, `targets` and `devices`: rendered from the files themselves."""

import dataclasses
import inspect
from typing import Any

from paredown.core.catalog import entries, entry
from paredown.core.knob import knobs_of
from paredown.cost.devices import devices
from paredown.data.tasks import names
from paredown.zoo.resolve import models


def parts() -> list[dict[str, Any]]:
    """Return a row for each part: its name, kind, title, paper and year."""
    return [
        {"name": e.name, "kind": e.kind, "title": e.card.title, "paper": e.card.paper, "year": e.card.year}
        for e in entries()
    ]


def card(name: str) -> dict[str, Any]:
    """Return a part's card, its fields with defaults and ranges, and its documentation. Raises BadInput."""
    found = entry(name)
    knobs = knobs_of(found.cls)
    fields = []
    for f in dataclasses.fields(found.cls):
        default = _default(f)
        fields.append(
            {"field": f.name, "default": default, "allowed": knobs[f.name].allowed() if f.name in knobs else ""}
        )
    listed = {key: sorted(getattr(found.card, key)) for key in ("changes", "needs", "takes", "forbids", "gives")}
    return {
        "schema": "paredown/card/1", "name": found.name, "kind": found.kind, "title": found.card.title, "paper": found.card.paper,
        "year": found.card.year, "authors": found.card.authors, "source": found.card.source, **listed, "fields": fields,
        "doc": inspect.getdoc(found.cls) or "",
    }  # fmt: skip


def _default(f: dataclasses.Field[Any]) -> str:
    """Return a field's default as it would be written: a value, a part by its name, or that there is none."""
    if f.default is not dataclasses.MISSING:
        return str(getattr(type(f.default), "part_name", repr(f.default)))
    if f.default_factory is dataclasses.MISSING:
        return "required"
    made = f.default_factory()
    return str(getattr(type(made), "part_name", repr(made)))


def task_rows() -> list[dict[str, str]]:
    """Return a row for each built-in task."""
    return [{"name": name, "about": about} for name, about in names()]


def model_rows() -> list[dict[str, str]]:
    """Return a row for each model of the zoo: its id and what it is."""
    return [{"name": name, "about": (inspect.getdoc(f) or "").splitlines()[0]} for name, f in models().items()]


def target_rows() -> list[dict[str, str]]:
    """Return a row for each format that can be written."""
    return [{"name": e.name, "about": e.card.title} for e in entries("backend")]


def device_rows() -> list[dict[str, str]]:
    """Return a row for each device that comes with the package: its name, kind and title."""
    return [{"name": d.name, "kind": d.kind, "about": d.title} for d in devices().values()]


ROWS = {"tasks": task_rows, "models": model_rows, "targets": target_rows, "devices": device_rows}
"""What the verbs that only list show."""
