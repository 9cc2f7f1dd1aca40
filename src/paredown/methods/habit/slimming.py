"""Scales of norms are pulled to zero during training."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.graph.features import scales
from paredown.graph.net import Net
from paredown.graph.slots import Free


def gammas(net: Net) -> dict[str, Tensor]:
    """Return {slot: γ} of the trainable scales of the network's norms."""
    return {name: net.slot(name).value for name in scales(net) if isinstance(net.slot(name), Free)}


@part("habit.slimming", Card(title="Network Slimming's sparsity", paper="arxiv:1708.06519", year=2017,
                             authors="Liu, Li, Shen, Huang, Yan, Zhang",
                             source="Learning Efficient Convolutional Networks through Network Slimming, equation 1"))  # fmt: skip
@dataclass(frozen=True)
class Slimming:
    """Add λ Σ|γ| over the scales of all norms to the loss, and stop a scale that would pass zero at zero.

    strength: λ; the paper has 1e-4 (VGG) and 1e-5 for 160 epochs of SGD. The subgradient λ sign(γ), 0 at 0, goes through the
    optimiser with the loss's own, so the learning rate scales both alike. A scale whose sign the optimiser's step
    turned is put to exactly zero afterwards: the subgradient alone would swing around it. It can leave zero again by
    the loss's gradient.

    Differs from the paper: the stop at zero; and the house's optimiser is AdamW, which divides a gradient by its running
    size, so that λ counts beside the gradients that a scale gets, and short trainings want a larger one
    (0.03 over 250 steps on the digits).
    """

    strength: float = knob(1e-2, low=1e-6, high=1.0, log=True)

    def start(self, net: Net) -> dict:
        """Return {slot: sign of each scale}."""
        return {name: value.detach().sign() for name, value in gammas(net).items()}

    def penalty(self, net: Net, state: dict) -> Tensor:
        """Return λ Σ|γ|; zero for a network without norms."""
        sizes = [value.abs().sum() for value in gammas(net).values()]
        return self.strength * torch.stack(sizes).sum() if sizes else torch.zeros(())

    @torch.no_grad()
    def step(self, net: Net, state: dict, t: float) -> dict:
        """Put the scales that passed zero to zero; return the signs that they have now."""
        for name, value in gammas(net).items():
            value.masked_fill_(value.sign() * state[name] < 0, 0.0)
        return {name: value.detach().sign() for name, value in gammas(net).items()}
