"""What a person should know about their data before they trust a number: duplicates, imbalance, thin roles."""

import hashlib
from collections.abc import Mapping

import numpy as np

from paredown.core.task import Split

UNEVEN = 1.5


def of(splits: Mapping[str, Split], classes: tuple[str, ...], calib_was_given: bool = True) -> tuple[str, ...]:
    """Return one line for each finding. Nothing is removed: that would quietly make another task of it."""
    looked_at = [role for role in splits if role != "calib" or calib_was_given]
    keys = {role: sample_keys(splits[role].x) for role in looked_at}
    return (
        *_shared(keys),
        *_contradictions(keys, splits),
        *_uneven(splits["train"], classes),
        *_absent(splits, classes),
    )


def sample_keys(x: np.ndarray) -> list[bytes]:
    """Return a 128-bit BLAKE2b digest of each sample's bytes: equal keys, equal samples."""
    rows = np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8)
    return [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows]


def _shared(keys: Mapping[str, list[bytes]]) -> list[str]:
    notes = []
    for role, others in (("test", ("train", "val", "calib")), ("val", ("train", "calib"))):
        for other in others:
            if role not in keys or other not in keys:
                continue
            there = set(keys[other])
            if count := sum(key in there for key in keys[role]):
                notes.append(
                    f"{count} of {len(keys[role])} {role} samples are byte for byte in {other} too: memory, not skill"
                )
    return notes


def _contradictions(keys: Mapping[str, list[bytes]], splits: Mapping[str, Split]) -> list[str]:
    labels: dict[bytes, set[int]] = {}
    for role, found in keys.items():
        for key, label in zip(found, splits[role].y.tolist(), strict=True):
            labels.setdefault(key, set()).add(label)
    count = sum(len(seen) > 1 for seen in labels.values())
    return (
        [f"{count} samples occur more than once with different labels; no model can be right on all of them"]
        if count
        else []
    )


def _uneven(train: Split, classes: tuple[str, ...]) -> list[str]:
    counts = np.bincount(train.y, minlength=len(classes))
    most, least = int(counts.argmax()), int(counts.argmin())
    ratio = counts[most] / max(counts[least], 1)
    if ratio <= UNEVEN:
        return []
    return [
        f"classes are uneven: {counts[most]} train samples of {classes[most]!r}, {counts[least]} of {classes[least]!r} "
        f"({ratio:.1f} times); the metric macro_f1 weighs every class the same"
    ]


def _absent(splits: Mapping[str, Split], classes: tuple[str, ...]) -> list[str]:
    notes = []
    for role in ("val", "test"):
        absent = np.setdiff1d(np.arange(len(classes)), splits[role].y)
        if len(absent):
            notes.append(f"{role} has no sample of {len(absent)} classes (the first: {classes[absent[0]]!r})")
    return notes
