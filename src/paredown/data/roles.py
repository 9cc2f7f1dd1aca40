"""Roles that the data does not bring: made deterministically, with every class in its share."""

from collections.abc import Mapping

import numpy as np

from paredown.core.errors import BadInput
from paredown.core.task import Split
from paredown.data.options import Options

CALIB = 512
MOST_HELD_OUT = 10_000


def complete(given: Mapping[str, Split], options: Options, seed: int) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Return all four roles, and notes on those made here.

    - test, when absent: a fifth of train (at most 10,000), drawn by `options.seed`, never by the search's `seed`;
    - val, when absent: a quarter of what is left below 5,000 samples, else a sixth, at most 10,000, drawn by `seed`;
    - calib, when absent: 512 samples drawn by `seed` out of train, in which they stay: a subset by design.

    Raises BadInput when train is too small to be divided.
    """
    splits, notes = dict(given), []
    if "test" not in splits:
        wanted = _wanted(len(splits["train"]), options.test_fraction, 1 / 5)
        notes.append(_hold_out(splits, "test", wanted, options.seed))
    if "val" not in splits:
        count = len(splits["train"])
        wanted = _wanted(count, options.val_fraction, 1 / 4 if count < 5000 else 1 / 6)
        notes.append(_hold_out(splits, "val", wanted, seed))
    if "calib" not in splits:
        train = splits["train"]
        splits["calib"] = _pick(train, draw(train.y, min(CALIB, len(train)), seed, keep=0))
        notes.append(f"calib was made here: {len(splits['calib'])} samples that are also in train, by design")
    return splits, tuple(notes)


def _wanted(count: int, asked: float | None, share: float) -> int:
    return max(1, round(count * asked)) if asked else min(MOST_HELD_OUT, max(1, int(count * share)))


def _hold_out(splits: dict[str, Split], role: str, wanted: int, seed: int) -> str:
    train = splits["train"]
    taken = draw(train.y, wanted, seed)
    if not len(taken):
        raise BadInput(
            f"train has {len(train)} samples, one a class: too few to make {role} from; add samples or give {role}"
        )
    kept = np.setdiff1d(np.arange(len(train)), taken)
    splits["train"], splits[role] = _pick(train, kept), _pick(train, taken)
    return f"{role} was made here: {len(taken)} of {len(train)} train samples, stratified, seed {seed}"


def _pick(split: Split, at: np.ndarray) -> Split:
    return Split(split.x[at], split.y[at])


def draw(y: np.ndarray, wanted: int, seed: int, keep: int = 1) -> np.ndarray:
    """Return the positions, rising, of about `wanted` samples, each class in its share (largest remainder).

    A class gives at least one where it can and always leaves `keep`; so a few more than `wanted` come back when there
    are more classes than that. RandomState, because NumPy promises that its streams never change (NEP 19).
    """
    stream = np.random.RandomState(seed)
    found, counts = np.unique(y, return_counts=True)
    shares = allot(counts, wanted, keep)
    picks = [np.flatnonzero(y == c)[stream.permutation(n)[:k]] for c, n, k in zip(found, counts, shares, strict=True)]
    return np.sort(np.concatenate(picks))


def allot(counts: np.ndarray, wanted: int, keep: int) -> np.ndarray:
    """Return how many to take of each class: proportional to `counts`, at least 1, at most `counts - keep`."""
    most = np.maximum(counts - keep, 0)
    quota = counts * (wanted / counts.sum())
    shares = np.minimum(np.maximum(np.floor(quota), 1), most).astype(int)
    for i in np.argsort(shares - quota, kind="stable"):
        if shares.sum() >= wanted:
            break
        shares[i] += shares[i] < most[i]
    return shares
