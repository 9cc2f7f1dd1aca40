"""Cross-layer equalization: the same function, with channels of the same range."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.net import Net
from paredown.graph.pairs import Pair, by_inputs, pairs


def equalizing(made: Tensor, read: Tensor) -> Tensor:
    """Return s = √(r₁ r₂) / r₂ of each channel (Nagel et al. 2019, section 4.1); 1 where a range is zero.

    made, read: max |w| of the weights that make a channel and of those that read it. W₁ / s and W₂ · s both have √(r₁ r₂).
    """
    both = (made > 0) & (read > 0)
    return torch.where(both, (made / read.where(both, torch.ones_like(read))).sqrt(), torch.ones_like(made))


def ranges(net: Net, pair: Pair) -> tuple[Tensor, Tensor]:
    """Return max |w| of each channel in the weight that makes it and in the one that reads it."""
    made, read = (net.slot(name)().detach() for name in pair.weights())
    return made.abs().flatten(1).amax(1), by_inputs(read, pair).abs().amax((1, 3)).flatten()


@torch.no_grad()
def equalize_(net: Net, pair: Pair) -> float:
    """Equalize one pair in place; return the largest |log s|."""
    scale = equalizing(*ranges(net, pair))
    maker, reader = (net.slot(name).value for name in pair.weights())
    maker.div_(scale.view(-1, *[1] * (maker.dim() - 1)))
    if pair.maker.slot("bias") is not None:
        net.slot(str(pair.maker.slot("bias"))).value.div_(scale)
    by_inputs(reader, pair).mul_(scale.view(pair.groups, 1, -1, 1))
    return float(scale.log().abs().max())


@part("edit.equalize", Card(title="Cross-layer equalization", paper="arxiv:1906.04721", year=2019,
                            authors="Nagel, van Baalen, Blankevoort, Welling",
                            source="Data-Free Quantization Through Weight Equalization and Bias Correction, section 4.1",
                            forbids={"quantized", "shared"}))  # fmt: skip
@dataclass(frozen=True)
class Equalize:
    """Rescale each channel between two layers so that both weights have the same range for it. The function stays the same.

    Pairs are layers with only ReLU, pooling or reshaping between; fold batch norms first. rounds: passes over the pairs;
    it ends before when no scale is further from 1 than 10⁻⁷. Differs from the paper: ReLU6 is not replaced by ReLU.
    """

    rounds: int = knob(50, low=1, high=10_000, search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return an equalized copy of `net`; weights that are in no pair are noted."""
        out = net.copy()
        found, why = pairs(out)
        touched = {name for pair in found for name in pair.weights()}
        for name, reason in why.items():
            if name not in touched:
                work.skip(name, reason)
        for _ in range(self.rounds):
            if max((equalize_(out, pair) for pair in found), default=0.0) < 1e-7:
                break
        return out
