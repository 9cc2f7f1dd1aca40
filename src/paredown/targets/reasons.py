"""Why a pruned network is, or is not, expected to be faster, in words with the numbers that they come from. Needs no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paredown.targets.expected import Expectation, Row, Side

FASTER = 1.1
"""The ratio from which a network is called faster."""
SHARE = 0.25
"""A share of the time from which a cause is worth a line."""
NEARLY = 0.97
"""Own time over the wider twin's from which the narrower one gains nothing."""


@dataclass(frozen=True)
class Reason:
    """One sentence, what it is about, and the measured or counted numbers in it."""

    about: str
    text: str
    numbers: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the reason as a JSON object."""
        return {"about": self.about, "text": self.text, "numbers": dict(self.numbers)}


def verdict(found: Expectation, why: Sequence[Reason] = ()) -> str:
    """Return the one line: expected so many times as fast; or not faster here, and because of what."""
    ratio, ends = found.ratio.value, f"{found.before.value:.3g} to {found.after.value:.3g} ms"
    told = f"{ratio:.2f} times as fast in {NAMES[found.runtime]} here: {ends}, modelled from {found.classes} measured shape classes"
    if ratio >= FASTER:
        return f"expected {told}"
    because = f", because {why[0].text}" if why else ""
    return f"{'not faster' if ratio > 1 / FASTER else 'slower'} here ({told}){because}"


NAMES = {"onnx": "ONNX Runtime", "packed": "ONNX Runtime, which packed files are run in"}


def reasons(found: Expectation, before: Side, after: Side) -> tuple[Reason, ...]:
    """Return what the expectation rests on, the causes of too little first."""
    told = [
        _masks(found, before, after), *_widths(found), _untouched(found), _overhead(found), _memory(found, before),
        _norms(found), _moves(found), _macs(found),
    ]  # fmt: skip
    return tuple(one for one in told if one is not None)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _masks(found: Expectation, before: Side, after: Side) -> Reason | None:
    masked = {name: share for name, share in after.zeros.items() if share > before.zeros.get(name, 0.0) + 1e-9}
    dense = [row for row in found.rows if row.layer in masked and row.untouched]
    if not dense:
        return None
    weights = sum(after.layers[row.layer].weights for row in dense if row.layer in after.layers)
    zeros = sum(masked[row.layer] * after.layers[row.layer].weights for row in dense if row.layer in after.layers)
    ms = sum(row.after_ms for row in dense)
    said = "would be, by what its indices cost," if after.predicted else "is"
    text = (
        f"a mask is dense to the runtime: {_percent(zeros / max(1, weights))} of the weights of {len(dense)} layers are zero, and all "
        f"{weights:,} are multiplied, {ms:.3g} ms before and after; the file {said} smaller when coded: "
        f"{before.file_bytes:,} to {after.file_bytes:,} bytes; `prune.channels` makes layers smaller"
    )
    return Reason("masks", text, {"zeros": zeros, "weights": weights, "ms": ms, "before_bytes": before.file_bytes, "after_bytes": after.file_bytes})  # fmt: skip


def _widths(found: Expectation) -> list[Reason]:
    """Return the layers whose narrower channels take as long as the next whole block's."""
    wasted = [twin for twin in found.twins if twin.wider_ms > 0 and twin.own_ms >= NEARLY * twin.wider_ms]
    return [
        Reason(
            "width",
            f"{twin.layer}: {twin.own} channels take {1e3 * twin.own_ms:.3g} µs, {twin.wider} take {1e3 * twin.wider_ms:.3g} µs here; "
            "`multiple_of` keeps whole vectors",
            {"own_ms": twin.own_ms, "wider_ms": twin.wider_ms},
        )
        for twin in wasted
    ]


def _layers_ms(found: Expectation) -> float:
    return sum(row.before_ms for row in found.rows)


def _untouched(found: Expectation) -> Reason | None:
    whole = _layers_ms(found)
    same = sorted((row for row in found.rows if row.untouched), key=lambda row: -row.before_ms)
    ms = sum(row.before_ms for row in same)
    if not whole or ms < SHARE * whole or len(same) == len(found.rows):
        return None
    named = ", ".join(f"{row.layer} {1e3 * row.before_ms:.3g} µs" for row in same[:3])
    text = f"{_percent(ms / whole)} of the layers' time is in {len(same)} that this pruning leaves as they are: {named}"
    return Reason("untouched", text, {"ms": ms, "share": ms / whole})


def _overhead(found: Expectation) -> Reason | None:
    share = found.fixed_ms[1] / found.after.value if found.after.value else 0.0
    if share < SHARE:
        return None
    text = (
        f"{_percent(share)} of the time left is not in any layer: calling the runtime and its nodes take "
        f"{1e3 * found.fixed_ms[1]:.3g} µs at any width; fewer layers, or larger batches, help"
    )
    return Reason("overhead", text, {"ms": found.fixed_ms[1], "share": share})


def _memory(found: Expectation, before: Side) -> Reason | None:
    """Return the kind that takes far more of the time than of the multiplications."""
    macs, whole = sum(layer.macs for layer in before.layers.values()), _layers_ms(found)
    kinds: dict[str, list[Row]] = {}
    for row in found.rows:
        layer = before.layers.get(row.layer)
        if layer is not None:
            kinds.setdefault(layer.kind, []).append(row)
    sums = {kind: (sum(r.before_ms for r in rows), sum(r.before_macs for r in rows)) for kind, rows in kinds.items()}
    bound = [(ms / whole, work / macs, kind) for kind, (ms, work) in sums.items() if whole and macs]
    bound = [one for one in bound if one[0] >= SHARE and one[0] > 2 * one[1] and one[2] != "convolution"]
    if not bound:
        return None
    time, work, kind = max(bound)
    left = sum(row.after_ms for row in kinds[kind]) / max(1e-12, sums[kind][0])
    text = (
        f"{kind} layers do {_percent(work)} of the multiply-accumulates but take {_percent(time)} of the time: they are bound by "
        f"memory, and {_percent(left)} of their time is left"
    )
    return Reason("memory", text, {"macs_share": work, "time_share": time, "left": left})


def _norms(found: Expectation) -> Reason | None:
    rows = [row for row in found.rows if row.layer == "(BatchNormalization)"]
    ms = sum(row.after_ms for row in rows)
    if not rows or ms < 0.02 * found.after.value:
        return None
    text = f"batch norms are not fused with their layers and take {1e3 * ms:.3g} µs: put `edit.fold_batchnorm` into the recipe"
    return Reason("norms", text, {"ms": ms})


def _moves(found: Expectation) -> Reason | None:
    """Return what is spent on bringing odd numbers of channels from one memory layout to another."""
    rows = [row for row in found.rows if row.layer.startswith("(Reorder")]
    before, after = (
        (sum(values) for values in zip(*((r.before_ms, r.after_ms) for r in rows), strict=True)) if rows else (0.0, 0.0)
    )
    if after - before < 0.05 * found.after.value:
        return None
    text = (
        f"changing memory layouts between layers takes {1e3 * after:.3g} µs, {1e3 * before:.3g} µs before: the runtime computes in blocks of "
        "channels, and these counts are no multiples"
    )
    return Reason("layouts", text, {"before_ms": before, "after_ms": after})


def _macs(found: Expectation) -> Reason | None:
    before, after = (sum(getattr(row, f"{end}_macs") for row in found.rows) for end in ("before", "after"))
    if not after or before == after:
        return None
    text = f"multiply-accumulates fall {before / after:.2f} times, time {found.ratio.value:.2f} times"
    return Reason("macs", text, {"macs": before / after, "time": found.ratio.value})
