"""Work for steps that train and judge candidates: a network's own labels on random samples, or the digits."""

from typing import Any

import torch

from contracts.pooled_digits import pictures, pooled
from contracts.step import StepContract
from contracts.trained_step import samples, trainer
from paredown.core.metric import METRICS, quality
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.net import Net
from paredown.graph.slots import Free
from paredown.train.data import Data
from paredown.train.evaluate import evaluate
from paredown.train.fit import fit


class JudgedStepContract(StepContract):
    """Inherit for a step that needs `fit` and `evaluate`: labels that mean nothing, for whatever network comes."""

    def work(self, seed: int = 0) -> Work:
        def train(net: Net, loss: Any, habits: Any, plan: Plan) -> Any:
            return fit(net, samples(net), loss, habits, plan, seed)

        def rate(net: Net) -> Any:
            x, y = samples(net).x, samples(net).y
            return quality(METRICS["accuracy"], "val", net.eval()(x).detach().numpy(), y.numpy())

        return Work({**super().work(seed).services, "fit": train, "evaluate": rate}, seed)


def on_digits(seed: int, seen: list[Net] | None = None) -> Work:
    """Return services on the pooled digits; the last 300 of the training samples are for validation."""
    train = pictures(seed)[0]
    fitted, val = Data(train.x[:-300], train.y[:-300]), Data(train.x[-300:], train.y[-300:])
    calib = (fitted.x[:128], fitted.y[:128])
    rate = lambda net: evaluate(net, val, METRICS["accuracy"], "val")  # noqa: E731
    return Work({"calib": calib, "fit": trainer(fitted, seed, seen), "evaluate": rate}, seed)


def labelled(net: Net, count: int = 64) -> Work:
    """Return random samples with the labels that `net` gives them: its accuracy is 1."""
    x = samples(net, count).x
    with torch.no_grad():
        y = net.eval()(x).argmax(1)

    def rate(other: Net) -> Any:
        return quality(METRICS["accuracy"], "val", other.eval()(x).detach().numpy(), y.numpy())

    return Work({"calib": (x, y), "evaluate": rate, "fit": trainer(Data(x, y))})


def widened(seed: int, layer: int = 1, dead: bool = False) -> Net:
    """Return the pooled digits network with one layer's channels three times over; it computes the same.

    The copies are a tenth and a twentieth as large. What reads them takes a third from each, or, if `dead`, all from the
    first.
    """
    net = pooled(seed).copy()
    names = [name for name, _ in net.weighted()]
    made, reads = names[layer], names[layer + 1]
    bias, scales = made.replace("weight", "bias"), (1.0, 0.1, 0.05)
    parts = (1.0, 0.0, 0.0) if dead else tuple(1 / (3 * s) for s in scales)
    for name in (made, bias):
        net.set_slot(name, Free(torch.cat([s * net.slot(name)().detach() for s in scales])))
    net.set_slot(reads, Free(torch.cat([p * net.slot(reads)().detach() for p in parts], 1)))
    return net.eval()
