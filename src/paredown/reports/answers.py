"""What the winner says on the test split: the confusion matrix, the answers it gets wrong, and their pictures."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from paredown.reports import words
from paredown.reports.read import Record

FULL = 30
"""The most classes whose whole matrix is shown; with more, the commonest confusions stand for it."""
SIDE = 96


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: rows are labels, columns what was said. `heads` are (short, full) names of the columns."""

    heads: tuple[tuple[str, str], ...]
    rows: tuple["Row", ...]
    right: int
    total: int
    often: tuple[tuple[str, str, int], ...]
    whole: bool


@dataclass(frozen=True)
class Row:
    """One label's row: its name, its cells as (count, share of the row, is the diagonal), samples, share got right."""

    name: str
    cells: tuple[tuple[int, float, bool], ...]
    n: int
    recall: str


@dataclass(frozen=True)
class Wrong:
    """One wrong answer: its index in the test split, its label, what was said, its picture as a data URI or ""."""

    index: int
    label: str
    said: str
    picture: str


def matrix(record: Record) -> Matrix | None:
    """Return the confusion matrix of the winner on test, or None when there is none."""
    counts = np.asarray((record.winner or {}).get("confusion") or [], dtype=int)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        return None
    names = _names(record, len(counts))
    short = all(len(name) <= 4 for name in names)
    heads = tuple((name if short else str(at), name) for at, name in enumerate(names))
    rows = tuple(_row(names[at] if short else f"{at}  {names[at]}", at, counts[at]) for at in range(len(counts)))
    off = [(int(counts[a, b]), a, b) for a, b in np.argwhere(counts > 0) if a != b]
    often = tuple((names[a], names[b], c) for c, a, b in sorted(off, key=lambda item: (-item[0], item[1:]))[:40])
    return Matrix(heads, rows, int(np.trace(counts)), int(counts.sum()), often, len(counts) <= FULL)


def _names(record: Record, count: int) -> list[str]:
    given = (record.winner or {}).get("classes") or record.asked.get("task", {}).get("classes") or []
    return [str(given[at]) if at < len(given) else str(at) for at in range(count)]


def _row(name: str, at: int, counts: np.ndarray) -> Row:
    n = int(counts.sum())
    cells = tuple((int(c), int(c) / n if n else 0.0, b == at) for b, c in enumerate(counts))
    return Row(name, cells, n, words.percent(int(counts[at]), n))


def wrong(record: Record) -> list[Wrong]:
    """Return the stored wrong answers, with pictures where the samples are pictures."""
    names = _names(record, 1 + max([0, *(max(w["label"], w["said"]) for w in _stored(record))]))
    return [Wrong(w["index"], names[w["label"]], names[w["said"]], picture(w.get("x"))) for w in _stored(record)]


def _stored(record: Record) -> Sequence[dict[str, Any]]:
    return (record.winner or {}).get("wrong") or ()


def picture(x: Any) -> str:
    """Return a channels × height × width sample of 0…255 as a PNG data URI; "" for what is no picture.

    One channel is drawn grey, three in colour; of any other number the first alone. More than 96 pixels are reduced.
    """
    try:
        values = np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError):
        return ""
    if values.ndim != 3 or not values.size or not np.isfinite(values).all():
        return ""
    pixels = np.clip(values, 0, 255).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)) if len(pixels) == 3 else pixels[0])
    if max(image.size) > SIDE:
        image.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
