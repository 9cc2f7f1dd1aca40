"""What the gradients of single samples say about rounding errors."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.curves import dense, loss_at
from paredown.graph.net import Net
from paredown.graph.widths import Place, Trials


def joint_error(gradients: Tensor, errors: Tensor) -> Tensor:
    """Return ½ Δᵀ F Δ with F the mean of g gᵀ: half the mean of (g · Δ)², for every error.

    gradients: [samples, values]. errors: [errors, values]. Returns [errors].
    """
    return 0.5 * (errors.double() @ gradients.double().T).square().mean(1)


def sample_gradients(net: Net, names: list[str], x: Tensor, y: Tensor) -> Iterator[list[Tensor]]:
    """Yield for each sample the gradient of its cross-entropy with respect to each of these slots."""
    held = dense(net)
    at = [held.slot(name).value for name in names]
    for one, label in zip(x.split(1), y.split(1), strict=True):
        found = torch.autograd.grad(loss_at(held, one, label, ())[0], at, allow_unused=True)
        yield [torch.zeros_like(value) if g is None else g for value, g in zip(at, found, strict=True)]


def stored_harms(trials: Trials, x: Tensor, y: Tensor, form: str) -> dict[Place, list[float]]:
    """Return {stored place: harm at each width}, the mean over the samples of ½ (g · Δ)², or of ½ Σ g² Δ²."""
    widths = {p: w for p, w in zip(trials.places, trials.widths, strict=True) if not p.flows}
    errors = {p: torch.stack([trials.error(p, bits).flatten() for bits in w]) for p, w in widths.items()}
    names = list(dict.fromkeys(place.name for place in widths))
    total = {place: torch.zeros(len(w), dtype=torch.float64) for place, w in widths.items()}
    for gradients in sample_gradients(trials.net, names, x, y):
        known = dict(zip(names, gradients, strict=True))
        for place, error in errors.items():
            whole = known[place.name]
            own = (whole if place.channel is None else whole[place.channel]).flatten()
            if form == "joint":
                total[place] += joint_error(own[None], error).cpu()
            else:
                total[place] += 0.5 * (error.double().square() @ own.double().square()).cpu()
    return {place: (value / len(y)).tolist() for place, value in total.items()}


def flow_harms(trials: Trials, x: Tensor, y: Tensor, form: str) -> dict[Place, list[float]]:
    """Return {value that flows: harm at each width}, as `stored_harms` with each sample's own Δ."""
    widths = {p: w for p, w in zip(trials.places, trials.widths, strict=True) if p.flows}
    if not widths:
        return {}
    loss, added, seen = loss_at(dense(trials.net), x, y, [place.name for place in widths])
    gradients = torch.autograd.grad(len(y) * loss, added)  # of each sample's own loss: samples do not mix in eval mode
    found = {}
    for place, gradient, value in zip(widths, gradients, seen, strict=True):
        nodes = [trials.node(place, bits).args for bits in widths[place]]
        levels = [[args[k] for k in ("scale", "zero_point", "quant_min", "quant_max")] for args in nodes]
        moved = [
            (gradient * (torch.fake_quantize_per_tensor_affine(value, *level) - value)).flatten(1) for level in levels
        ]
        squares = [m.double().sum(1).square() if form == "joint" else m.double().square().sum(1) for m in moved]
        found[place] = [0.5 * float(square.mean()) for square in squares]
    return found


@part("sensitivity.fisher", Card(title="Fisher-weighted quantization error", paper="arxiv:2102.05426", year=2021,
                                 authors="Li, Gong, Tan, Yang, Hu, Zhang, Yu, Wang, Gu; second-order expansion: LeCun, Denker, Solla 1990",
                                 source="BRECQ, section 3.3 (Fisher information in the Hessian's place); Optimal Brain Damage, equation 3",
                                 needs=frozenset({"calib"})))  # fmt: skip
@dataclass(frozen=True)
class Fisher:
    """½ Δᵀ F Δ with F the empirical Fisher matrix of a place's values on the calibration samples, and Δ what rounding changes.

    form: "joint" takes the place's whole block of F, the mean of ½ (g · Δ)², at no more cost; "diagonal" only Σ g² Δ²,
    which misses that the errors of a removed channel all pull one way. One gradient for each sample serves all places
    and widths. samples: how many calibration samples are looked at.

    Differs from the papers: used to choose widths, and on weights, not only on a block's outputs.
    """

    form: str = knob("joint", among=("joint", "diagonal"), search=False)
    samples: int = knob(256, low=1, high=1_000_000, log=True, search=False)

    def harms(self, trials: Trials, work: Work) -> list[list[float]]:
        """Return the harm at each width of each place, in nats."""
        x, y = (part[: self.samples] for part in work.use("calib"))
        known = stored_harms(trials, x, y, self.form) | flow_harms(trials, x, y, self.form)
        return [known[place] for place in trials.places]
