"""The size of a weight, in standard deviations of its layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.work import Work
from paredown.graph.masks import mask_of
from paredown.graph.net import Net


def in_deviations(weight: Tensor, stays: Tensor) -> Tensor:
    """Return |w| / σ, σ the standard deviation of the weights that stay; |w| where they do not vary."""
    size = weight[stays].std(correction=0) if stays.any() else torch.zeros(())
    return weight.abs() / size if size > 0 else weight.abs()


@part("saliency.deviations", Card(title="Thresholds by a layer's standard deviation", paper="arxiv:1506.02626", year=2015,
                                  authors="Han, Pool, Tran, Dally",
                                  source="Learning both Weights and Connections for Efficient Neural Networks, section 4"))  # fmt: skip
@dataclass(frozen=True)
class Deviations:
    """|w| / σ of its layer: with scope="global", every layer loses its weights below q · σ, q one number for all.

    Layers whose weights have heavy tails lose more of them; scaling a layer changes nothing. Differs from the paper: q is
    the one that meets the sparsity, not a given one; masked weights do not count in σ.
    """

    def saliencies(self, net: Net, names: Sequence[str], work: Work) -> dict[str, Tensor]:
        """Return |w| / σ for each weight; no data is used."""
        return {name: in_deviations(net.slot(name)().detach(), mask_of(net, name)) for name in names}
