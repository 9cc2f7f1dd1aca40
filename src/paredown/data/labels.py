"""Labels, however they are written, as integers 0 to k-1 and names."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from paredown.core.errors import BadInput

MOST_CLASSES = 100_000


def encode(
    ys: Mapping[str, np.ndarray], classes: Sequence[str] | None
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Return {role: int64 labels (n)} and the class names.

    Strings become classes in sorted order (by value when all are whole numbers), or in the order of `classes` when it
    is given. Whole numbers are class indices as they stand. Raises BadInput for a label that is neither, is negative,
    or is outside `classes`.
    """
    if classes is not None and (len(set(classes)) < len(classes) or len(classes) < 2):
        raise BadInput(f"classes={list(classes)} must be at least two names, each once")
    flat = {role: _flat(role, y) for role, y in ys.items()}
    if all(y.dtype.kind == "U" for y in flat.values()):
        names = (
            tuple(classes) if classes is not None else in_order({str(c) for y in flat.values() for c in np.unique(y)})
        )
        return {role: _positions(role, y, names) for role, y in flat.items()}, names
    if mixed := [role for role, y in flat.items() if y.dtype.kind == "U"]:
        raise BadInput(f"labels of {mixed[0]} are strings but those of another role numbers; give all in one way")
    whole = {role: _whole(role, y) for role, y in flat.items()}
    count = len(classes) if classes is not None else max(int(y.max()) for y in whole.values()) + 1
    for role, y in whole.items():
        _in_range(role, y, min(count, MOST_CLASSES))
    return whole, tuple(classes) if classes is not None else tuple(map(str, range(count)))


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return names sorted: by value when every one is a whole number ("2" before "10"), else as text."""
    names = list(names)
    return tuple(sorted(names, key=int) if all(_is_whole(n) for n in names) else sorted(names))


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _flat(role: str, y: np.ndarray) -> np.ndarray:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise BadInput(
            f"y_{role} has shape {y.shape}; allowed: one label a sample, (n,); for one-hot rows give their argmax"
        )
    if y.dtype.kind == "O" and all(isinstance(v, str) for v in y):
        return y.astype(str)
    if y.dtype.kind == "S":
        return np.char.decode(y, "utf-8", "replace")
    if y.dtype.kind not in "Ubiuf":
        raise BadInput(f"y_{role} has dtype {y.dtype}; allowed: whole numbers 0 to k-1, or strings")
    return y


def _positions(role: str, y: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    at = {name: i for i, name in enumerate(names)}
    found, inverse = np.unique(y, return_inverse=True)
    if strange := [str(c) for c in found if str(c) not in at]:
        raise BadInput(f"label {strange[0]!r} in {role} is not one of classes; allowed: {', '.join(names[:10])}")
    return np.array([at[str(c)] for c in found], dtype=np.int64)[inverse.reshape(-1)]


def _whole(role: str, y: np.ndarray) -> np.ndarray:
    if y.dtype.kind == "f":
        bad = ~(np.isfinite(y) & (y == np.round(y)))
        if bad.any():
            first = int(bad.argmax())
            raise BadInput(
                f"label {y[first]} at y_{role}[{first}] is not a whole number; allowed: 0 to k-1, or strings"
            )
    if y.dtype.kind != "b" and (np.abs(y.astype(np.float64)) > 2**53).any():
        raise BadInput(f"y_{role} holds labels beyond 2^53; allowed: whole numbers 0 to k-1, or strings")
    return y.astype(np.int64)


def _in_range(role: str, y: np.ndarray, count: int) -> None:
    bad = (y < 0) | (y >= count)
    if bad.any():
        first = int(bad.argmax())
        raise BadInput(f"label {y[first]} at y_{role}[{first}] is out of range; allowed: 0 to {count - 1}")
