"""What the curvature of the loss says a weight is worth."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.curves import dense
from paredown.graph.net import Net
from paredown.graph.slopes import filled


def damage(weight: Tensor, curvature: Tensor) -> Tensor:
    """Return ½ h w² (LeCun, Denker & Solla 1990, equation 5)."""
    return 0.5 * curvature * weight.square()


def gauss_newton(net: Net, names: Sequence[str], x: Tensor) -> list[Tensor]:
    """Return the diagonal of Jᵀ (diag p − p pᵀ) J for each weight, the mean over samples: of the cross-entropy, any labels.

    J: of the scores by the weights. diag p − p pᵀ is Σ p_c (e_c − p)(e_c − p)ᵀ, so that each class gives one gradient,
    squared. It is the Hessian's diagonal exactly where the scores are linear in each single weight, as with ReLU.
    """
    held = dense(net)
    at = [held.slot(name).value for name in names]
    total = [torch.zeros_like(value) for value in at]
    for one in x.split(1) if at else ():
        scores = torch.utils._pytree.tree_leaves(held(one))[0]
        p = scores.detach().softmax(1)[0]
        toward = p.sqrt()[:, None] * (torch.eye(len(p)).to(p) - p)
        found = torch.autograd.grad(scores, at, toward[:, None], is_grads_batched=True, allow_unused=True)
        for sum_, g in zip(total, filled(found, [value[None] for value in at]), strict=True):
            sum_ += g.square().sum(0)
    return [value / max(1, len(x)) for value in total]


@part("saliency.obd", Card(title="Optimal Brain Damage", year=1990, authors="LeCun, Denker, Solla",
                           source="LeCun, Denker, Solla, Optimal Brain Damage, NIPS 1990, equations 3 to 5",
                           needs=frozenset({"calib"})))  # fmt: skip
@dataclass(frozen=True)
class Obd:
    """½ h w² with h the Gauss-Newton diagonal of the mean cross-entropy's Hessian; made for trained networks.

    samples: of the calibration split; each costs a gradient for each class. Differs from the paper: the diagonal is exact,
    not propagated back layer by layer; the loss is the cross-entropy.
    """

    samples: int = knob(128, low=1, high=1_000_000, log=True, search=False)

    def saliencies(self, net: Net, names: Sequence[str], work: Work) -> dict[str, Tensor]:
        """Return the expected rise of the loss, in nats, for each weight."""
        curvatures = gauss_newton(net, names, work.use("calib")[0][: self.samples])
        return {name: damage(net.slot(name)().detach(), h) for name, h in zip(names, curvatures, strict=True)}
