"""Attention over the places of a kernel grows sharper with every step."""

from dataclasses import dataclass

import torch

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.knob import check_fields, knob
from paredown.graph.attended import attended
from paredown.graph.net import Net


@part("habit.sharpen", Card(title="The rising sharpness of Shift Attention Layers", paper="arxiv:1905.12300", year=2019,
                            authors="Hacene, Lassance, Gripon, Courbariaux, Bengio",
                            source="Attention Based Pruning for Shift Networks, section 3, algorithm 1"))  # fmt: skip
@dataclass(frozen=True)
class Sharpen:
    """Multiply the sharpness T of every attended weight by the same after each step: T = initial · (last / initial)^(t / end).

    initial, last: T before the first step and from progress `end` on, so that 1 / T is the paper's temperature, 6.7 falling to
    0.02. T never falls, whatever t says. Acts on the weights that `factorize.shift_attention` has made ready.

    Differs from the paper, which sharpens until the last step: after `end` the weights that stay are trained alone.
    """

    initial: float = knob(0.15, low=1e-3, high=1e3, log=True, search=False)
    last: float = knob(50.0, low=1e-3, high=1e6, log=True, search=False)
    end: float = knob(0.6, low=0.01, high=1.0, search=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.initial > self.last:
            raise BadInput(f"initial={self.initial:g} must be at most last={self.last:g}: the sharpness rises")

    def start(self, net: Net) -> dict:
        """Set the sharpness that training begins with; return it."""
        return self._set(net, self.initial)

    def step(self, net: Net, state: dict, t: float) -> dict:
        """Raise the sharpness to what progress `t` asks for; return it."""
        wanted = self.initial * (self.last / self.initial) ** min(1.0, t / self.end)
        return self._set(net, max(state["sharpness"], wanted))

    @torch.no_grad()
    def _set(self, net: Net, sharpness: float) -> dict:
        for slot in attended(net).values():
            slot.sharpness.fill_(sharpness)
        return {"sharpness": sharpness}
