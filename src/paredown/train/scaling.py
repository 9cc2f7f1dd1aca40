"""Loss scaling: small gradients survive 16-bit floats (Micikevicius et al. 2018, section 3.2)."""

import torch
from torch import Tensor

FIRST_SCALE = 2.0**15
PATIENCE = 2000
"""Steps without an overflow before the scale is doubled."""

_LEAST, _MOST = 1.0, 2.0**24


def next_scale(scale: float, good: int, finite: bool, patience: int = PATIENCE) -> tuple[float, int]:
    """Return (scale, steps without overflow) after a step whose gradients were all finite, or were not.

    The scale is halved at an overflow, which also skips the step, and doubled after `patience` good steps in a row.
    Differs from the paper: it stays from 1 to 2^24.
    """
    if not finite:
        return max(scale / 2, _LEAST), 0
    if good + 1 >= patience:
        return min(scale * 2, _MOST), 0
    return scale, good + 1


@torch.no_grad()
def unscale_(gradients: list[Tensor], scale: float) -> bool:
    """Divide the gradients by `scale`, in place, and return whether every one is finite."""
    if not gradients:
        return True
    overflow = torch.zeros(1, device=gradients[0].device)
    inverse = torch.full((1,), 1 / scale, device=gradients[0].device)
    torch._amp_foreach_non_finite_check_and_unscale_(gradients, overflow, inverse)
    return not bool(overflow)
