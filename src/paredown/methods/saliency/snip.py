"""How the loss changes as a connection is switched off."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.curves import loss_at
from paredown.graph.net import Net
from paredown.graph.slopes import slopes


def connection(weights: Sequence[Tensor], slopes: Sequence[Tensor]) -> list[Tensor]:
    """Return |w · g| of every weight as a share of the sum of all (equations 5 and 6): the loss's scale does not matter."""
    found = [(w * g).abs().detach() for w, g in zip(weights, slopes, strict=True)]
    total = sum((value.double().sum() for value in found), torch.zeros((), dtype=torch.float64))
    return [value / float(total) if total > 0 else value for value in found]


@part("saliency.snip", Card(title="SNIP: single-shot pruning by connection sensitivity", paper="arxiv:1810.02340", year=2019,
                            authors="Lee, Ajanthan, Torr", source="SNIP, section 4, equations 5 and 6",
                            needs=frozenset({"calib"})))  # fmt: skip
@dataclass(frozen=True)
class Snip:
    """|w · dL/dw|, the loss's slope with respect to a factor on the weight, at 1, as a share of all. For untrained networks.

    samples: how many calibration samples make the batch. Differs from the paper: norms in eval mode, with the statistics
    they have.
    """

    samples: int = knob(256, low=1, high=1_000_000, log=True, search=False)

    def saliencies(self, net: Net, names: Sequence[str], work: Work) -> dict[str, Tensor]:
        """Return |w · dL/dw| / Σ for each weight, L the mean cross-entropy over the calibration samples."""
        x, y = (part[: self.samples] for part in work.use("calib"))
        at, found = slopes(net, names, lambda held: loss_at(held, x, y, ())[0])
        return dict(zip(names, connection(at, found), strict=True))
