"""An expectation as the terminal shows it: the layers as a table, the verdict and its reasons as lines."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

Json = Mapping[str, Any]

LEAST = 0.01
"""Layers below this share of the time before are shown together."""


def table(found: Json) -> Table:
    """Return the layers with what their classes take before and after, narrow enough for eighty columns."""
    table = Table("layer", "shape", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title="µs by layer, modelled from measured classes")  # fmt: skip
    for head in ("before", "after", "times"):
        table.add_column(head, justify="right", no_wrap=True)
    whole = sum(row["before_ms"] for row in found["layers"])
    shown = [row for row in found["layers"] if max(row["before_ms"], row["after_ms"]) >= LEAST * whole]
    for row in shown:
        _row(table, row["layer"], row["shape"], row["before_ms"], row["after_ms"])
    rest = [row for row in found["layers"] if row not in shown]
    if rest:
        before, after = (sum(row[key] for row in rest) for key in ("before_ms", "after_ms"))
        _row(table, f"{len(rest)} others", "", before, after)
    for name, kind in (("values from memory", "memory_ms"), ("in no layer", "fixed_ms")):
        _row(table, name, "", found[kind]["before"], found[kind]["after"])
    return table


def _row(table: Table, name: str, shape: str, before: float, after: float) -> None:
    times = f"{before / after:.2f}" if after > 0 and before > 0 else ""
    table.add_row(name, shape, f"{1e3 * before:.3g}", f"{1e3 * after:.3g}", times)


def lines(found: Json) -> list[str]:
    """Return the verdict, the reasons, and what the numbers rest on, line by line."""
    measured, size = found["measured"], found["file_bytes"]
    told = [one["text"] for one in found["reasons"] if one["text"] not in found["verdict"]]
    said = [found["verdict"], *(f"  {at}. {text}" for at, text in enumerate(told, 1))]
    word = "predicted" if size["predicted"] else "packed"
    said.append(f"{word} file: {size['before']:,} to {size['after']:,} bytes, untrained")
    said.append(
        f"modelled from {found['classes']} shape classes, {found['measured_now']} measured now; measured: the whole file before, "
        f"{measured['value']:.3g} ms ({measured['low']:.3g} to {measured['high']:.3g}, {measured['repeats']} repeats, 1 thread)"
    )
    return [*said, *(f"  {note}" for note in found["notes"])]
