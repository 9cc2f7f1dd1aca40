"""The straight line between two networks: what the error is along it, and how high it rises."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from paredown.core.errors import BadInput
from paredown.graph.net import Net
from paredown.graph.recalibrate import keeping, recalibrate_
from paredown.graph.slots import Fixed, Free, Masked

POINTS = 30
"""How many networks are looked at along the line, the ends included: as many as in the paper."""


@torch.no_grad()
def between(first: Net, second: Net, t: float, x: Tensor | None = None) -> Net:
    """Return the network (1 − t) · first + t · second, in eval mode; the very ends at t = 0 and t = 1.

    x: what batch norms that keep statistics take them from afresh, as one batch; without such norms it is not needed.
    A weight that is masked in both is masked in between. Raises BadInput for networks of different architecture, for
    weights that are neither free nor masked floats, and for norms without x.
    """
    if first.spec != second.spec:
        raise BadInput(
            "networks of different architecture have no line between them; take two trainings of one network"
        )
    out = first.copy().eval()
    for name in first.slot_names():
        out.set_slot(name, _between(name, first.slot(name), second.slot(name), t))
    if keeping(out):
        if x is None:
            raise BadInput("the batch norms between two networks have no statistics; give samples x to take them from")
        recalibrate_(out, x)
    return out


def _between(name: str, a: nn.Module, b: nn.Module, t: float) -> nn.Module:
    if not all(isinstance(slot, Free | Masked | Fixed) for slot in (a, b)) or a().shape != b().shape:
        forms = f"a {type(a).__name__} of {tuple(a().shape)} and a {type(b).__name__} of {tuple(b().shape)}"
        raise BadInput(f"{name}: there is no line between {forms}")
    if not a().is_floating_point():
        return Fixed(a())  # a count of batches, an index: nothing that is trained
    value = torch.lerp(a(), b(), t)
    if isinstance(a, Masked) and isinstance(b, Masked):
        return Masked(value, a.mask | b.mask)
    return Fixed(value) if isinstance(a, Fixed) else Free(value)


def errors_between(
    first: Net, second: Net, error: Callable[[Net], float], x: Tensor | None = None, points: int = POINTS
) -> list[float]:
    """Return the error of `points` networks at equal distances from `first` to `second`, both of them included."""
    if points < 2:
        raise BadInput(f"points={points} is not allowed; at least 2, the ends")
    return [error(between(first, second, at / (points - 1), x)) for at in range(points)]


def barrier(
    first: Net, second: Net, error: Callable[[Net], float], x: Tensor | None = None, points: int = POINTS
) -> float:
    """Return the error barrier: the highest error on the line from `first` to `second` less the mean of the ends'.

    error: of a network in eval mode, less is better (an error or a loss). x: see `between`; norms are recalibrated at
    the ends too, so that the barrier from a network to itself is 0. Two networks are linearly mode connected if it is
    about 0; of two trainings that differ in nothing but their chance it is the instability to SGD noise. Never negative.

    Source: Frankle, Dziugaite, Roy, Carbin 2020 (arxiv:1912.05671), section 2. Differs from the paper: norms are
    recalibrated, where batch norms would else have means of two trainings' statistics.
    """
    found = errors_between(first, second, error, x, points)
    return max(found) - (found[0] + found[-1]) / 2
