"""What a Taylor expansion of the loss says a weight is worth."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.curves import loss_at
from paredown.graph.net import Net
from paredown.graph.slopes import bent, slopes


def expanded(weight: Tensor, slope: Tensor, product: Tensor | None = None) -> Tensor:
    """Return g w − ½ w (H w), the loss that a weight takes away with it; without H w, only its first term."""
    first = slope * weight
    return first if product is None else first - 0.5 * weight * product


@part("saliency.expansion", Card(title="Taylor importance of single weights", paper="arxiv:1906.10771", year=2019,
                                 authors="Molchanov, Mallya, Tyree, Frosio, Kautz",
                                 source="Importance Estimation for Neural Network Pruning, section 3.1, equations 7 and 8",
                                 needs=frozenset({"calib"})))  # fmt: skip
@dataclass(frozen=True)
class Expansion:
    """(g w)² or, of second order, (g w − ½ w (H w))², the mean over batches of the calibration split.

    order: 1 or 2. batch: samples between two squares; samples: how many in all. H: the loss's Hessian over all weights
    that are judged, so that (H w) is the row of a weight times all of them, as the paper has it.
    """

    order: int = knob(1, among=(1, 2))
    batch: int = knob(32, low=1, high=65_536, search=False)
    samples: int = knob(256, low=1, high=1_000_000, log=True, search=False)

    def saliencies(self, net: Net, names: Sequence[str], work: Work) -> dict[str, Tensor]:
        """Return the squared change of the loss for each weight."""
        x, y = (part[: self.samples] for part in work.use("calib"))
        total = {name: torch.zeros_like(net.slot(name)().detach()) for name in names}
        for some, labels in zip(x.split(self.batch), y.split(self.batch), strict=True):
            for name, change in zip(names, self._changes(net, names, some, labels), strict=True):
                total[name] += len(labels) * change.detach().square()
        return {name: value / max(1, len(y)) for name, value in total.items()}

    def _changes(self, net: Net, names: Sequence[str], x: Tensor, y: Tensor) -> list[Tensor]:
        at, found = slopes(net, names, lambda held: loss_at(held, x, y, ())[0], bend=self.order == 2)
        products = bent(found, at, at) if self.order == 2 else [None] * len(at)
        return [expanded(w, g, product) for w, g, product in zip(at, found, products, strict=True)]
