"""Latent weights stay where their sign can still change."""

from dataclasses import dataclass

import torch

from paredown.core.catalog import Card, part
from paredown.graph.latent import Latent
from paredown.graph.net import Net


@part("habit.clip_latents", Card(title="Clipping of the real weights behind binary ones", paper="arxiv:1511.00363", year=2015,
                                 authors="Courbariaux, Bengio, David",
                                 source="BinaryConnect, section 2.4: weights beyond ±1 have no influence"))  # fmt: skip
@dataclass(frozen=True)
class ClipLatents:
    """Put the values behind coarse weights back to within ±limit after each step, for each slot that has a limit."""

    def start(self, net: Net) -> dict:
        """Return an empty state."""
        return {}

    @torch.no_grad()
    def step(self, net: Net, state: dict, t: float) -> dict:
        """Clip the values and return the state unchanged."""
        for slot in net.slots.values():
            if isinstance(slot, Latent):
                slot.value.clamp_(-slot.limit, slot.limit)
        return state
