"""Numbers, recipes and costs as people read them."""

import math
from typing import Any, TypeGuard

NONE = "–"

COSTS = {
    "file_bytes": "file size", "ram_bytes": "peak activation memory", "flash_bytes": "flash",
    "macs": "multiply-accumulates", "bops": "bit operations", "params": "parameters", "nonzero": "nonzero parameters",
    "bits": "stored weight bits, uncoded", "latency_ms": "latency", "energy_uj": "energy",
}  # fmt: skip
UNITS = {"bytes": "bytes", "ms": "ms", "uj": "µJ"}


def finite(value: Any) -> TypeGuard[float]:
    """Whether `value` is an ordinary number: no None, NaN, infinity or truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def metric(value: Any) -> str:
    """Return a metric's value with four decimals.

    >>> metric(0.98222)
    '0.9822'
    """
    return f"{value:.4f}" if finite(value) else NONE


def plain(value: Any) -> str:
    """Return a number without needless digits, thousands apart.

    >>> plain(6471), plain(0.02), plain(None)
    ('6,471', '0.02', '–')
    """
    if not finite(value):
        return NONE
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,.4g}"


def cost_name(what: str) -> str:
    """Return a cost field's name in words."""
    return COSTS.get(what, what.replace("score:", "official score "))


def amount(what: str, value: Any) -> str:
    """Return a cost with its unit.

    >>> amount("file_bytes", 292), amount("macs", 3312), amount("latency_ms", 0.0213)
    ('292 bytes', '3,312', '0.0213 ms')
    """
    unit = UNITS.get(what.rsplit("_", 1)[-1], "") if "_" in what else ""
    return f"{plain(value)} {unit}".rstrip() if finite(value) else NONE


def percent(part: Any, whole: Any) -> str:
    """Return a share in per cent, one decimal.

    >>> percent(1, 8)
    '12.5 %'
    """
    return f"{100 * part / whole:.1f} %" if finite(part) and finite(whole) and whole else NONE


def seconds(value: Any) -> str:
    """Return a duration.

    >>> seconds(0.0015), seconds(2.5), seconds(94.07), seconds(3700)
    ('1.5 ms', '2.5 s', '94 s', '61.7 min')
    """
    if not finite(value):
        return NONE
    if value < 0.1:
        return f"{1000 * value:.2g} ms"
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s" if value < 600 else f"{value / 60:.1f} min"


def signed(value: float, digits: int = 4) -> str:
    """Return a change with its sign, a true minus, and no sign for none.

    >>> signed(0.003), signed(-2978, 0), signed(0.0)
    ('+0.0030', '−2,978', '±0.0000')
    """
    text = f"{abs(value):,.{digits}f}"
    return ("+" if value > 0 else "−" if value < 0 else "±") + text


def ratio(before: float, after: float) -> str:
    """Return how many times smaller or larger `after` is.

    >>> ratio(3270, 292), ratio(100, 110), ratio(100, 100)
    ('11.2× smaller', '1.1× larger', 'the same')
    """
    if not before or not after or before == after:
        return "the same" if before == after else ""
    times, word = (before / after, "smaller") if after < before else (after / before, "larger")
    return f"{times:.1f}× {word}" if times >= 1.05 else f"{100 * (times - 1):.1f} % {word}"


def told(value: Any) -> str:
    """Return a part's setting as text: nested parts by name with their settings in brackets.

    >>> told({"part": "loss.cross_entropy", "smoothing": 0.05})
    'loss.cross_entropy (smoothing 0.05)'
    >>> told([]), told(True), told(None)
    ('none', 'yes', 'none')
    """
    if isinstance(value, dict):
        inner = ", ".join(f"{key} {told(item)}" for key, item in value.items() if key != "part")
        return inner if "part" not in value else f"{value['part']} ({inner})" if inner else str(value["part"])
    if isinstance(value, list | tuple):
        simple = all(not isinstance(item, dict | list | tuple) for item in value)
        return (", " if simple else "; ").join(map(told, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def step(described: Any) -> dict[str, Any]:
    """Return {"name", "settings": [[name, text], …]} of a recipe's step."""
    if not isinstance(described, dict):
        return {"name": str(described), "settings": []}
    settings = [[key, told(value)] for key, value in described.items() if key != "part"]
    return {"name": str(described.get("part", "?")), "settings": settings}


def spec(described: Any) -> str:
    """Return a model's description: its name or path, then its settings."""
    if not isinstance(described, dict):
        return str(described)
    rest = "; ".join(f"{key} {_compact(value)}" for key, value in described.items() if key != "model")
    return f"{described.get('model', '?')}" + (f" ({rest})" if rest else "")


def _compact(value: Any) -> str:
    whole = isinstance(value, list) and value and all(isinstance(v, int) for v in value)
    return "×".join(map(str, value)) if whole else told(value)


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "candidate"), plural(1200, "candidate")
    ('1 candidate', '1,200 candidates')
    """
    return f"{plain(count)} {noun}{'' if count == 1 else 's'}"


def interval(quality: Any) -> str:
    """Return a quality's interval and what stands behind it."""
    if not isinstance(quality, dict):
        return NONE
    level = quality.get("confidence", 0.95)
    seeds = f", {quality['seeds']} seeds" if quality.get("seeds", 1) > 1 else ""
    ends = f"{metric(quality.get('low'))} to {metric(quality.get('high'))}"
    return f"{100 * level:g} % interval {ends}, n = {plain(quality.get('n'))}{seeds}"
