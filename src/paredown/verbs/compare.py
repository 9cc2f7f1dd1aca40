"""`paredown compare`: accuracy against operations over any set of models."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paredown.core.errors import BadInput
from paredown.reports.analysis import write_comparison
from paredown.reports.read import read

ACROSS = ("macs", "bops", "params", "file_bytes", "ram_bytes")
"""What the horizontal axis may be."""


def compare(sources: Sequence[str | Path], out: str | Path, across: str = "macs") -> dict[str, Any]:
    """Write the comparison page to `out` and return {"schema", "models", "across", "metric", "page"}.

    sources: run folders, whose candidates are taken with their validation values, and CSV files with the columns name,
    a metric (accuracy, macro_f1 or auc), `across` and params. across: one of ACROSS. Raises BadInput.
    """
    if across not in ACROSS:
        raise BadInput(f"axis {across!r} is unknown; allowed: {', '.join(ACROSS)}")
    found: list[dict[str, Any]] = []
    for source in sources:
        found += _of_table(Path(source), across) if Path(source).suffix == ".csv" else _of_run(Path(source), across)
    metrics = {model["metric"] for model in found}
    if len(metrics) > 1:
        raise BadInput(
            f"the models are measured by different metrics ({', '.join(sorted(metrics))}); compare one at a time"
        )
    if not found:
        raise BadInput(f"there is no model to compare in {', '.join(map(str, sources))}")
    metric = metrics.pop()
    page = write_comparison(found, across, metric, out)
    return {"schema": "paredown/compare/1", "models": found, "across": across, "metric": metric, "page": str(page)}


def _of_run(folder: Path, across: str) -> list[dict[str, Any]]:
    """Return the finished candidates of a run that have a value on the axis."""
    record = read(folder)
    found = []
    for tried in record.tried:
        amount, params = tried.amount(across), tried.amount("params")
        if tried.good and amount and params:
            val = tried.result["val"]
            more = {record.metric: val["value"], across: amount, "low": val.get("low"), "high": val.get("high")}
            found.append({"name": tried.id[:6], "params": params, "metric": record.metric, **more})
    return found


def _of_table(path: Path, across: str) -> list[dict[str, Any]]:
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except OSError as error:
        raise BadInput(f"table {path} cannot be read: {error.strerror}") from error
    return [_model(row, at, path, across) for at, row in enumerate(rows, 2)]


def _model(row: dict[str, Any], line: int, path: Path, across: str) -> dict[str, Any]:
    metric = next((name for name in ("accuracy", "macro_f1", "auc") if row.get(name)), None)
    if metric is None or not row.get("name"):
        raise BadInput(f"{path}, line {line}: a model needs a name and an accuracy (or macro_f1, or auc)")
    try:
        numbers = {key: float(row[key]) for key in dict.fromkeys((metric, across, "params"))}
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{path}, line {line}: {across}, params and {metric} must be numbers; {error} is missing or none"
        ) from error
    if min(numbers.values()) <= 0:
        raise BadInput(f"{path}, line {line}: {across}, params and {metric} must be more than zero")
    return {"name": row["name"], "metric": metric, **numbers}
