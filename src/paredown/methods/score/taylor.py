"""Channels by what an expansion of the loss says they are worth."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.curves import dense
from paredown.graph.groups import Group, filters
from paredown.graph.net import Net
from paredown.graph.slots import Free


def first_order(weights: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """Return Σ w · dL/dw of each pair, as a 1-D tensor: the loss that setting those weights to zero takes away."""
    return torch.stack([(w * g).sum() for w, g in zip(weights, gradients, strict=True)])


def second_order(net: Net, groups: Sequence[Group], x: Tensor, y: Tensor) -> list[Tensor]:
    """Return w·g − ½ wᵀ H w for the weights w that make each unit of each group: L(w) − L(0), to the second order.

    H: the Hessian of the mean cross-entropy, by one more gradient for each unit. The network's tensors must be plain.
    """
    gated, factors = _gated(net, groups)
    loss = torch.nn.functional.cross_entropy(torch.utils._pytree.tree_leaves(gated(x))[0], y)
    slopes = torch.autograd.grad(loss, factors, create_graph=True)
    found = []
    for slope, factor in zip(slopes, factors, strict=True):
        bends = torch.zeros_like(slope)
        for unit in range(len(slope)) if slope.grad_fn is not None else ():
            (row,) = torch.autograd.grad(slope[unit], factor, retain_graph=True, allow_unused=True)
            bends[unit] = 0.0 if row is None else row[unit]
        found.append((slope - bends / 2).detach())
    return found


@part("score.taylor", Card(title="Taylor importance", paper="arxiv:1906.10771", year=2019,
                           authors="Molchanov, Mallya, Tyree, Frosio, Kautz; Molchanov, Tyree, Karras, Aila, Kautz",
                           source="arxiv:1611.06440, section 2.2 (activation); arxiv:1906.10771, equations 6 and 8 (weight)",
                           needs=frozenset({"calib"})))  # fmt: skip
@dataclass(frozen=True)
class Taylor:
    """Taylor expansion of the cross-entropy on the calibration split.

    variant: "activation" (2017) is |mean of a · dL/da| over a channel's feature map; "weight" (2019) is (Σ w · dL/dw)²
    over the filters that make it; "second" is (Σ w · dL/dw − ½ wᵀ H w)², one gradient for each unit and batch. batch:
    samples between two absolute values (or squares), which are then averaged.

    Differs from the papers: Σ a · dL/da over positions is taken as Σ w · dL/dw over the weights that read the channel,
    which is the same number, counted once for each reader; it is summed, not averaged, over positions, and the absolute
    value is taken per batch, not per sample (batch=1 is the paper's). The second-order term is that of the channel's own
    weights, the expansion of removing them; the paper's multiplies their rows of H with all weights. Scores are not
    normalised here and no FLOPs are subtracted; `prune.channels` normalises by group for its global scope.
    """

    variant: str = knob("activation", among=("activation", "weight", "second"))
    batch: int = knob(16, low=1, high=65_536, search=False)

    def importance(self, net: Net, group: Group, work: Work) -> Tensor:
        """Return one value per unit of `group`; needs the calibration split."""
        return self.importances(net, [group], work)[0]

    def importances(self, net: Net, groups: Sequence[Group], work: Work) -> list[Tensor]:
        """Return one value per unit of each group, from the same gradients."""
        inputs, labels = work.use("calib")
        plain, count = dense(net), 0
        totals = [torch.zeros(len(group), dtype=torch.float64) for group in groups]
        for x, y in zip(inputs.split(self.batch), labels.split(self.batch), strict=True):
            for total, change in zip(totals, self._changes(plain, groups, x, y), strict=True):
                size = change.detach().double().cpu()
                total += len(y) * (size.abs() if self.variant == "activation" else size.square())
            count += len(y)
        return [total / max(1, count) for total in totals]

    def _changes(self, net: Net, groups: Sequence[Group], x: Tensor, y: Tensor) -> list[Tensor]:
        if self.variant == "second":
            return second_order(net, groups, x, y)
        gradients = _gradients(net, x, y)
        axes = [group.readers if self.variant == "activation" else group.makers for group in groups]
        return [
            first_order(filters(net, g, own), filters(gradients, g, own)) for g, own in zip(groups, axes, strict=True)
        ]


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


class _Gate(nn.Module):
    """A tensor whose slices along `dim` are multiplied with 1 + the factor of the unit that each belongs to."""

    def __init__(self, value: Tensor, dim: int, factor: Tensor, units: Tensor) -> None:
        super().__init__()
        self.value, self.dim, self.factor, self.units = value.detach(), dim, factor, units

    def forward(self) -> Tensor:
        factors = torch.cat([self.factor, self.factor.new_zeros(1)])[self.units]
        return self.value * (1 + factors.view(-1, *[1] * (self.value.dim() - self.dim - 1)))


def _gated(net: Net, groups: Sequence[Group]) -> tuple[Net, list[Tensor]]:
    """Return the network with a factor, 0, for each unit of each group in the weights that make it, and those factors."""
    out, factors = net.copy(), []
    for group in groups:
        held = net.slot(group.makers[0][0])()
        factors.append(torch.zeros(len(group), dtype=held.dtype, device=held.device, requires_grad=True))
        for slot, dim in group.makers:
            units = torch.full((net.slot(slot)().shape[dim],), -1, device=held.device)
            for number, cuts in enumerate(group.units):
                for cut in cuts:
                    if (cut.slot, cut.dim) == (slot, dim):
                        units[list(cut.indices)] = number
            out.set_slot(slot, _Gate(net.slot(slot)(), dim, factors[-1], units))
    return out, factors
