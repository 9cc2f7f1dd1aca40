"""What the terminal shows, as text and tables: nothing here prints."""

from typing import Any

from rich.table import Table


def frontier(document: dict[str, Any]) -> Table:
    """Return the frontier of a run's document as a table; the winner has a star."""
    best = document["best"]["id"] if document["best"] else ""
    table = Table("candidate", "file", "validation", "interval", "params", "MACs", title="accuracy / size frontier")
    for row in document["frontier"]:
        val, mark = row["val"], "*" if row["id"] == best else ""
        interval = f"{val['low']:.4f}…{val['high']:.4f}"
        sizes = (f"{row['params']:,}", f"{row['macs']:,}")
        table.add_row(row["id"] + mark, f"{row['file_bytes']:,} B", f"{val['value']:.4f}", interval, *sizes)
    return table


def outcome(document: dict[str, Any]) -> list[str]:
    """Return, line by line, what was found: the winner, its files, the report, and why the floor was not reached."""
    best, lines = document["best"], []
    if best:
        test = best["test"]
        verdict = "reached" if document["reached"] else "NOT reached"
        against = f", floor {document['floor']:g} {verdict}" if document["floor"] is not None else ""
        found = f"{test['metric']} {test['value']:.4f} ({test['low']:.4f}…{test['high']:.4f}, n = {test['n']})"
        lines.append(f"best: {best['file_bytes']:,} bytes, test {found}{against}")
        for file in best["artifacts"]:
            same = f"{file['mismatches']} mismatches of {file['n']}"
            lines.append(f"  {file['path']}  {file['bytes']:,} B, test {file['test']:.4f}, {same}")
    if chosen := document.get("chosen"):
        odds = f"expected on test {chosen['expected']:.4f}, probability to show the floor {chosen['probability']:.2f}"
        lines.append(f"chosen: {chosen['how']} ({odds})")
    lines.append(f"report: {document['run']}/report.html   ({document['trials']} trials, {document['seconds']:.0f} s)")
    return [*lines, f"why not: {document['why']}"] if document["why"] else lines


def layers(found: dict[str, Any]) -> Table:
    """Return an analysis' layers as a table."""
    table = Table("layer", "op", "output", "params", "nonzero", "bits", "MACs", "prune channels")
    for row in found["layers"]:
        numbers = [f"{row[key]:,}" for key in ("params", "nonzero", "bits", "macs")]
        shape = "x".join(map(str, row["shape"][1:]))
        table.add_row(row["name"], row["op"], shape, *numbers, row["can"].get("prune", ""))
    return table


def totals(found: dict[str, Any]) -> list[str]:
    """Return an analysis' totals and convention, line by line."""
    total = found["total"]
    weights = f"{total['params']:,} params ({total['bits'] // 8:,} bytes uncoded)"
    return [
        f"total: {weights}, {total['macs']:,} MACs, peak activations {total['peak_bytes']:,} bytes",
        f"convention: {found['convention']}; not counted: {', '.join(found['uncounted']) or 'nothing'}",
    ]


def card(found: dict[str, Any]) -> str:
    """Return a part's card as text."""
    lines = [f"{found['name']}  ({found['kind']})", found["title"]]
    lines += [
        f"  {key}: {', '.join(found[key])}" for key in ("changes", "needs", "takes", "forbids", "gives") if found[key]
    ]
    lines += [f"  source: {found['source']} {found['paper']}".rstrip()]
    lines += [f"  {row['field']} = {row['default']}   {row['allowed']}" for row in found["fields"]]
    return "\n".join([*lines, "", found["doc"]])
