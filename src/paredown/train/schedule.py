"""Learning-rate policies as functions of the training's progress."""

import math


def factor(schedule: str, t: float, warmup: float) -> float:
    """Return the multiple of the peak learning rate at progress `t` in 0…1.

    Linear warm-up over the first `warmup` share, then: "constant"; "linear" to 0; "cosine" to 0 (Loshchilov & Hutter
    2017, eq. 5, one cycle). "onecycle" (Smith & Topin 2018) rises from 1/25 over the first 30 % whatever `warmup` says,
    and falls to 0, both along cosines.
    """
    if schedule == "onecycle":
        rise = 0.3
        if t < rise:
            return 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * t / rise)) / 2
        return (1 + math.cos(math.pi * (t - rise) / (1 - rise))) / 2
    if t < warmup:
        return max(t, 1e-3) / warmup
    rest = (t - warmup) / (1 - warmup)
    if schedule == "cosine":
        return (1 + math.cos(math.pi * rest)) / 2
    return 1 - rest if schedule == "linear" else 1.0
