"""MLPerf Tiny's closed division: is a network the reference with its numbers rounded, and nothing else?

Rounding moves a weight to one of the two levels beside it, or, beyond the range, to the last one (rules, Weight
Definition and Quantization: any purely mathematical quantization). Whatever lies further away was retrained, replaced
or pruned (Model Equivalence). Weights that were rescaled between layers, which the rules may allow, are reported too:
undo the scaling to compare. Fold batch norms in both networks before.
"""

from collections.abc import Iterator

import numpy as np

from paredown.graph.frozen import Blocks, Frozen, Hashed, Plain, Rounded, Shared, Stored, Vectors, code_range
from paredown.graph.patterns import table

EXACT = 1e-5
"""What float arithmetic on weights, such as folding a batch norm, may leave of relative difference."""


def differences(reference: Frozen, submission: Frozen) -> list[str]:
    """Return, in a line for each tensor, why a submission is not the reference rounded; nothing if it is."""
    ours, theirs = dict(_tensors(reference)), dict(_tensors(submission))
    if len(ours) != len(theirs):
        return [f"the submission stores {len(theirs)} tensors, the reference {len(ours)}: it is another model"]
    found = []
    for (name, wanted), held in zip(ours.items(), theirs.values(), strict=True):
        found += [f"{name}: {why}" for why in _misfits(wanted.value, held)]
    return found


def _tensors(frozen: Frozen) -> Iterator[tuple[str, Stored]]:
    """Yield (slot name, values) of every tensor of numbers, in the order in which they are read."""
    for name in frozen.spec.slot_users():
        if np.issubdtype(frozen.tensors[name].value.dtype, np.floating):
            yield name, frozen.tensors[name]


def _misfits(wanted: np.ndarray, held: Stored) -> list[str]:
    if wanted.shape != held.shape:
        return [f"its shape is {held.shape}, the reference's {wanted.shape}"]
    target, room = rounding(wanted.astype(np.float64), held)
    off = np.abs(held.value - target) > room * (1 + EXACT) + EXACT * np.abs(target) + 1e-9
    cut = off & (held.value == 0)
    moved = int((off & ~cut).sum())
    told = []
    if cut.any():
        told.append(f"{int(cut.sum()):,} of {np.count_nonzero(wanted):,} nonzero weights are discarded: pruned")
    if moved:
        told.append(f"{moved:,} of {wanted.size:,} weights are further off than rounding: retrained or replaced")
    return told


def rounding(wanted: np.ndarray, held: Stored) -> tuple[np.ndarray, np.ndarray]:
    """Return (values clipped to the format's range, the distance between the levels around each)."""
    if isinstance(held, Rounded):
        low, high = (code * held.step for code in code_range(held.bits))
        return np.clip(wanted, low, high), np.broadcast_to(held.step * (2 if held.bits == 1 else 1), wanted.shape)
    if isinstance(held, Shared):
        levels = np.unique(held.centroids).astype(np.float64)
        above = np.clip(np.searchsorted(levels, wanted), 1, max(len(levels) - 1, 1))
        gaps = np.diff(levels) if len(levels) > 1 else np.zeros(1)
        return np.clip(wanted, levels[0], levels[-1]), gaps[above - 1]
    if isinstance(held, Blocks):
        return _in_blocks(wanted, held)
    if isinstance(held, Vectors | Hashed):  # no entry is rounded to a level of its own
        return wanted, np.zeros_like(wanted)
    return wanted, np.abs(wanted) * _relative(held)


def _in_blocks(wanted: np.ndarray, held: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """Return the same of weights in blocks: each block has the format's levels, less its zero point, times its step."""
    levels = np.unique(table(held.number)[np.isfinite(table(held.number))]).astype(np.float64)
    zero = np.float64(0) if held.zero is None else held.spread(held.zero.astype(np.float64))
    step = held.spread(held.steps.astype(np.float64))
    clipped = np.clip(wanted / step + zero, levels[0], levels[-1])
    above = np.clip(np.searchsorted(levels, clipped), 1, len(levels) - 1)
    return (clipped - zero) * step, np.diff(levels)[above - 1] * step


def _relative(held: Plain) -> float:
    """Return the relative distance between the values of the float format that holds these: bfloat16, half, or none."""
    single = np.ascontiguousarray(held.array, dtype=np.float32)
    if not (single.view(np.uint32) & 0xFFFF).any():
        return 2.0**-7
    with np.errstate(over="ignore"):
        return 2.0**-10 if (single.astype(np.float16).astype(np.float32) == single).all() else 0.0
