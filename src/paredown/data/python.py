"""Data from Python: arrays, tensors, dicts of roles, Datasets, DataLoaders. By their shape, without importing torch.

- a tuple of two, `(x, y)`: arrays, tensors or lists;
- a dict by role, `{"train": …, "test": …}`, of anything here, or by name, `{"x_train": …, "y_train": …}`;
- a Dataset, or any sequence of `(x, y)`: read from first to last;
- a DataLoader, or any iterable of `(x batch, y batch)` or of `(x, y)`. Read once. Its samples are put in the order of
  their bytes, so that a loader that shuffles gives the same task each time; one that augments cannot.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from paredown.core.errors import BadInput
from paredown.data import arrays
from paredown.data.findings import sample_keys
from paredown.data.raw import Pair, Raw

ALLOWED = "a task's name, a path, (x, y), a dict of roles, a Dataset or a DataLoader"


def read(source: Any) -> Raw:
    """Return what `source` holds. Raises BadInput when it is none of the things above."""
    if isinstance(source, Mapping):
        if arrays.is_by_name(source):
            found = {str(key): as_array(value, str(key)) for key, value in source.items()}
            return Raw("arrays", arrays.by_role(found, "the dict"))
        return Raw(
            "arrays", {str(role): _pair(value, str(role)) for role, value in source.items()}, notes=_dropped(source)
        )
    return Raw("arrays", {"train": _pair(source, "train")}, notes=_dropped({"train": source}))


def as_array(value: Any, what: str) -> np.ndarray:
    """Return an array, tensor, table column or list as a NumPy array, on the CPU. Raises BadInput."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    for way in ("numpy", "to_numpy"):
        if hasattr(value, way) and not isinstance(value, np.ndarray):
            try:
                return np.asarray(getattr(value, way)())
            except (TypeError, RuntimeError) as error:
                raise BadInput(f"{what} cannot become a NumPy array: {' '.join(str(error).split())}") from None
    if not (
        hasattr(value, "__array__")
        or hasattr(value, "__array_interface__")
        or isinstance(value, list | tuple | str | int | float)
    ):
        raise BadInput(f"{what} is a {type(value).__name__}; allowed: an array, a tensor or a list")
    try:
        return np.asarray(value)
    except ValueError:
        raise BadInput(f"{what} is a list of items of different shapes; all samples must have one shape") from None


def _pair(value: Any, role: str) -> Pair:
    if isinstance(value, tuple) and len(value) == 2:
        return as_array(value[0], f"x_{role}"), as_array(value[1], f"y_{role}")
    if isinstance(value, tuple | str | bytes | Mapping) or hasattr(value, "shape"):
        raise BadInput(f"{role} is a {type(value).__name__}{_size(value)}, not a task; allowed: {ALLOWED}")
    if hasattr(value, "__iter__"):
        x, y = _collect(iter(value), role)
        return (x, y) if isinstance(value, list) else _in_byte_order(x, y)
    if hasattr(value, "__len__") and hasattr(value, "__getitem__"):
        return _collect((value[i] for i in range(len(value))), role)
    raise BadInput(f"{role} is a {type(value).__name__}, not a task; allowed: {ALLOWED}")


def _size(value: Any) -> str:
    return f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else f" of {len(value)}"


def _collect(items: Iterable[Any] | Iterator[Any], role: str) -> Pair:
    xs: list[np.ndarray] = []
    ys: list[np.ndarray] = []
    for i, item in enumerate(items):
        if not isinstance(item, tuple | list) or len(item) != 2:
            size = f" of {len(item)}" if hasattr(item, "__len__") else ""
            raise BadInput(
                f"item {i} of {role} is a {type(item).__name__}{size}; each must be (x, y), one sample or one batch"
            )
        x, y = as_array(item[0], f"x of item {i} of {role}"), as_array(item[1], f"y of item {i} of {role}")
        x, y = (x, y) if y.ndim else (x[None], y[None])
        if x.ndim == 0 or len(x) != len(y):
            raise BadInput(f"item {i} of {role} has {len(x) if x.ndim else 'no'} samples in x but {len(y)} labels in y")
        if xs and x.shape[1:] != xs[0].shape[1:]:
            raise BadInput(
                f"item {i} of {role} has samples of shape {x.shape[1:]}, item 0 {xs[0].shape[1:]}; allowed: one shape"
            )
        xs.append(x)
        ys.append(y)
    if not xs:
        raise BadInput(f"{role} is empty (0 samples); give it samples or leave the role out")
    return np.concatenate(xs), np.concatenate(ys)


def _in_byte_order(x: np.ndarray, y: np.ndarray) -> Pair:
    keys = list(zip(sample_keys(x), map(str, y.tolist()), strict=True))
    order = sorted(range(len(x)), key=keys.__getitem__)
    return x[order], y[order]


def _dropped(source: Mapping) -> tuple[str, ...]:
    late = [str(role) for role, value in source.items() if getattr(value, "drop_last", False) is True]
    return tuple(f"the loader of {role} has drop_last: its last samples may be missing" for role in late)
