"""`.csv` files: a row is a sample, one column the label, the others numbers.

The label is the column called label, class or target, else the last one. The first row is a header when it names a
label column, or when none of its other cells is a number. Separators: comma, semicolon or tab.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TextIO

import numpy as np

from paredown.core.errors import BadInput
from paredown.data.options import Options, one_line
from paredown.data.raw import Raw

LABELS = ("label", "class", "target")
Row = tuple[int, list[str]]


@dataclass(frozen=True)
class Table:
    """One file: features (n × f, float32), labels as text, and the columns' names (no header: positions)."""

    x: np.ndarray
    labels: list[str]
    columns: list[str]


def read(path: Path, options: Options) -> Raw:
    """Return the samples (n × features, float32) and labels of one table. Raises BadInput naming row and column."""
    return read_roles({"train": path}, options, path.stem)


def read_roles(paths: Mapping[str, Path], options: Options, name: str) -> Raw:
    """Return one table for each role. Raises BadInput when their columns differ."""
    tables = {role: _table(path, options.label) for role, path in paths.items()}
    columns = next(iter(tables.values())).columns
    for role, table in tables.items():
        if table.columns != columns:
            differ = next((c for c in table.columns if c not in columns), f"{len(table.columns)} columns")
            raise BadInput(
                f"{paths[role]} has other columns than the first table ({differ}); they must be the same, in one order"
            )
    whole = _are_indices({label for table in tables.values() for label in table.labels})
    coded = {role: np.array(table.labels) for role, table in tables.items()}
    pairs = {role: (table.x, coded[role].astype(np.int64) if whole else coded[role]) for role, table in tables.items()}
    return Raw(name, pairs, options)


def _are_indices(labels: set[str]) -> bool:
    return all(cell.isdecimal() and str(int(cell)) == cell for cell in labels) and {int(c) for c in labels} == set(
        range(len(labels))
    )


def _table(path: Path, label: str | int | None) -> Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            separator = _separator(file, path)
            reader = csv.reader(file, delimiter=separator, strict=True)
            rows = ((reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells))
            return _numbers(rows, path, label)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read as a table: {one_line(error)}") from None


def _separator(file: TextIO, path: Path) -> str:
    first = next((line for line in file if line.strip()), "")
    file.seek(0)
    separator = max(",;\t", key=first.count)
    if not first:
        raise BadInput(f"{path} is empty; it must hold a row for each sample")
    if separator not in first:
        raise BadInput(
            f"{path} has one column ({first.strip()!r:.40}); it must hold numbers and a label, separated by commas"
        )
    return separator


def _numbers(rows: Iterator[Row], path: Path, label: str | int | None) -> Table:
    top = next(rows)
    at, names, has_header = _columns([cell.strip() for cell in top[1]], path, label)
    values, labels = [], []
    for line, cells in rows if has_header else chain([top], rows):
        if len(cells) != len(names):
            raise BadInput(
                f"row {line} of {path} has {len(cells)} cells, the first has {len(names)}; every row needs as many"
            )
        labels.append(_label(cells.pop(at), line, names[at], path))
        values.append(_floats(cells, line, names[:at] + names[at + 1 :], path))
    if not values:
        raise BadInput(f"{path} has a header and no rows below it; it must hold a row for each sample")
    return Table(np.stack(values), labels, names)


def _columns(first: list[str], path: Path, label: str | int | None) -> tuple[int, list[str], bool]:
    """Return the label's position, the columns' names, and whether the first row is a header."""
    lower = [cell.lower() for cell in first]
    named = next((lower.index(name) for name in LABELS if name in lower), None)
    if isinstance(label, str):
        if label not in first:
            raise BadInput(f"{path} has no column {label!r}; its first row is {', '.join(first[:8])}")
        return first.index(label), first, True
    at = label if label is not None else named if named is not None else len(first) - 1
    if not 0 <= at < len(first):
        raise BadInput(f"label={at} is no column of {path}; allowed: 0 to {len(first) - 1}, or a name")
    has_header = named is not None or not any(_is_number(cell) for i, cell in enumerate(first) if i != at)
    return at, first if has_header else [str(i + 1) for i in range(len(first))], has_header


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _label(cell: str, line: int, column: str, path: Path) -> str:
    cell = cell.strip()
    if not cell:
        raise BadInput(f"row {line}, column {column} of {path} is empty; every row needs a label")
    if not _is_number(cell):
        return cell
    if not float(cell).is_integer():
        raise BadInput(
            f"label {cell!r} in row {line}, column {column} of {path} is a fraction; labels are whole numbers or names"
        )
    return str(int(float(cell)))


def _floats(cells: list[str], line: int, names: list[str], path: Path) -> np.ndarray:
    """Return a row as float32, at once: a large table as text would not fit in memory."""
    try:
        with np.errstate(over="ignore"):
            row = np.array(cells, dtype=np.float32)
    except ValueError:
        row = np.array([float(c) if _is_number(c) else np.nan for c in cells], dtype=np.float32)
    good = np.isfinite(row)
    if not good.all():
        at = int(np.argmin(good))
        said = repr(cells[at][:40]) if cells[at].strip() else "an empty cell"
        raise BadInput(
            f"{said} in row {line}, column {names[at]} of {path} is not a finite number; fill, drop or encode it"
        )
    return row
