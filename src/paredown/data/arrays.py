"""`.npz` files and dicts of arrays by name: `x_train`, `y_train`, `x_test`, …, or `x` and `y`.

Also taken: the names that MedMNIST uses, `train_images` and `train_labels`.
"""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from paredown.core.errors import BadInput, Damaged
from paredown.core.task import ROLES
from paredown.data.options import Options, one_line
from paredown.data.raw import Pair, Raw

# What zipfile and NumPy's header parser raise on damaged bytes.
DAMAGE = (
    zipfile.BadZipFile, zlib.error, tokenize.TokenError, struct.error, ValueError, TypeError, SyntaxError, KeyError,
    EOFError, OSError, RuntimeError, MemoryError,
)  # fmt: skip
NAMES = "x_train, y_train, x_test, y_test (x_val, y_val, x_calib, y_calib as well), or x and y"


def read(path: Path, options: Options) -> Raw:
    """Return the arrays of an `.npz`. Raises BadInput when it is cut short, pickled, or lacks an array."""
    _refuse_others(path)
    try:
        with np.load(path, allow_pickle=False) as held:
            arrays = {key: _array(held, key, path) for key in held.files if _role_of(key)}
            others = tuple(key for key in held.files if key not in arrays)
    except BadInput:
        raise
    except DAMAGE as error:
        raise Damaged(f"{path} is damaged: {one_line(error)}; write it again with np.savez") from None
    notes = (f"left alone in {path.name}: {', '.join(others)}",) if others else ()
    return Raw(path.stem, by_role(arrays, str(path), others), options, notes)


def _refuse_others(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(6)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {one_line(error)}") from None
    if start == b"\x93NUMPY":
        raise BadInput(f"{path} is a single array, not an .npz; save with np.savez(path, x=…, y=…)")
    if not zipfile.is_zipfile(path):
        raise Damaged(f"{path} is no .npz, or is cut short (pickled data is never read); write it with np.savez")


def _array(held: Mapping[str, np.ndarray], key: str, path: Path) -> np.ndarray:
    try:
        return held[key]
    except DAMAGE as error:
        if "Object arrays cannot be loaded" in str(error):
            raise BadInput(f"array {key!r} in {path} holds Python objects, which are never unpickled") from None
        raise Damaged(f"array {key!r} in {path} is damaged: {one_line(error)}; write it again with np.savez") from None


def _role_of(key: str) -> tuple[str, str] | None:
    """Return ("x" or "y", role) for an array's name, or None."""
    if key in ("x", "y"):
        return key, "train"
    first, _, second = key.partition("_")
    if first in ("x", "y") and second in ROLES:
        return first, second
    medmnist = {"images": "x", "labels": "y"}
    return (medmnist[second], first) if second in medmnist and first in ROLES else None


def is_by_name(source: Mapping) -> bool:
    """Return whether a dict's keys are names of arrays, not of roles."""
    return any(_role_of(str(key)) for key in source)


def by_role(arrays: Mapping[str, np.ndarray], where: str, others: tuple[str, ...] = ()) -> dict[str, Pair]:
    """Return {role: (x, y)}. Raises BadInput when one of a pair is missing, or a role comes twice."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, array in arrays.items():
        part, role = _role_of(key) or ("", "")
        if part in found.setdefault(role, {}):
            raise BadInput(f"{where} gives {part} of {role} twice, the second time as {key!r}; keep one of them")
        found[role][part] = array
    if not found:
        raise BadInput(f"{where} holds {', '.join(others) or 'no arrays'}; it must hold {NAMES}")
    for role, parts in found.items():
        if len(parts) < 2:
            have = next(iter(parts))
            raise BadInput(
                f"{where} holds {have}_{role} but no {'y' if have == 'x' else 'x'}_{role}; it must hold {NAMES}"
            )
    return {role: (parts["x"], parts["y"]) for role, parts in found.items()}
