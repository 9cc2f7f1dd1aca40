"""Masks that move by chance."""

import math
from dataclasses import dataclass

import torch

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.graph.masks import moved, moving
from paredown.graph.net import Net


@part("habit.set", Card(title="SET: sparse evolutionary training", paper="arxiv:1707.04780", year=2018,
                        authors="Mocanu, Mocanu, Stone, Nguyen, Gibescu, Liotta",
                        source="Scalable Training of Artificial Neural Networks with Adaptive Sparse Connectivity, algorithm 1"))  # fmt: skip
@dataclass(frozen=True)
class Evolve:
    """Every so often drop the weights closest to zero and grow as many at random places; the sparsity stays.

    fraction: ζ, the share of a layer's weights that moves. every: steps between moves. until: the progress after which masks
    rest. seed: of the places. Acts on the weights that `prune.dynamic` has made ready.

    Differs from the paper: moves every so many steps, not epochs; the smallest |w| go, not as many of either sign; what
    grows starts at zero.
    """

    fraction: float = knob(0.3, low=0.0, high=1.0)
    every: int = knob(20, low=1, high=100_000, log=True)
    until: float = knob(0.75, low=0.05, high=1.0, search=False)
    seed: int = knob(0, low=0, high=2**31 - 1, search=False)

    def start(self, net: Net) -> dict:
        """Return how many steps there have been."""
        return {"steps": 0}

    @torch.no_grad()
    def step(self, net: Net, state: dict, t: float) -> dict:
        """Put masked values back to zero, move the masks if it is time, and return the state."""
        steps = state["steps"] + 1
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + steps)
        for slot in moving(net).values():
            slot.value.mul_(slot.mask)
            if t < self.until and steps % self.every == 0:
                growth = torch.rand(slot.mask.shape, generator=draw).to(slot.value.device)
                count = math.floor(self.fraction * int(slot.mask.sum()))
                slot.mask.copy_(moved(slot.value, slot.mask, growth, count))
                slot.value.mul_(slot.mask)
        return {"steps": steps}
