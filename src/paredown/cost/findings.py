"""Where a network's costs are, in words: the layers, kinds and tensors that hold most of them, and what would help."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paredown.core.cost import Layer
from paredown.cost.memory import Moment

RESOURCES = {
    "stored_bits": ("holds", "of the stored bits", "quantize, prune or factorize it first"),
    "macs": ("does", "of the multiply-accumulates", "fewer channels or a cheaper operator here count most"),
    "traffic_bits": ("moves", "of what goes to and from memory", "fuse it, or make its tensors narrower"),
}
"""What a layer can hold most of: how to say it, and what helps."""

LARGE = 0.25
"""A share from which one layer, kind or tensor is worth a line."""


@dataclass(frozen=True)
class Finding:
    """One line: the resource, who has most of it, its share of the total (0…1), and the sentence."""

    resource: str
    name: str
    share: float
    text: str


def findings(rows: Sequence[Layer], moments: Sequence[Moment], with_depthwise: int) -> list[Finding]:
    """Return what would help most, largest share first.

    rows: `count.layers`. moments: `memory.timeline` with pointwise operators in place. with_depthwise: the peak in
    bytes with depthwise convolutions in place too.
    """
    found = [_largest(rows, resource) for resource in RESOURCES]
    found += [
        _kind_bound_by_memory(rows),
        _peak(moments),
        _in_place(moments, with_depthwise),
        _zeros(rows),
        _norms(rows),
    ]
    return sorted((f for f in found if f is not None), key=lambda f: -f.share)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _largest(rows: Sequence[Layer], resource: str) -> Finding | None:
    total = sum(getattr(row, resource) for row in rows)
    top = max(rows, key=lambda row: getattr(row, resource), default=None)
    if top is None or not total or (share := getattr(top, resource) / total) < LARGE:
        return _few(rows, resource, total)
    does, what, help_ = RESOURCES[resource]
    return Finding(resource, top.name, share, f"{top.name} {does} {_percent(share)} {what}: {help_}")


def _few(rows: Sequence[Layer], resource: str, total: int) -> Finding | None:
    """Return how few layers have half of it, when no single one stands out."""
    if not total:
        return None
    ordered = sorted(rows, key=lambda row: -getattr(row, resource))
    sum_, names = 0, []
    for row in ordered:
        sum_ += getattr(row, resource)
        names.append(row.name)
        if 2 * sum_ >= total:
            break
    if len(names) > 4:
        return None
    does, what, _ = RESOURCES[resource]
    share = sum_ / total
    verb = does if len(names) == 1 else {"holds": "hold", "does": "do", "moves": "move"}[does]
    return Finding(resource, names[0], share, f"{', '.join(names)} together {verb} {_percent(share)} {what}")


def _kind_bound_by_memory(rows: Sequence[Layer]) -> Finding | None:
    macs, traffic = sum(row.macs for row in rows), sum(row.traffic_bits for row in rows)
    if not macs or not traffic:
        return None
    kinds: dict[str, list[float]] = {}
    for row in rows:
        have = kinds.setdefault(row.kind, [0.0, 0.0])
        have[0] += row.macs / macs
        have[1] += row.traffic_bits / traffic
    kind, (work, moved) = max(kinds.items(), key=lambda item: item[1][1] - item[1][0])
    if moved < LARGE or moved < 3 * work:
        return None
    text = f"{kind} layers do {_percent(work)} of the multiply-accumulates but move {_percent(moved)} of the memory traffic"
    return Finding("traffic_bits", kind, moved, f"{text}: fusing them helps, fewer operations there do not")


def _peak(moments: Sequence[Moment]) -> Finding | None:
    top = max(moments, key=lambda m: m.bytes, default=None)
    if top is None or not top.bytes:
        return None
    parts: Mapping[str, int] = dict(sorted(top.live.items(), key=lambda item: -item[1])[:3])
    named = " and ".join(f"{name} ({_percent(size / top.bytes)})" for name, size in parts.items())
    where = f"while {top.node} runs" if top.node else "with the input alone"
    share = max(parts.values()) / top.bytes
    return Finding(
        "ram_bytes", next(iter(parts)), share, f"memory peaks at {top.bytes:,} bytes {where}, set by {named}"
    )


def _in_place(moments: Sequence[Moment], with_depthwise: int) -> Finding | None:
    most = max((m.bytes for m in moments), default=0)
    if not most or (saved := 1 - with_depthwise / most) < 0.02:
        return None
    text = (
        f"depthwise convolutions in place would lower the memory peak by {_percent(saved)} to {with_depthwise:,} bytes"
    )
    return Finding("ram_bytes", "depthwise", saved, text)


def _zeros(rows: Sequence[Layer]) -> Finding | None:
    params = sum(row.params for row in rows)
    share = 1 - sum(row.nonzero for row in rows) / params if params else 0.0
    if share < 0.1:
        return None
    return Finding(
        "params", "zeros", share, f"{_percent(share)} of the parameters are zero; a coded file does not pay for them"
    )


def _norms(rows: Sequence[Layer]) -> Finding | None:
    norms = [row for row in rows if row.op == "batch_norm"]
    params = sum(row.params for row in rows)
    held = sum(row.params for row in norms)
    if not norms or not params:
        return None
    text = f"{len(norms)} batch norms with {held:,} parameters fold into the layers before them (edit.fold_batchnorm)"
    return Finding("params", "batch_norm", held / params, text)
