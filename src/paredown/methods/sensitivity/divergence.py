"""How far a network's answers move when one place alone is rounded. Labels are not needed."""

from dataclasses import dataclass

from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.curves import scores
from paredown.graph.widths import Trials


def divergences(trials: Trials, x: Tensor) -> list[list[float]]:
    """Return Ω_i(k) = mean KL(M(x) ‖ M with place i alone at k bits) (Cai et al. 2020, equation 3), in nats.

    x: calibration samples, or distilled ones (`quantize.zeroq.distil`).
    """

    def log_answers(net: nn.Module) -> Tensor:
        return scores(net, x).log_softmax(1)

    wanted = log_answers(trials.net.eval())

    def divergence(given: Tensor) -> float:
        return float((wanted.exp() * (wanted - given)).sum(1).mean())

    return [
        [divergence(log_answers(trials.net_with(place, bits))) for bits in widths]
        for place, widths in zip(trials.places, trials.widths, strict=True)
    ]


@part("sensitivity.divergence", Card(title="KL sensitivity (ZeroQ)", paper="arxiv:2001.00281", year=2020,
                                     authors="Cai, Yao, Dong, Gholami, Mahoney, Keutzer",
                                     source="ZeroQ: A Novel Zero Shot Quantization Framework, section 3.2, equation 3",
                                     needs=frozenset({"calib"})))  # fmt: skip
@dataclass(frozen=True)
class Divergence:
    """Mean KL divergence between the network's answers and those with one place rounded; one pass for each width.

    samples: how many calibration samples are looked at.
    """

    samples: int = knob(1024, low=1, high=1_000_000, log=True, search=False)

    def harms(self, trials: Trials, work: Work) -> list[list[float]]:
        """Return the divergence at each width of each place, in nats."""
        return divergences(trials, work.use("calib")[0][: self.samples])
