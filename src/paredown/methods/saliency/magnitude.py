"""The size of a weight."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.work import Work
from paredown.graph.net import Net


@part("saliency.magnitude", Card(title="Learning both weights and connections", paper="arxiv:1506.02626", year=2015,
                                 authors="Han, Pool, Tran, Dally", source="arxiv:1506.02626, section 3"))  # fmt: skip
@dataclass(frozen=True)
class Magnitude:
    """|w|. A structure sums it over what goes together, or takes another norm of it.

    Differs from the paper: weights are ranked; its threshold is a multiple of the layer's standard deviation.
    """

    def saliencies(self, net: Net, names: Sequence[str], work: Work) -> dict[str, Tensor]:
        """Return |w| for each weight; no data is used."""
        return {name: net.slot(name)().detach().abs() for name in names}
