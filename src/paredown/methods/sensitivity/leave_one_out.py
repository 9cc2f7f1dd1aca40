"""What the loss rises by when one place alone is rounded."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.curves import scores
from paredown.graph.widths import Trials


def rises(trials: Trials, x: Tensor, y: Tensor) -> list[list[float]]:
    """Return the rise of the mean cross-entropy over (x, y) at each width of each place; it can be below zero."""
    loss = torch.nn.functional.cross_entropy
    before = float(loss(scores(trials.net.eval(), x), y))
    return [
        [float(loss(scores(trials.net_with(place, bits), x), y)) - before for bits in widths]
        for place, widths in zip(trials.places, trials.widths, strict=True)
    ]


@part("sensitivity.leave_one_out", Card(title="Leave-one-out quantization error", paper="arxiv:1608.08710", year=2017,
                                        authors="Li, Kadav, Durdanovic, Samet, Graf",
                                        source="Pruning Filters for Efficient ConvNets, section 3.2 (sensitivity of one layer at a time); "
                                               "for widths: Wu 2020, arxiv:2004.09602, section 5.2",
                                        needs=frozenset({"calib"})))  # fmt: skip
@dataclass(frozen=True)
class LeaveOneOut:
    """The rise of the calibration loss when only this layer, channel or value is rounded; one pass for each width.

    samples: how many calibration samples are looked at. Differs from the papers: cross-entropy in place of accuracy,
    which moves by whole samples.
    """

    samples: int = knob(1024, low=1, high=1_000_000, log=True, search=False)

    def harms(self, trials: Trials, work: Work) -> list[list[float]]:
        """Return the rise at each width of each place, in nats."""
        x, y = (part[: self.samples] for part in work.use("calib"))
        return rises(trials, x, y)
