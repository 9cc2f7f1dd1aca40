"""Samples as the rest of the house expects them: pictures as (n, channels, height, width), vectors as (n, features).

The rule for pictures, by the array's axes:
- three, (n, h, w): one channel is added;
- four, and the second has length 1, 3 or 4: channels first, (n, c, h, w), as they are;
- four, and only the last has length 1, 3 or 4: channels last, (n, h, w, c), turned;
- four, and neither: channels first.

Numbers: pictures of whole numbers from 0 to 255 are kept as uint8 with scale 1/255 (bool: scale 1); other pictures
become float32, with scale 1, or 1 / (largest magnitude in train) when that is above 2. Vectors become float32 with
scale 1, never standardised: networks begin with a batch normalisation. A scale given by the user stands.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from paredown.core.errors import BadInput
from paredown.data import check

CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Arranged:
    """Samples by role in one layout and dtype, the scale that a model applies, and what was noticed."""

    xs: Mapping[str, np.ndarray]
    scale: float
    notes: tuple[str, ...] = ()


def arrange(xs: Mapping[str, np.ndarray], scale: float | None = None, shape: tuple[int, ...] | None = None) -> Arranged:
    """Return the samples in the layout and numbers above; `shape` first folds each sample. Raises BadInput."""
    check.number_kinds(xs)
    if shape is not None:
        xs = {role: _folded(role, x, shape) for role, x in xs.items()}
    check.sample_shapes(xs)
    if next(iter(xs.values())).ndim == 2:
        return Arranged({role: _float32(role, x) for role, x in xs.items()}, scale or 1.0)
    numbers = _pictures(xs)
    turned, notes = _channels_first(numbers.xs)
    notes += () if scale else numbers.notes
    return replace(numbers, xs=turned, scale=scale or numbers.scale, notes=notes)


def _folded(role: str, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if prod(x.shape[1:]) != prod(shape):
        raise BadInput(f"shape={shape} holds {prod(shape)} values but a sample of {role} has {prod(x.shape[1:])}")
    return x.reshape(len(x), *shape)


def _float32(role: str, x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        x = x.astype(np.float32, copy=False)
    check.finite(role, x)
    return x


def _pictures(xs: Mapping[str, np.ndarray]) -> Arranged:
    train = xs["train"]
    if all(x.dtype == bool for x in xs.values()):
        return Arranged({role: x.astype(np.uint8) for role, x in xs.items()}, 1.0)
    if train.dtype.kind != "f" and all(x.dtype == np.uint8 or (x.min() >= 0 and x.max() <= 255) for x in xs.values()):
        top = float(train.max())
        told = (
            f"pixels of train reach only {top:g} of 255; the scale is 1/255 all the same: give `scale` if that is wrong"
        )
        small = {role: x.astype(np.uint8, copy=False) for role, x in xs.items()}
        return Arranged(small, 1 / 255, (told,) if top < 64 else ())
    large = {role: _float32(role, x) for role, x in xs.items()}
    top = float(np.abs(large["train"]).max())
    return Arranged(
        large,
        1 / top if top > 2 else 1.0,
        (f"pixels reach {top:g}; a model sees them divided by it",) if top > 2 else (),
    )


def _channels_first(xs: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    shape = xs["train"].shape
    if len(shape) == 3:
        return {role: x[:, None] for role, x in xs.items()}, ()
    first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
    if last and not first:
        return {role: np.ascontiguousarray(x.transpose(0, 3, 1, 2)) for role, x in xs.items()}, ()
    doubt = first == last
    note = f"samples of shape {shape[1:]} were read as channels, height, width; fold them with `shape` if that is wrong"
    return dict(xs), (note,) if doubt else ()
