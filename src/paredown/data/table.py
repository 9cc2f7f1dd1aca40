"""`.csv` files: a row is a sample, one column the label, the others numbers.

The label is the column called label, class or target, else the last one. The first row is a header when it names a label
column, or when none of its other cells is a number. Separators: comma, semicolon or tab.
"""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from paredown.core.errors import BadInput
from paredown.data.options import Options, one_line
from paredown.data.raw import Raw

LABELS = ("label", "class", "target")


def read(path: Path, options: Options) -> Raw:
    """Return the samples (n × features, float32) and labels of one table. Raises BadInput naming row and column."""
    return read_roles({"train": path}, options, path.stem)


def read_roles(paths: Mapping[str, Path], options: Options, name: str) -> Raw:
    """Return one table for each role. Raises BadInput when their headers differ in more than spelling the label."""
    tables = {role: _table(path, options.label) for role, path in paths.items()}
    whole = _are_indices({cell for _, labels in tables.values() for cell in labels})
    pairs = {role: (x, np.array(labels).astype(np.int64) if whole else np.array(labels)) for role, (x, labels) in tables.items()}
    return Raw(name, pairs, options)


def _are_indices(labels: set[str]) -> bool:
    return all(cell.isdecimal() and str(int(cell)) == cell for cell in labels) and {int(c) for c in labels} == set(range(len(labels)))


def _table(path: Path, label: str | int | None) -> tuple[np.ndarray, list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = _rows(file.read().splitlines(keepends=True), path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read as a table: {one_line(error)}") from None
    return _numbers(rows, path, label)


def _rows(lines: list[str], path: Path) -> list[tuple[int, list[str]]]:
    first = next((line for line in lines if line.strip()), "")
    separator = max(",;\t", key=first.count)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    if not rows:
        raise BadInput(f"{path} is empty; it must hold a row for each sample")
    if len(rows[0][1]) < 2:
        raise BadInput(f"{path} has one column ({rows[0][1][0]!r:.40}); it must hold numbers and a label, separated by commas")
    return rows


def _numbers(rows: list[tuple[int, list[str]]], path: Path, label: str | int | None) -> tuple[np.ndarray, list[str]]:
    at, names, has_header = _columns([cell.strip() for cell in rows[0][1]], path, label)
    values, labels = [], []
    for line, cells in rows[1:] if has_header else rows:
        if len(cells) != len(names):
            raise BadInput(f"row {line} of {path} has {len(cells)} cells, the first has {len(names)}; every row needs as many")
        label_cell = cells.pop(at)
        labels.append(_label(label_cell, line, names[at], path))
        values.append(_floats(cells, line, names[:at] + names[at + 1 :], path))
    if not values:
        raise BadInput(f"{path} has a header and no rows below it; it must hold a row for each sample")
    return np.stack(values), labels


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
        raise BadInput(f"label {cell!r} in row {line}, column {column} of {path} is a fraction; labels are whole numbers or names")
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
        raise BadInput(f"{said} in row {line}, column {names[at]} of {path} is not a finite number; fill, drop or encode it")
    return row
