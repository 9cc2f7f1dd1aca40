"""N of M weights, chosen again after every step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.knob import check_fields, knob
from paredown.graph.masks import moving
from paredown.graph.net import Net
from paredown.methods.structure.n_m import NM


@part("habit.sr_ste", Card(title="SR-STE: sparse-refined straight-through estimator", paper="arxiv:2102.04010", year=2021,
                           authors="Zhou, Ma, Zhu, Liu, Zhang, Yuan, Sun, Li",
                           source="Learning N:M fine-grained structured sparse neural networks from scratch, section 3.3, equation 9"))  # fmt: skip
@dataclass(frozen=True)
class SrSte:
    """Choose the N largest of every M weights after each step; the others keep learning, and are pulled to zero.

    n, m: 2 of 4 by default. strength: λ of what is added to the gradient of what the mask holds at zero, λ (1 − M) ⊙ W.
    The network computes with masked weights and the gradient reaches all (straight through). Acts on the weights that
    `prune.dynamic` has made ready. Differs from the paper: AdamW, not SGD, divides the added gradient by its size as well.
    """

    n: int = knob(2, low=1, high=256)
    m: int = knob(4, low=2, high=256)
    strength: float = knob(2e-4, low=0.0, high=1.0)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.n >= self.m:
            raise BadInput(f"n={self.n} of m={self.m} leaves nothing to go; allowed: n from 1 to {self.m - 1}")

    def start(self, net: Net) -> dict:
        """Return an empty state."""
        return {}

    def penalty(self, net: Net, state: dict) -> Tensor:
        """Return ½ λ Σ ((1 − M) ⊙ W)², whose gradient is the paper's."""
        parts = [(slot.value * ~slot.mask).square().sum() for slot in moving(net).values()]
        return 0.5 * self.strength * sum(parts, torch.zeros(()))

    @torch.no_grad()
    def step(self, net: Net, state: dict, t: float) -> dict:
        """Choose the masks and return the state."""
        slots = moving(net)
        sizes = {name: slot.value.abs() for name, slot in slots.items()}
        for name, stays in NM(self.n, self.m).stays(sizes, 1 - self.n / self.m, "layer").items():
            slots[name].mask.copy_(stays)
        return state
