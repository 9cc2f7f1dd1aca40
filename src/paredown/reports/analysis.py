"""An analysis as a page: costs by layer, memory over the schedule, the roofline, and what would help most."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from paredown.core.errors import BadInput
from paredown.core.store import write_whole
from paredown.reports import drop, figures, words

HERE = Path(__file__).parent


def write_analysis(found: Mapping[str, Any], name: str, path: str | Path) -> Path:
    """Write what `paredown analyze` found of the model `name` as one HTML page and return its path."""
    drawn = {"shares": figures.shares(found["layers"]), "course": figures.course(found["memory"])}
    drawn["energy"] = figures.energy(found["energy_by_layer"])
    if found["roofline"]:
        drawn["roofline"] = figures.roofline(found["roofline"])
    shown = {
        "name": name, "figures": _figures(found), "findings": [line["text"] for line in found["findings"]],
        "drawn": {"roofline": "", **_embedded(drawn)}, "rows": _rows(found["layers"]), "conventions": _conventions(found),
        "names": {"energy_uj": "energy, µJ", "latency_ms": "latency, ms"}, "estimates": found["estimates"], "device": found["device"],
        "drop": drop.view(found["diagnosis"]) if found.get("diagnosis") else None, "undiagnosed": found.get("undiagnosed"),
    }  # fmt: skip
    return _write("analysis.html.j2", path, shown)


def write_comparison(models: Sequence[Mapping[str, Any]], across: str, metric: str, path: str | Path) -> Path:
    """Write accuracy against `across` over any set of models as one HTML page and return its path."""
    drawn = _embedded({"balls": figures.balls(models, across, metric)})
    ordered = sorted(models, key=lambda model: -(model[metric] / max(1, model["params"])))
    rows = [
        (m["name"], words.metric(m[metric]), words.plain(m[across]), words.plain(m["params"]),
         words.plain(100 * m[metric] / (m["params"] / 1e6)))
        for m in ordered
    ]  # fmt: skip
    heads = (
        "Model",
        metric.replace("_", " "),
        words.cost_name(across),
        "Parameters",
        "Per cent per million parameters",
    )
    return _write("comparison.html.j2", path, {"drawn": drawn, "rows": rows, "heads": heads})


def _write(template: str, path: str | Path, shown: Mapping[str, Any]) -> Path:
    loader = FileSystemLoader(HERE)
    env = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    page = env.get_template(template).render(style=Markup((HERE / "page.css").read_text()), **shown)
    try:
        write_whole(Path(path), page)
    except OSError as error:
        raise BadInput(f"page {path} cannot be written: {error.strerror}; give another file") from error
    return Path(path)


def _embedded(drawn: Mapping[str, Any]) -> dict[str, Markup]:
    """Return the figures as markup; the first brings the script that draws them all."""
    return {key: Markup(figures.html(figure, at == 0)) for at, (key, figure) in enumerate(drawn.items())}


def _figures(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    total, peaks = found["total"], found["memory"]["peaks"]
    return [
        (
            "Parameters",
            words.plain(total["params"]),
            f"{words.plain(total['bits'] // 8)} bytes uncoded, not a file's size",
        ),
        ("Multiply-accumulates", words.plain(total["macs"]), f"{words.plain(total['mults'])} multiplications in all"),
        (
            "Peak activations",
            f"{peaks['pointwise']:,} B",
            f"pointwise in place; {peaks['none']:,} B with nothing in place",
        ),
        ("Memory traffic", f"{total['traffic_bytes']:,} B", "every tensor read and written once a layer"),
    ]


def _rows(layers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the layer table's rows, with shares of the column's largest for its bars."""
    most = {key: max([1, *(row[key] for row in layers)]) for key in ("bits", "macs", "traffic_bits")}
    return [
        {
            "name": row["name"], "kind": row["kind"], "shape": "×".join(map(str, row["shape"][1:])) or words.NONE,
            "params": words.plain(row["params"]), "width": row["width"],
            "zeros": words.percent(row["params"] - row["nonzero"], row["params"]),
            "cells": [
                (words.plain(row["bits"] // 8), row["bits"] / most["bits"]),
                (words.plain(row["macs"]), row["macs"] / most["macs"]),
                (words.plain(row["traffic_bits"] // 8), row["traffic_bits"] / most["traffic_bits"]),
            ],
            "can": ", ".join(family for family, says in row["can"].items() if says == "yes") or words.NONE,
        }
        for row in layers
        if row["macs"]
    ]  # fmt: skip


def _conventions(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (convention, total, what it leaves out)."""
    total, others = found["total"], found["conventions"]
    full = f"{total['macs']:,} MACs; {total['mults']:,} multiplications, {total['adds']:,} additions, "
    full += f"{total['compares']:,} comparisons, {total['specials']:,} special functions"
    net, papers, nessi = others["micronet"], others["papers"], others["nessi"]
    return [
        ("full (ours)", full, ", ".join(found["uncounted"]) or "nothing"),
        ("papers", f"{papers['macs']:,} MACs", ", ".join(papers["uncounted"]) or "nothing"),
        ("MicroNet 2019", f"{net['mults']:,.0f} multiplications, {net['adds']:,.0f} additions",
         ", ".join(net["uncounted"]) or "nothing"),
        ("NeSsi (DCASE)", f"{nessi['macs']:,} MACs", "biases, activations"),
    ]  # fmt: skip
