"""The Hessian's mean eigenvalue times what rounding changes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.curves import averaged, curvature, dense, loss_at
from paredown.graph.widths import Place, Trials


def mean_traces(trials: Trials, x: Tensor, y: Tensor, probes: int, draw: torch.Generator) -> list[float]:
    """Return Tr(H) / n of the mean cross-entropy over (x, y) for each place: H is that place's block, n its values.

    Of a value that flows, the trace is the mean over the samples of what each sample's own loss says.
    """
    net = dense(trials.net)
    flowing = [place.name for place in trials.places if place.flows]
    stored = list(dict.fromkeys(place.name for place in trials.places if not place.flows))
    loss, added, _ = loss_at(net, x, y, flowing)
    found = curvature(loss, [*(net.slot(name).value for name in stored), *added], probes, draw)
    bends = dict(zip([*stored, *flowing], found, strict=True))

    def mean(place: Place) -> float:
        bend = bends[place.name]
        if place.flows:
            return float(bend.sum()) / (bend.numel() / len(y))
        return float((bend if place.channel is None else bend[place.channel]).mean())

    return [mean(place) for place in trials.places]


def squared_error(trials: Trials, place: Place, bits: int, seen: Tensor | None = None) -> float:
    """Return ‖Q(w) − w‖² of a place; of a value that flows, the mean over the samples in `seen`."""
    if not place.flows:
        return float(trials.error(place, bits).double().square().sum())
    assert seen is not None
    args = trials.node(place, bits).args
    levels = (args["scale"], args["zero_point"], args["quant_min"], args["quant_max"])
    return float((torch.fake_quantize_per_tensor_affine(seen, *levels) - seen).double().square().sum()) / len(seen)


@part("sensitivity.hessian", Card(title="HAWQ-V2: Hessian trace weighted quantization", paper="arxiv:1911.03852", year=2020,
                                  authors="Dong, Yao, Cai, Arfeen, Gholami, Mahoney, Keutzer",
                                  source="HAWQ-V2, sections 3.1-3.3: Ω = Σ mean Tr(H) ‖Q(W) − W‖², traces by Hutchinson's estimator",
                                  needs=frozenset({"calib"})))  # fmt: skip
@dataclass(frozen=True)
class HessianTrace:
    """Half the mean eigenvalue of the loss's Hessian times the squared rounding error, for each place.

    probes: Rademacher vectors. samples: how many calibration samples are looked at; batch: at a time.

    Differs from the paper: half of its Ω, so that it is the second-order rise of the loss in nats; traces below zero,
    which there are away from a minimum, count as zero; traces of a channel's own weights, and of values that flow.
    """

    probes: int = knob(16, low=1, high=10_000, log=True, search=False)
    samples: int = knob(256, low=1, high=1_000_000, log=True, search=False)
    batch: int = knob(256, low=1, high=65_536, search=False)

    def harms(self, trials: Trials, work: Work) -> list[list[float]]:
        """Return the harm at each width of each place, in nats."""
        x, y = (part[: self.samples] for part in work.use("calib"))
        draw = torch.Generator().manual_seed(work.seed)
        batches = list(zip(x.split(self.batch), y.split(self.batch), strict=True))
        traces = averaged(batches, lambda a, b: mean_traces(trials, a, b, self.probes, draw))
        flowing = [place.name for place in trials.places if place.flows]
        seen = dict(zip(flowing, loss_at(trials.net.eval(), x, y, flowing)[2], strict=True)) if flowing else {}
        return [
            [0.5 * max(0.0, trace) * squared_error(trials, place, bits, seen.get(place.name)) for bits in widths]
            for trace, place, widths in zip(traces, trials.places, trials.widths, strict=True)
        ]
