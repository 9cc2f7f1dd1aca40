"""Masks that grow while the network is trained."""

from dataclasses import dataclass, field

import torch

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.kinds import Saliency, Structure
from paredown.core.knob import check_fields, knob
from paredown.core.work import Work
from paredown.graph.masks import SCOPES, below_all, moving
from paredown.graph.net import Net
from paredown.methods.saliency.magnitude import Magnitude
from paredown.methods.structure.granularity import Granularity


def cubic(first: float, last: float, at: float) -> float:
    """Return last + (first − last)(1 − at)³ for progress 0 to 1 of the pruning (Zhu & Gupta 2017, equation 1)."""
    return last + (first - last) * (1 - min(1.0, max(0.0, at))) ** 3


@part("habit.gradual", Card(title="Gradual pruning", paper="arxiv:1710.01878", year=2017, authors="Zhu, Gupta",
                            source="To prune, or not to prune, section 3, equation 1"))  # fmt: skip
@dataclass(frozen=True)
class Gradual:
    """Raise the sparsity along a cubic curve, fast at first, and mask the least salient weights again on the way.

    sparsity: in the end; initial: at progress `begin`; it is reached at progress `end`. every: steps between masks.
    saliency: one that needs no data. structure, scope: as in `prune.weights`. Acts on the weights that `prune.dynamic`
    has made ready. Masked values are put to zero and do not come back.
    """

    sparsity: float = knob(0.8, low=0.0, high=0.999)
    initial: float = knob(0.0, low=0.0, high=0.999, search=False)
    begin: float = knob(0.1, low=0.0, high=0.9, search=False)
    end: float = knob(0.7, low=0.01, high=1.0, search=False)
    every: int = knob(10, low=1, high=100_000, log=True, search=False)
    saliency: Saliency = field(default_factory=Magnitude)
    structure: Structure = field(default_factory=Granularity)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.begin >= self.end:
            raise BadInput(f"begin={self.begin:g} must be before end={self.end:g}")
        if needs := type(self.saliency).card.needs:  # type: ignore[attr-defined]
            name = type(self.saliency).part_name  # type: ignore[attr-defined]
            raise BadInput(f"{name} needs {', '.join(sorted(needs))}; during training only saliencies without data do")

    def start(self, net: Net) -> dict:
        """Return how many steps there have been, and whether the last mask is made."""
        return {"steps": 0, "done": False}

    @torch.no_grad()
    def step(self, net: Net, state: dict, t: float) -> dict:
        """Mask what the curve asks for if it is time, and return the state."""
        steps, done = state["steps"] + 1, state["done"]
        if not done and t >= self.begin and (steps % self.every == 0 or t >= self.end):
            self._mask(net, cubic(self.initial, self.sparsity, (t - self.begin) / (self.end - self.begin)))
            done = t >= self.end
        for slot in moving(net).values():
            slot.value.mul_(slot.mask)
        return {"steps": steps, "done": done}

    def _mask(self, net: Net, sparsity: float) -> None:
        slots = moving(net)
        found = self.saliency.saliencies(net, list(slots), Work())
        ranked = below_all(found, {name: slot.mask for name, slot in slots.items()})
        for name, stays in self.structure.stays(ranked, sparsity, SCOPES[0]).items():
            slots[name].mask.logical_and_(stays)
