"""Shared values during training: zeros stay zero, and tables end in half precision where that is asked for."""

from dataclasses import dataclass

import torch

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.graph.net import Net
from paredown.graph.slots import Codebook
from paredown.graph.vectors import VectorCodebook


@part("habit.centroids", Card(title="Pruned weights stay pruned while shared values are trained",
                              paper="arxiv:1510.00149", year=2016, authors="Han, Mao, Dally",
                              source="Deep Compression, section 3.3: only surviving weights share"))  # fmt: skip
@dataclass(frozen=True)
class Centroids:
    """Put the shared values that were exactly zero at the start back to zero after each step.

    The gradient of every other value is the sum over the weights that share it (Deep Compression, equation 3), as
    `Codebook` has it by itself. half: at the end round all tables, those of vectors too, to half precision; the packed file
    then stores them in 16 bits, as "And the bit goes down" does (arxiv:1907.05686, section 4.1).
    """

    half: bool = knob(False, among=(False, True), search=False)

    def start(self, net: Net) -> dict:
        """Return {slot name: True for each shared value that is zero}."""
        books = {name: net.slot(name) for name in net.slot_names() if isinstance(net.slot(name), Codebook)}
        return {name: book.centroids.detach() == 0 for name, book in books.items()}

    @torch.no_grad()
    def step(self, net: Net, state: dict, t: float) -> dict:
        """Set those values to zero and return the state unchanged."""
        for name, zero in state.items():
            net.slot(name).centroids.masked_fill_(zero, 0.0)
        return state

    @torch.no_grad()
    def finish(self, net: Net, state: dict) -> None:
        """Round the tables to half precision if that is asked for."""
        for name in net.slot_names() if self.half else ():
            if isinstance(net.slot(name), Codebook | VectorCodebook):
                centroids = net.slot(name).centroids
                centroids.copy_(centroids.half())
