"""Channels by what a second-order expansion at a minimum says they are worth."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.curves import dense
from paredown.graph.groups import Group, filters
from paredown.graph.net import Net
from paredown.graph.slots import Free


def saliency(weights: list[Tensor], curvatures: list[Tensor]) -> Tensor:
    """Return ½ Σ h w² of each pair (LeCun, Denker & Solla 1990, equation 5)."""
    pairs = zip(weights, curvatures, strict=True)
    return torch.stack([0.5 * (h.double() * w.detach().double().square()).sum() for w, h in pairs])


def trace_saliency(weights: list[Tensor], curvatures: list[Tensor]) -> Tensor:
    """Return (mean of h) / 2 · Σ w² of each pair: Tr(H) / 2p · ‖w‖² (Yu et al. 2022, equation 8)."""
    return saliency(weights, [h.double().mean().expand(h.shape) for h in curvatures])


def curvatures(net: Net, x: Tensor, seed: int) -> Net:
    """Return a network whose trainable tensors are the diagonal of the Gauss–Newton matrix of the mean cross-entropy.

    It is estimated as the mean over samples of g², with each sample's label drawn from the network's own scores: for
    the cross-entropy that is the Fisher matrix, and its expectation is the Gauss–Newton matrix.
    """
    held, out = dense(net), dense(net)
    slots = [slot for slot in held.slots.values() if isinstance(slot, Free)]
    totals = [slot for slot in out.slots.values() if isinstance(slot, Free)]
    for total in totals:
        total.value.data = torch.zeros_like(total.value)
    draw = torch.Generator().manual_seed(seed)
    for one in x.split(1):
        scores = torch.utils._pytree.tree_leaves(held(one))[0]
        label = torch.multinomial(scores.detach().softmax(1).cpu(), 1, generator=draw)[:, 0].to(x.device)
        loss = torch.nn.functional.cross_entropy(scores, label)
        gradients = torch.autograd.grad(loss, [slot.value for slot in slots], allow_unused=True)
        for total, g in zip(totals, gradients, strict=True):
            if g is not None:
                total.value.data += g.square() / len(x)
    return out


@part("score.curvature", Card(title="Optimal brain damage on channels", year=1990, paper="arxiv:2101.08940",
                            authors="LeCun, Denker, Solla; channels: Yu, Yao, Gholami, Dong, Kim, Mahoney, Keutzer",
                            source="Optimal Brain Damage, NIPS 1990, equation 5; Hessian-Aware Pruning, equation 8",
                            needs=frozenset({"calib"})))  # fmt: skip
@dataclass(frozen=True)
class Curvature:
    """½ Σ h w² over the weights that make a channel, h the diagonal of the Gauss–Newton matrix on the calibration split.

    form: "diagonal" is optimal brain damage; "trace" takes the mean of h for each weight, as Hessian-aware pruning does.
    samples: how many calibration samples are looked at, one gradient each. Labels are not used.

    Differs from the papers: the Gauss–Newton diagonal from sampled labels, where the first derives the exact one layer by
    layer and the second estimates Hessian traces with random vectors.
    """

    form: str = knob("diagonal", among=("diagonal", "trace"), search=False)
    samples: int = knob(256, low=1, high=1_000_000, log=True, search=False)

    def importance(self, net: Net, group: Group, work: Work) -> Tensor:
        """Return one value, in nats, per unit of `group`; needs the calibration split."""
        return self.importances(net, [group], work)[0]

    def importances(self, net: Net, groups: Sequence[Group], work: Work) -> list[Tensor]:
        """Return one value, in nats, per unit of each group, from the same gradients."""
        bent = curvatures(net, work.use("calib")[0][: self.samples], work.seed)
        of = saliency if self.form == "diagonal" else trace_saliency
        return [of(filters(net, group), [h.detach() for h in filters(bent, group)]).cpu() for group in groups]
