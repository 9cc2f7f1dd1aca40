"""What the terminal shows, as text and tables: nothing here prints."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from rich import box
from rich.table import Table


def frontier(document: dict[str, Any]) -> Table:
    """Return the frontier of a run's document as a table; the winner has a star."""
    best = document["best"]["id"] if document["best"] else ""
    what = document["minimize"]
    last = "params" if what in ("file_bytes", "params", "macs") else what
    table = Table("candidate", "file", "validation", "interval", "MACs", last, title="accuracy / size frontier")
    for row in document["frontier"]:
        val, mark = row["val"], "*" if row["id"] == best else ""
        interval = f"{val['low']:.4f}…{val['high']:.4f}"
        sizes = f"{row['macs']:,}", number(row.get(last))
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
            others = "".join(f", {name} {size:,} B" for name, size in (file.get("beside") or {}).items())
            lines.append(f"  {file['path']}  {file['bytes']:,} B, test {file['test']:.4f}, {same}{others}")
            lines += [f"  {file['note']}"] if file.get("note") else []
    if chosen := document.get("chosen"):
        odds = f"expected on test {chosen['expected']:.4f}, probability to show the floor {chosen['probability']:.2f}"
        lines.append(f"chosen: {chosen['how']} ({odds})")
    lines.append(f"report: {document['run']}/report.html   ({document['trials']} trials, {document['seconds']:.0f} s)")
    return [*lines, f"why not: {document['why']}"] if document["why"] else lines


def layers(found: dict[str, Any]) -> Table:
    """Return an analysis' layers that multiply as a table narrow enough for eighty columns."""
    rows = [row for row in found["layers"] if row["macs"]]
    heads = ("params", "bits", "zeros", "MACs", "moves")
    shown = [head for head in heads if head != "zeros" or any(row["nonzero"] < row["params"] for row in rows)]
    table = Table("layer", "kind", "output", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in shown:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("prune")
    for row in rows:
        numbers = {
            "params": short(row["params"]), "bits": str(row["width"]), "MACs": short(row["macs"]),
            "zeros": f"{1 - row['nonzero'] / row['params']:.0%}" if row["params"] else "",
            "moves": f"{short(row['traffic_bits'] // 8)}B",
        }  # fmt: skip
        can = "yes" if row["can"].get("prune") == "yes" else "no"
        shape = "x".join(map(str, row["shape"][1:]))
        table.add_row(row["name"], row["kind"], shape, *(numbers[head] for head in shown), can)
    return table


def others(found: dict[str, Any]) -> str:
    """Return how many layers do not multiply, by kind."""
    rest: dict[str, int] = {}
    for row in found["layers"]:
        if not row["macs"]:
            rest[row["kind"]] = rest.get(row["kind"], 0) + 1
    return "and " + (", ".join(f"{n} {kind}" for kind, n in rest.items()) or "no others")


def short(number: float) -> str:
    """Return a number with three digits and its thousands as a letter.

    >>> short(999), short(1_281_000), short(0)
    ('999', '1.28 M', '0')
    """
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:g}"


def totals(found: dict[str, Any]) -> list[str]:
    """Return an analysis' totals, memory, conventions and findings, line by line."""
    total, peaks, counts = found["total"], found["memory"]["peaks"], found["conventions"]
    weights = f"{total['params']:,} params ({total['bits'] // 8:,} bytes uncoded)"
    work = f"{total['mults']:,} multiplications, {total['adds']:,} additions, {total['compares']:,} comparisons"
    inside = f"{peaks['pointwise']:,} with pointwise operators in place, {peaks['depthwise']:,} with depthwise too"
    left = ", ".join(counts["papers"]["uncounted"]) or "nothing"
    lines = [
        others(found),
        f"counted: {weights}, {total['macs']:,} MACs, {work}, {total['specials']:,} special functions",
        f"peak activations: {peaks['none']:,} bytes with nothing in place, {inside}",
        f"papers: {counts['papers']['macs']:,} MACs (convolutions and linear layers; left out: {left})",
        f"MicroNet: {counts['micronet']['mults']:,.0f} multiplications, {counts['micronet']['adds']:,.0f} additions",
        f"NeSsi: {counts['nessi']['macs']:,} MACs, {counts['nessi']['params']:,} params",
        f"not counted: {', '.join(found['uncounted']) or 'nothing'}",
        *(f"modelled: {one['what']} {one['value']:,.4g} ({one['model']})" for one in found["estimates"]),
        *([f"page: {found['page']}"] if "page" in found else []),
    ]
    return [*lines, *(["where it is:"] if found["findings"] else []), *(f"  {f['text']}" for f in found["findings"])]


def listing(rows: list[tuple[str, ...]]) -> Table:
    """Return rows as a table without heads or lines."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    return table


def measured(found: dict[str, Any]) -> list[str]:
    """Return what was measured of a file, line by line."""
    ms, interval = found["latency_ms"], f"{found['low']:.4f}…{found['high']:.4f}, n = {found['n']}"
    return [
        f"{found['artifact']}: {found['bytes']:,} bytes",
        f"{found['metric']} on {found['split']}: {found['value']:.4f} ({interval})",
        f"latency: {ms['median']:.3f} ms ({ms['low']:.3f}…{ms['high']:.3f}), one sample, {found['runtime']}",
        *(observed(one) for one in found.get("measured", ())),
    ]


def observed(one: dict[str, Any]) -> str:
    """Return one measurement, or why there is none, as a line."""
    if one["value"] is None:
        return f"{one['what']}: not readable here; {one['why']}"
    where = f"{one['threads']} threads, {one['device']}" if "threads" in one else one["command"]
    doubt = f"; not quiet: {', '.join(one['disturbed'])}" if one.get("disturbed") else ""
    return f"{one['what']}: {one['value']:,.4g} ({one['low']:,.4g}…{one['high']:,.4g}, {one['repeats']} times), {where}{doubt}"


def score(found: dict[str, Any]) -> Table:
    """Return a score as a table: what was counted, the terms, their total, and the total under other conventions."""
    table = Table("", f"{found['rule']}.{found['edition']}", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.columns[1].justify = "right"
    others_ = {f"total, {name}": value for name, value in found["conventions"].items()}
    groups = (found["amounts"], found["terms"], {"total": found["total"]}, others_)
    for rows in filter(None, groups):
        for name, value in rows.items():
            table.add_row(name.replace("_", " "), number(value))
        table.add_section()
    return table


def number(value: Any) -> str:
    """Return a number to six decimals where it is small, with its thousands apart where it is large.

    >>> number(0.0147770), number(0.85), number(235388.0), number(None)
    ('0.014777', '0.85', '235,388', '–')
    """
    if not isinstance(value, int | float):
        return "–" if value is None else str(value)
    return f"{value:,.6g}" if abs(value) < 1 else f"{value:,.4f}".rstrip("0").rstrip(".")


def verdict(found: dict[str, Any]) -> list[str]:
    """Return a score's checks, notes and unverified clauses, line by line."""
    words = {True: "met", False: "NOT met", None: "not known"}
    lines = [
        f"{row['what']} {number(row['value'])}, asked {row['limit']}: {words[row['holds']]}" for row in found["checks"]
    ]
    passes = {True: "yes", False: "no", None: "not known"}[found["passes"]]
    lines += [*found["notes"], f"passes: {passes}; {found['better']} is better"]
    unverified = [row for row in found["constants"] if not row["verified"]]
    return lines + [f"unverified, from memory: {row['name']} ({row['clause']})" for row in unverified]


def rule_card(found: dict[str, Any]) -> list[str]:
    """Return a rule's card, line by line: what it is about, what it wants to see, and each constant with its clause."""
    lines = [found["name"], found["title"], f"  {found['about']}", f"  source: {found['source']}", "wants"]
    lines += [f"  {name}: {how}" for name, how in found["evidence"].items()]
    lines += [f"  setting {name}: {allowed}" for name, allowed in found["settings"].items()]
    lines.append("constants")
    for row in found["constants"]:
        mark = "" if row["verified"] else "UNVERIFIED, from memory: "
        lines.append(f"  {row['name']} = {_listed(row['value'])}   {mark}{row['clause']}")
    return [*lines, "", found["doc"]]


def _listed(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else number(value)


def card(found: dict[str, Any]) -> str:
    """Return a part's card as text."""
    lines = [f"{found['name']}  ({found['kind']})", found["title"]]
    lines += [
        f"  {key}: {', '.join(found[key])}" for key in ("changes", "needs", "takes", "forbids", "gives") if found[key]
    ]
    lines += [f"  source: {found['source']} {found['paper']}".rstrip()]
    lines += [f"  {row['field']} = {row['default']}   {row['allowed']}" for row in found["fields"]]
    return "\n".join([*lines, "", found["doc"]])


def given(message: str, typed: Sequence[str]) -> str:
    """Return what was typed for the option that a usage error names; typer's own messages leave it out."""
    option = re.search(r"'(--[a-z-]+)'", message)
    values = [after for before, after in pairwise(typed) if option and before == option[1]]
    return f" (given: {values[-1]})" if values else ""
