"""Masks on weights: which weights may have one, which units of them go, and the slot in which a mask moves."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from paredown.core.errors import BadInput
from paredown.graph.latent import Latent, straight_through
from paredown.graph.net import Net
from paredown.graph.slots import Free, Masked

SCOPES = ("layer", "global")
"""Where a sparsity holds: in each weight, or in all of them together."""


class Moving(Latent):
    """A tensor while its mask may still move: its call is that of `Masked`, its gradient reaches masked entries too.

    A form for training; `held()` is the Masked slot that computes the same.
    """

    form: ClassVar[str] = "masked"
    mask: Tensor

    def __init__(self, value: Tensor, mask: Tensor) -> None:
        super().__init__(value)
        self.register_buffer("mask", mask.detach().bool().clone())

    def forward(self) -> Tensor:
        return straight_through(self.value, self.value.detach() * self.mask)

    def held(self) -> Masked:
        """Return the slot that stores what the call returns."""
        return Masked(self.value, self.mask)


def maskable(net: Net, skip: Callable[[str, str], None]) -> list[str]:
    """Return the weights of convolutions and linear layers that can be masked; `skip` is told about the others."""
    names = []
    for name, _ in net.weighted():
        if isinstance(net.slot(name), Free | Masked):
            names.append(name)
        else:
            skip(name, f"it is held as {type(net.slot(name)).__name__}, which has no mask")
    return names


def mask_of(net: Net, name: str) -> Tensor:
    """Return True where a weight is not masked."""
    slot = net.slot(name)
    return slot.mask if isinstance(slot, Masked | Moving) else torch.ones_like(slot(), dtype=torch.bool)


def mask_(net: Net, name: str, stays: Tensor) -> None:
    """Hold a weight at zero where it does not stay, in place; what was masked before stays masked."""
    net.set_slot(name, Masked(net.slot(name).value, stays & mask_of(net, name)))


def moving(net: Net) -> dict[str, Moving]:
    """Return the slots whose masks may still move, by name."""
    return {name: slot for name in net.slot_names() if isinstance(slot := net.slot(name), Moving)}


def moved(value: Tensor, mask: Tensor, growth: Tensor, count: int) -> Tensor:
    """Return a mask that keeps as many: the `count` smallest |value| leave it, the `count` largest `growth` outside enter.

    What has just left may enter again. Equal ones go in order of position.
    """
    flat = mask.flatten()
    count = min(count, int(flat.sum()))
    size = torch.where(flat, value.flatten().abs(), torch.inf)
    kept = flat.clone()
    kept[size.argsort(stable=True)[:count]] = False
    wanted = torch.where(kept, -torch.inf, growth.flatten())
    kept[wanted.argsort(descending=True, stable=True)[:count]] = True
    return kept.view_as(mask)


def below_all(saliencies: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the saliencies, those of masked weights just below the least of all and below zero, so that they rank lowest."""
    least = min([0.0, *(float(s.min()) for s in saliencies.values() if s.numel())])
    least = 1.001 * least - 1e-30
    return {name: torch.where(masks[name], s, torch.full_like(s, least)) for name, s in saliencies.items()}


def parted(saliencies: Mapping[str, Tensor], scope: str) -> Iterator[dict[str, Tensor]]:
    """Yield the weights that are ranked together: one at a time for the scope "layer", all for "global"."""
    if scope not in SCOPES:
        raise BadInput(f"scope={scope!r} is not allowed; one of {', '.join(SCOPES)}")
    yield from [dict(saliencies)] if scope == "global" else [{name: s} for name, s in saliencies.items()]


def budget(saliencies: Mapping[str, Tensor], sparsity: float) -> int:
    """Return ⌊sparsity · weights⌋."""
    return math.floor(sparsity * sum(s.numel() for s in saliencies.values()) + 1e-9)


def lowest(costs: Mapping[str, Tensor], sizes: Mapping[str, Tensor], most: int) -> dict[str, Tensor]:
    """Return {name: True for each unit that goes}: units by rising cost, as long as no more than `most` weights go.

    costs: what losing each unit costs. sizes: how many weights go with it, of the same shape. All names are ranked
    together; at equal cost in order of position.
    """
    if not costs:
        return {}
    flat = torch.cat([cost.detach().flatten().double().cpu() for cost in costs.values()])
    counts = torch.cat([sizes[name].flatten().cpu() for name in costs])
    order = flat.argsort(stable=True)
    goes = torch.zeros(len(flat), dtype=torch.bool)
    goes[order[counts[order].cumsum(0) <= most]] = True
    parts = goes.split([cost.numel() for cost in costs.values()])
    return {
        name: part.view(cost.shape).to(cost.device) for (name, cost), part in zip(costs.items(), parts, strict=True)
    }


def alike(cost: Tensor, size: int) -> Tensor:
    """Return `size` for each unit of a cost."""
    return torch.full(cost.shape, size, dtype=torch.long)


def norm(saliency: Tensor, dims: Sequence[int], power: float) -> Tensor:
    """Return (Σ s^p)^(1/p) over `dims`, which are kept with one entry; powers and roots keep the sign. p = 1 is the sum."""
    if not dims:
        return saliency
    total = (saliency.sign() * saliency.abs() ** power).sum(tuple(dims), keepdim=True)
    return total.sign() * total.abs() ** (1 / power)
