"""`load`: the one entry to data, whatever it is."""

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import paredown.data
from paredown.core.errors import BadInput
from paredown.core.metric import metric_named
from paredown.core.task import Task
from paredown.data import arrays, folder, python, table
from paredown.data.options import Options, TaskFile, one_line
from paredown.data.raw import Builtin, Raw, finish

READERS: dict[str, Callable[[Path, Options], Raw]] = {".npz": arrays.read, ".csv": table.read}


def load(task: Any, *, metric: str | None = None, seed: int = 0) -> Task:
    """Return a Task with all four roles, checked, from a Task, a built-in's name, a path, or data from Python.

    A path: a folder of pictures, an `.npz`, a `.csv` or a `task.yaml`. From Python: see `paredown.data.python`.
    `metric` takes the place of the task's own. `seed` draws val and calib where the data does not bring them; it never
    moves a sample in or out of test. A Task is given back as it is. Raises BadInput in one line.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise BadInput(f"seed {seed!r} is not allowed; give a whole number from 0 to {2**32 - 1}")
    if isinstance(task, Task):
        return replace(task, metric_name=metric_named(metric).name) if metric else task
    if isinstance(task, str | PathLike):
        return finish(_named(task), metric, seed)
    return finish(python.read(task), metric, seed)


def names() -> list[tuple[str, str]]:
    """Return the built-in tasks, each with one line about it."""
    return [(name, found.about) for name, found in sorted(_builtins().items())]


def builtin(name: str) -> Builtin:
    """Return the built-in called `name`: its line, licence and source. Raises BadInput naming the nearest ones."""
    found = _builtins()
    if name in found:
        return found[name]
    near = difflib.get_close_matches(name, found, 3)
    meant = f"did you mean {', '.join(near)}?" if near else f"built-in: {', '.join(sorted(found))}"
    raise BadInput(f"task {name!r} is neither built in nor a file or folder here; {meant}")


@functools.cache
def _builtins() -> Mapping[str, Builtin]:
    """Return what the files of this room call TASKS: a built-in is added by adding its file."""
    found: dict[str, Builtin] = {}
    for module in pkgutil.iter_modules(paredown.data.__path__, "paredown.data."):
        for name, one in getattr(importlib.import_module(module.name), "TASKS", {}).items():
            if name in found:
                raise TypeError(f"task {name!r} is defined twice, the second time in {module.name}")
            found[name] = one
    return found


def _named(task: str | PathLike) -> Raw:
    if isinstance(task, str) and task in _builtins():
        return _built_in(task)
    path = _existing(task)
    if path.suffix.lower() in (".yaml", ".yml") and path.is_file():
        return _described(path)
    return _at(path, Options())


def _existing(task: str | PathLike) -> Path:
    if not str(task).strip():
        raise BadInput(f"task {str(task)!r} is empty; give a path or one of {', '.join(_builtins())}")
    try:
        path = Path(task).expanduser()
        there = path.exists()
    except (OSError, RuntimeError) as error:
        raise BadInput(f"{str(task)[:60]!r} is not a path: {one_line(error)[:80]}") from None
    if there:
        return path
    if isinstance(task, str) and len(path.parts) == 1 and not path.suffix:
        builtin(task)
    raise BadInput(f"{path} does not exist; give a folder, .npz, .csv or task.yaml, or a built-in's name")


def _built_in(name: str) -> Raw:
    found = builtin(name)
    raw = found.read()
    return replace(raw, options=raw.options.over(Options(licence=found.licence, source=found.source)))


def _at(path: Path, options: Options) -> Raw:
    """Return what a folder or data file holds."""
    kind = path.suffix.lower()
    if path.is_dir():
        return folder.read(path, options)
    if options.size is not None:
        raise BadInput(f"size={list(options.size)} is for folders of pictures; {path} is not one: take the key away")
    if kind in READERS:
        return READERS[kind](path, options)
    if kind in folder.AUDIO:
        raise BadInput(f"{path} is sound; {folder.NO_AUDIO}")
    raise BadInput(
        f"{path} has the unknown extension {kind or 'none'!r}; allowed: a folder, {', '.join(READERS)}, .yaml"
    )


def _described(path: Path) -> Raw:
    """Return what a `task.yaml` points to, with what it says about it."""
    described = TaskFile.read(path)
    options, data = described.options(), described.data
    if isinstance(data, dict):
        return table.read_roles({role: _table_at(path, data[role]) for role in data}, options, path.stem)
    beside = path.parent / Path(data).expanduser()
    if data in _builtins() and not beside.exists():
        raw = _built_in(data)
        return replace(raw, options=options.over(raw.options))
    if not beside.exists():
        raise BadInput(f"{path}: data={data!r} does not exist; give a path beside the file, or a built-in's name")
    return replace(_at(beside, options), name=path.parent.resolve().name if path.stem == "task" else path.stem)


def _table_at(path: Path, text: str) -> Path:
    found = path.parent / Path(text).expanduser()
    if not found.is_file() or found.suffix.lower() != ".csv":
        raise BadInput(f"{path}: data={text!r} is not a .csv file; only tables are given one path for each role")
    return found
