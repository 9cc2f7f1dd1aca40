"""Is this data a classification task at all? Each check raises BadInput with one line that names what is wrong."""

from collections.abc import Mapping

import numpy as np

from paredown.core.errors import BadInput
from paredown.core.task import ROLES, Split


def pairs(found: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Raise BadInput unless there is a train role, every role has samples, and x and y are equally long."""
    if unknown := [role for role in found if role not in ROLES]:
        raise BadInput(f"role {unknown[0]!r} is unknown; allowed: {', '.join(ROLES)}")
    if "train" not in found:
        raise BadInput(f"there is no train role, only {', '.join(found) or 'nothing'}; give train samples as well")
    for role, (x, y) in found.items():
        if x.ndim == 0 or y.ndim == 0:
            raise BadInput(
                f"{role} is a single value ({'x' if x.ndim == 0 else 'y'} has no axis); give n samples and n labels"
            )
        if len(x) != len(y):
            raise BadInput(
                f"x_{role} has {len(x)} samples but y_{role} has {len(y)} labels; each sample needs one label"
            )
        if len(x) == 0:
            raise BadInput(f"{role} is empty (0 samples); give it samples or leave the role out")


def sample_shapes(xs: Mapping[str, np.ndarray]) -> None:
    """Raise BadInput unless the samples of every role have one shape, of 1 to 3 axes, none of them empty."""
    wanted = xs["train"].shape[1:]
    for role, x in xs.items():
        if x.shape[1:] != wanted:
            raise BadInput(f"a sample of {role} has shape {x.shape[1:]}, one of train {wanted}; they must be the same")
    if not 1 <= len(wanted) <= 3:
        raise BadInput(
            f"x_train has shape {xs['train'].shape}; allowed: (n, features), (n, h, w), (n, h, w, c), (n, c, h, w)"
        )
    if 0 in wanted:
        raise BadInput(f"x_train has shape {xs['train'].shape}: a sample holds nothing; every axis must be at least 1")


def number_kinds(xs: Mapping[str, np.ndarray]) -> None:
    """Raise BadInput unless x is numeric, and whole numbers in every role or fractions in every role."""
    for role, x in xs.items():
        if x.dtype.kind not in "buif":
            raise BadInput(f"x_{role} has dtype {x.dtype}; allowed: uint8, integers, bool or floats")
    kinds = {role: "floats" if x.dtype.kind == "f" else "integers" for role, x in xs.items()}
    for role, kind in kinds.items():
        if kind != kinds["train"]:
            raise BadInput(f"x_{role} holds {kind} but x_train {kinds['train']}; give every role in the same units")


def finite(role: str, x: np.ndarray) -> None:
    """Raise BadInput if a value is NaN or infinite, saying how many and where the first is."""
    good = np.isfinite(x)
    if good.all():
        return
    first = np.unravel_index(int(np.argmin(good)), x.shape)
    place = ", ".join(str(int(i)) for i in first)
    raise BadInput(
        f"x_{role} has {int(good.size - good.sum())} NaN or infinite values (in float32), the first at [{place}]; "
        "replace or drop them"
    )


def classes(ys: Mapping[str, np.ndarray], names: tuple[str, ...]) -> None:
    """Raise BadInput unless train holds at least two classes, and a sample of every class there is."""
    train = ys["train"]
    if len(present := np.unique(train)) < 2:
        raise BadInput(f"all {len(train)} labels of train are {names[present[0]]!r}; at least two classes are needed")
    absent = np.setdiff1d(np.arange(len(names)), present)
    if not len(absent):
        return
    first = int(absent[0])
    where = next((f" but {int((y == first).sum())} in {role}" for role, y in ys.items() if (y == first).any()), "")
    raise BadInput(
        f"class {names[first]!r} has no sample in train{where} ({len(absent)} of {len(names)} classes have none); "
        "add samples, or number the classes 0 to k-1 without gaps, or give labels as strings"
    )


def metric_fits(metric: str, splits: Mapping[str, Split], names: tuple[str, ...]) -> None:
    """Raise BadInput if val or test lacks a class and the metric has no value without it (the area under its curve)."""
    if metric != "auc":
        return
    for role in ("val", "test"):
        if len(absent := np.setdiff1d(np.arange(len(names)), splits[role].y)):
            raise BadInput(
                f"metric auc needs every class in {role}, which has no {names[absent[0]]!r}; add some or use macro_f1"
            )
