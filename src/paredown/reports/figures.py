"""Interactive figures over counted costs: where each layer's costs lie, memory over time, the roofline, models compared."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import plotly.io

from paredown.reports import words

Json = Mapping[str, Any]

KINDS = {
    "convolution": "#0a6353", "pointwise": "#4f9d8a", "depthwise": "#b8621b", "linear": "#33507a", "product": "#7a6ba8",
    "recurrent": "#8c3b5e", "embedding": "#6b7a33", "normalisation": "#9a948a", "activation": "#c4bfb6",
    "pooling": "#7f8f99", "elementwise": "#aab4ae", "data": "#d8d4cb",
}  # fmt: skip
"""A colour for each kind of layer, apart in lightness too."""

SHAPES = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "hexagon")
RESOURCES = {"stored": "stored bytes", "macs": "multiply-accumulates", "moved": "memory traffic"}


def html(figure: go.Figure, script: bool) -> str:
    """Return a figure as HTML to be put into a page; `script`: with plotly itself, once a page."""
    config = {"displayModeBar": False, "responsive": True}
    return str(plotly.io.to_html(figure, include_plotlyjs=script, full_html=False, config=config))


def _laid_out(figure: go.Figure, height: int, **more: Any) -> go.Figure:
    figure.update_layout(
        template="plotly_white", height=height, margin={"l": 8, "r": 8, "t": 34, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#57615d"},
        hoverlabel={"align": "left"}, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}, **more,
    )  # fmt: skip
    figure.update_xaxes(automargin=True, gridcolor="#dcdfd9", zerolinecolor="#8a948f")
    figure.update_yaxes(automargin=True, gridcolor="#dcdfd9", zerolinecolor="#8a948f")
    return figure


def _amounts(row: Json) -> dict[str, float]:
    return {"stored": row["bits"] / 8, "macs": row["macs"], "moved": row["traffic_bits"] / 8}


def shares(rows: Sequence[Json]) -> go.Figure:
    """Return bars in per cent of the total: one row for each resource, one part for each layer, coloured by kind."""
    amounts = [_amounts(row) for row in rows]
    lines = {name: [amount[what] for amount in amounts] for what, name in RESOURCES.items()}
    return _stacked(rows, lines, {"stored bytes": " B", "memory traffic": " B"}, 260)


def energy(rows: Sequence[Json]) -> go.Figure:
    """Return a bar in per cent of the modelled energy, one part for each layer."""
    return _stacked(rows, {"energy": [row["uj"] for row in rows]}, {"energy": " µJ"}, 170)


def _stacked(
    rows: Sequence[Json], lines: Mapping[str, Sequence[float]], units: Mapping[str, str], height: int
) -> go.Figure:
    totals = {line: sum(values) or 1.0 for line, values in lines.items()}
    figure = go.Figure()
    seen: set[str] = set()
    for at, row in enumerate(rows):
        part = [100 * values[at] / totals[line] for line, values in lines.items()]
        if max(part) < 0.05:
            continue
        text = [f"{row['name']}: {values[at]:,.6g}{units.get(line, '')}" for line, values in lines.items()]
        figure.add_bar(
            x=part, y=list(lines), orientation="h", name=row["kind"], legendgroup=row["kind"],
            showlegend=row["kind"] not in seen, hovertext=text, hovertemplate="%{hovertext} (%{x:.1f} %)<extra></extra>",
            marker={"color": KINDS.get(row["kind"], "#999"), "line": {"color": "#fbfaf7", "width": 0.8}},
        )  # fmt: skip
        seen.add(row["kind"])
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title="per cent of the total; each piece is a layer", range=[0, 100])
    return _laid_out(figure, height, barmode="stack")


def course(memory: Json) -> go.Figure:
    """Return live memory over the schedule as steps, each part a tensor; the peak is marked."""
    moments = memory["timeline"]
    named = [m["node"] or "input" for m in moments]
    most = max(moments, key=lambda m: m["bytes"])
    lines = [
        "<br>".join(f"{name}: {size:,} B" for name, size in sorted(m["live"].items(), key=lambda i: -i[1])[:6])
        for m in moments
    ]
    figure = go.Figure(
        go.Bar(
            x=list(range(len(moments))),
            y=[m["bytes"] for m in moments],
            customdata=list(zip(named, lines, strict=True)),
            marker={"color": ["#b8621b" if m is most else "#0a6353" for m in moments], "line": {"width": 0}},
            hovertemplate="%{customdata[0]}: %{y:,} B<br>%{customdata[1]}<extra></extra>",
        )
    )
    at = moments.index(most)
    figure.add_annotation(
        x=at, y=most["bytes"], text=f"peak {most['bytes']:,} B at {most['node'] or 'the input'}", showarrow=False, yshift=10,
        xanchor="left" if at < len(moments) / 2 else "right", font={"color": "#b8621b"},
    )  # fmt: skip
    figure.update_xaxes(title="step of the schedule", showgrid=False)
    figure.update_yaxes(title="live activation bytes")
    return _laid_out(figure, 300, bargap=0.08, showlegend=False)


def roofline(roof: Json) -> go.Figure:
    """Return the roofline of a device on logarithmic axes with every layer on or under it.

    roof: {"device", "peak_ops", "bytes_per_second", "rows": [{"name", "kind", "intensity", "ops", "attainable_ops"}]}.
    """
    rows = [row for row in roof["rows"] if row["intensity"] > 0]
    ridge = roof["peak_ops"] / roof["bytes_per_second"]
    low = min([ridge / 8, *(row["intensity"] for row in rows)]) / 2
    high = max([ridge * 8, *(row["intensity"] for row in rows)]) * 2
    figure = go.Figure()
    figure.add_scatter(
        x=[low, ridge, high], y=[low * roof["bytes_per_second"] / 1e9, roof["peak_ops"] / 1e9, roof["peak_ops"] / 1e9],
        mode="lines", line={"color": "#1c2321", "width": 2}, name=f"roof of {roof['device']}", hoverinfo="skip",
    )  # fmt: skip
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    for kind in kinds:
        own = [row for row in rows if row["kind"] == kind]
        figure.add_scatter(
            x=[r["intensity"] for r in own], y=[r["attainable_ops"] / 1e9 for r in own], mode="markers", name=kind,
            marker={"color": KINDS.get(kind, "#999"), "symbol": SHAPES[kinds.index(kind) % len(SHAPES)],
                    "size": [7 + 16 * r["share"] ** 0.5 for r in own], "opacity": 0.85, "line": {"width": 1, "color": "#fff"}},
            customdata=[(r["name"], r["bound"], 100 * r["share"]) for r in own],
            hovertemplate="%{customdata[0]}: %{x:.2f} op/B, at most %{y:.1f} Gop/s, bound by %{customdata[1]}, "
                          "%{customdata[2]:.1f} % of the time<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(type="log", title="operations per byte moved")
    figure.update_yaxes(type="log", title="attainable Gop/s (model)")
    return _laid_out(figure, 380)


def balls(models: Sequence[Json], across: str = "macs", metric: str = "accuracy") -> go.Figure:
    """Return accuracy against operations, the area of a dot its parameters (Canziani, Paszke, Culurciello 2016, fig. 2).

    models: {"name", metric, across, "params", and perhaps "low" and "high", the ends of the interval}.
    """
    largest = max(model["params"] for model in models)
    figure = go.Figure()
    for at, model in enumerate(sorted(models, key=lambda m: -m["params"])):
        spread = None
        if model.get("low") is not None and model.get("high") is not None:
            value = model[metric]
            spread = {"type": "data", "symmetric": False, "array": [model["high"] - value], "arrayminus": [value - model["low"]],
                      "color": "#8a948f", "thickness": 1}  # fmt: skip
        figure.add_scatter(
            x=[model[across]], y=[model[metric]], error_y=spread, mode="markers+text", text=[model["name"]], name=model["name"],
            textposition="top center" if at % 2 else "bottom center", showlegend=False,
            marker={"size": [60 * (model["params"] / largest) ** 0.5 + 5], "sizemode": "diameter", "opacity": 0.55,
                    "color": "#0a6353", "line": {"width": 1.2, "color": "#1c2321"}},
            customdata=[[model["params"]]],
            hovertemplate=f"%{{text}}: {metric} %{{y:.4f}}, %{{x:,}} {across}, %{{customdata[0]:,}} params<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(type="log", title=f"{words.cost_name(across)}, log scale", exponentformat="SI", dtick="D2")
    figure.update_yaxes(title=metric.replace("_", " "))
    return _laid_out(figure, 520)
