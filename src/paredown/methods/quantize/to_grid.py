"""Weights rounded to any grid, without training."""

from dataclasses import dataclass

from paredown.core.catalog import Card, part
from paredown.core.kinds import Grid
from paredown.core.work import Work
from paredown.graph.net import Net
from paredown.graph.slots import Free, Masked
from paredown.graph.storing import storing
from paredown.methods.grid.integer import Integer


@part("quantize.to_grid", Card(title="Post-training rounding to a grid", paper="arxiv:1806.08342", year=2018,
                               authors="Krishnamoorthi",
                               source="Quantizing deep convolutional networks for efficient inference, section 2",
                               changes={"bits"}, forbids={"quantized", "shared"},
                               gives={"quantized", "shared"}))  # fmt: skip
@dataclass(frozen=True)
class ToGrid:
    """Hold the weights of convolutions and linear layers on a grid: integers, small floats, powers of two, MX and others.

    grid: a grid part; it chooses its steps from each weight. Biases and activations stay as they are.
    """

    grid: Grid = Integer()

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` whose weights are on the grid."""
        held = net.copy()
        for slot, _ in storing(held, {"weight": 1}, (Free, Masked), work.skip):
            if isinstance(held.slot(slot), Free | Masked):
                held.set_slot(slot, self.grid.fit(held.slot(slot)().detach()))
        return held
