"""How wrong a network is, as one number to choose by."""

from collections.abc import Callable

import torch

from paredown.core.metric import METRICS
from paredown.core.work import Work
from paredown.graph.curves import scores
from paredown.graph.net import Net

JUDGES = ("metric", "loss")
"""By the task's metric on validation, or by the cross-entropy on the calibration split, which moves in finer steps."""


def error_by(judge: str, work: Work) -> Callable[[Net], float]:
    """Return a function from a network to its error: less is better.

    "metric": 1 − metric where higher is better, else the metric. "loss": the mean cross-entropy on calibration.
    """
    if judge == "loss":
        x, y = work.use("calib")
        return lambda net: float(torch.nn.functional.cross_entropy(scores(net.eval(), x), y))
    evaluate = work.use("evaluate")

    def error(net: Net) -> float:
        quality = evaluate(net)
        value = float(quality.value)
        return 1 - value if METRICS[quality.metric].higher_is_better else value

    return error
