"""Masks that move to where the gradient is largest."""

import math
from dataclasses import dataclass

import torch

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.graph.masks import moved, moving
from paredown.graph.net import Net


def share(fraction: float, t: float, until: float) -> float:
    """Return α/2 (1 + cos(π t / until)), and 0 from `until` on (Evci et al. 2020, section 3, item 3)."""
    return fraction / 2 * (1 + math.cos(math.pi * t / until)) if t < until else 0.0


@part("habit.rigl", Card(title="RigL: the rigged lottery", paper="arxiv:1911.11134", year=2020,
                         authors="Evci, Gale, Menick, Castro, Elsen", source="Rigging the Lottery, section 3, algorithm 1"))  # fmt: skip
@dataclass(frozen=True)
class RigL:
    """Every so often drop the smallest weights and grow as many where the gradient is largest; the sparsity stays.

    fraction: the share of a layer's weights that moves at first; it falls along a cosine to 0 at progress `until`. every:
    steps between moves. What grows starts at zero. Acts on the weights that `prune.dynamic` has made ready.

    Differs from the paper: the optimiser's moments of a masked weight follow its gradient, so that a grown weight starts
    with those; the sparsity of each layer is what the step says, not Erdős–Rényi-kernel.
    """

    fraction: float = knob(0.3, low=0.0, high=1.0)
    every: int = knob(20, low=1, high=100_000, log=True)
    until: float = knob(0.75, low=0.05, high=1.0, search=False)

    def start(self, net: Net) -> dict:
        """Return how many steps there have been."""
        return {"steps": 0}

    @torch.no_grad()
    def step(self, net: Net, state: dict, t: float) -> dict:
        """Put masked values back to zero, move the masks if it is time, and return the state."""
        steps, now = state["steps"] + 1, share(self.fraction, t, self.until)
        for slot in moving(net).values():
            slot.value.mul_(slot.mask)
            if now and steps % self.every == 0 and slot.value.grad is not None:
                count = math.floor(now * int(slot.mask.sum()))
                slot.mask.copy_(moved(slot.value, slot.mask, slot.value.grad.abs(), count))
                slot.value.mul_(slot.mask)
        return {"steps": steps}
