"""How the loss changes as a connection is switched off."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.curves import loss_at
from paredown.graph.net import Net
from paredown.graph.slopes import slopes


@part("saliency.snip", Card(title="SNIP: single-shot pruning by connection sensitivity", paper="arxiv:1810.02340", year=2019,
                            authors="Lee, Ajanthan, Torr", source="SNIP, section 4, equations 5 and 6",
                            needs=frozenset({"calib"})))  # fmt: skip
@dataclass(frozen=True)
class Snip:
    """|w · dL/dw|: the loss's slope with respect to a factor on the weight, at 1. Made for untrained networks.

    samples: how many calibration samples make the batch. Differs from the paper: not divided by the sum of all, which
    changes no order; norms in eval mode, with the statistics they have.
    """

    samples: int = knob(256, low=1, high=1_000_000, log=True, search=False)

    def saliencies(self, net: Net, names: Sequence[str], work: Work) -> dict[str, Tensor]:
        """Return |w · dL/dw| for each weight, L the mean cross-entropy over the calibration samples."""
        x, y = (part[: self.samples] for part in work.use("calib"))
        at, found = slopes(net, names, lambda held: loss_at(held, x, y, ())[0])
        return {name: (w * g).abs().detach() for name, w, g in zip(names, at, found, strict=True)}
