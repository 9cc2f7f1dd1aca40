"""Why accuracy dropped, as the terminal shows it: the layers as a table, the causes and what undoing each gives as lines."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

Json = Mapping[str, Any]

MOST = 5
"""How many causes are shown."""


def table(found: Json) -> Table:
    """Return a diagnosis' layers and quantizers in order, narrow enough for eighty columns."""
    table = Table(
        "layer", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title="signal over quantization noise, dB"
    )
    for head in ("bits", "weight", "alone", "as run", "codes", "clipped", "shift"):
        table.add_column(head, justify="right", no_wrap=True)
    values: dict[str, list[Json]] = {}
    for row in found["activations"]:
        values.setdefault(row["feeds"].split(", ")[0], []).append(row)
    for row in found["layers"]:
        for value in values.pop(row["name"], []):
            _value(table, value)
        shift = f"{row['shift']:.2f}" if row["grid"] or row["codes"] else ""
        table.add_row(
            row["name"], str(row["bits"]), _db(row["weight_db"]), _db(row["local_db"]), _db(row["accumulated_db"]),
            _codes(row), _share(row["clipped"]), shift,
        )  # fmt: skip
    for value in (one for rest in values.values() for one in rest):
        _value(table, value)
    return table


def _value(table: Table, row: Json) -> None:
    name = "input" if row["name"] == "input" else f"{row['name']} (values)"
    numbers = _db(row["local_db"]), _db(row["accumulated_db"]), _codes(row), _share(row["clipped"])
    table.add_row(name, str(row["bits"]), "", *numbers, "", style="dim")


def _db(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f}"


def _codes(row: Json) -> str:
    return f"{row['codes_used']}/{row['codes']}" if row["codes"] else ""


def _share(share: float) -> str:
    return f"{100 * share:.2g} %" if share else ""


def lines(found: Json) -> list[str]:
    """Return an analysis' diagnosis line by line: the verdict, the causes in order with what undoing gave, and all together."""
    drop = found.get("diagnosis")
    if not drop:
        return [f"why accuracy dropped: {found['undiagnosed']}"] if found.get("undiagnosed") else []
    said = ["why accuracy dropped:", f"  {drop['verdict']}"]
    if drop["causes"] and not drop["dropped"]:
        said.append("  worth knowing all the same:")
    for at, cause in enumerate(drop["causes"][:MOST], 1):
        said += [f"  {at}. {cause['text']}", f"     try: {cause['remedy']}"]
        said += [
            _undone(way) for at, way in enumerate(cause["undone"]) if at in (cause["best"], len(cause["undone"]) - 1)
        ]
    if (rest := len(drop["causes"]) - MOST) > 0:
        said.append(f"  and {rest} more; --json and --report have all")
    said += [f"  {way['what']}: {_gain(way)}" for way in drop["halves"]]
    if drop["dropped"] and len(drop["together"]) > 1:
        said.append("  one after the other: " + "; ".join(_stage(stage) for stage in drop["together"]))
    if drop["unmeasured"]:
        said.append(f"  {drop['unmeasured']} further suspects were not measured")
    return [*said, *(f"  {note}" for note in drop["notes"])]


def _undone(way: Json) -> str:
    return f"     undone with {way['what']}: {_gain(way)}" + (
        f", {way['bytes']:+,} bytes uncoded" if way["bytes"] else ""
    )


def _gain(way: Json) -> str:
    gain = way["gain"]
    ends = f"{gain['low']:+.4f} to {gain['high']:+.4f}, n = {gain['n']}"
    return f"accuracy {gain['accuracy']:+.4f} ({ends}), {100 * gain['share']:.0f} % of the divergence"


def _stage(stage: Json) -> str:
    return f"{stage['what']} ({stage['accuracy']:.4f}, {stage['bytes']:+,} bytes)"
