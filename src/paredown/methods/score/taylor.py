"""Channels by what a first-order expansion of the loss says they are worth."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.groups import Group, filters
from paredown.graph.net import Net
from paredown.graph.slots import Fixed, Free


def first_order(weights: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """Return Σ w · dL/dw of each pair, as a 1-D tensor: the loss that setting those weights to zero takes away."""
    return torch.stack([(w * g).sum() for w, g in zip(weights, gradients, strict=True)])


@part("score.taylor", Card(title="First-order Taylor importance", paper="arxiv:1906.10771", year=2019,
                           authors="Molchanov, Mallya, Tyree, Frosio, Kautz; Molchanov, Tyree, Karras, Aila, Kautz",
                           source="arxiv:1611.06440, section 2.2 (activation); arxiv:1906.10771, equation 8 (weight)",
                           needs=frozenset({"calib"})))  # fmt: skip
@dataclass(frozen=True)
class Taylor:
    """First-order Taylor expansion of the cross-entropy on the calibration split.

    variant: "activation" (2017) is |mean of a · dL/da| over a channel's feature map; "weight" (2019) is (Σ w · dL/dw)²
    over the filters that make it. batch: samples between two absolute values (or squares), which are then averaged.

    Differs from the papers: Σ a · dL/da over positions is taken as Σ w · dL/dw over the weights that read the channel,
    which is the same number, counted once for each reader; it is summed, not averaged, over positions, and the absolute
    value is taken per batch, not per sample (batch=1 is the paper's). Scores are not normalised here and no FLOPs are
    subtracted; `prune.channels` normalises by group for its global scope.
    """

    variant: str = knob("activation", among=("activation", "weight"))
    batch: int = knob(16, low=1, high=65_536, search=False)

    def importance(self, net: Net, group: Group, work: Work) -> Tensor:
        """Return one value per unit of `group`; needs the calibration split."""
        inputs, labels = work.use("calib")
        dense = _dense(net)
        axes = group.readers if self.variant == "activation" else group.makers
        total = torch.zeros(len(group), dtype=torch.float64)
        count = 0
        for x, y in zip(inputs.split(self.batch), labels.split(self.batch), strict=True):
            gradients = _gradients(dense, x, y)
            change = first_order(filters(dense, group, axes), filters(gradients, group, axes)).detach().double().cpu()
            total += len(y) * (change.abs() if self.variant == "activation" else change.square())
            count += len(y)
        return total / max(1, count)


def _dense(net: Net) -> Net:
    """Return a copy in eval mode whose masked or coded tensors are plain ones, so that each has a gradient."""
    out = net.copy().eval()
    for name in out.slot_names():
        if not isinstance(out.slot(name), Free | Fixed):
            out.set_slot(name, Free(out.slot(name)()))
    return out


def _gradients(net: Net, x: Tensor, y: Tensor) -> Net:
    """Return a network whose weights are the gradients of the mean cross-entropy with respect to those of `net`."""
    net.zero_grad(set_to_none=True)
    scores = next(t for t in torch.utils._pytree.tree_leaves(net(x)) if isinstance(t, Tensor))
    torch.nn.functional.cross_entropy(scores, y).backward()
    out = net.copy()
    for held, slot in zip(out.slots.values(), net.slots.values(), strict=True):
        if isinstance(slot, Free):
            held.value.data = torch.zeros_like(slot.value) if slot.value.grad is None else slot.value.grad.clone()
    return out
