"""Small weights held at zero."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.net import Net
from paredown.graph.slots import Free, Masked

GRANULARITIES = ("element", "vector", "kernel", "filter")


def norms(weight: Tensor, granularity: str, norm: str = "l1") -> Tensor:
    """Return the norm of every group of weights that goes together, shaped to broadcast over `weight`.

    weight: (output, input, *kernel). A filter is one output's weights, a kernel one (output, input) pair's, a vector
    one row of a kernel along its last dimension. A linear weight has kernels of one weight.
    """
    first = {"element": weight.dim(), "vector": max(2, weight.dim() - 1), "kernel": 2, "filter": 1}[granularity]
    dims = tuple(range(min(first, weight.dim()), weight.dim()))
    sizes = weight.detach().abs() if norm == "l1" else weight.detach().square()
    summed = sizes.sum(dims, keepdim=True) if dims else sizes
    return summed if norm == "l1" else summed.sqrt()


def smallest(norms_of: Mapping[str, Tensor], sizes: Mapping[str, int], sparsity: float) -> dict[str, Tensor]:
    """Return {name: True where a group stays}, with ⌊sparsity · weights⌋ weights or just fewer in groups that go.

    norms_of: name to groups' norms. sizes: name to weights per group. Groups go in order of norm, all names together;
    at equal norm in order of position.
    """
    flat = torch.cat([n.flatten().double().cpu() for n in norms_of.values()])
    counts = torch.cat([torch.full((n.numel(),), sizes[name]) for name, n in norms_of.items()])
    order = flat.argsort(stable=True)
    budget = math.floor(sparsity * int(counts.sum()) + 1e-9)
    stays = torch.ones(len(flat), dtype=torch.bool)
    stays[order[counts[order].cumsum(0) <= budget]] = False
    parts = stays.split([n.numel() for n in norms_of.values()])
    return {name: part.view(n.shape).to(n.device) for (name, n), part in zip(norms_of.items(), parts, strict=True)}


@part("prune.magnitude", Card(title="Learning both weights and connections", paper="arxiv:1506.02626", year=2015,
                              authors="Han, Pool, Tran, Dally; granularities: Mao, Han, Pool, Li, Liu, Wang, Dally",
                              source="arxiv:1506.02626, section 3; arxiv:1705.08922, section 3",
                              changes=frozenset({"nonzero"}), forbids=frozenset({"quantized", "shared"}),
                              gives=frozenset({"masked"})))  # fmt: skip
@dataclass(frozen=True)
class Magnitude:
    """Hold the smallest weights of convolutions and linear layers at zero; biases and norms stay.

    sparsity: fraction of weights at zero, 0 to 0.999. scope: "layer" takes it from each weight, "global" from all
    together, which may empty a layer. granularity: what goes at once. norm: how a group of weights is measured.

    Nothing shrinks by itself: zeros cost fewer bytes once coded, and no operations on a dense runtime. Weights already
    masked stay so. Differs from the paper: the threshold is a rank, not a multiple of the layer's standard deviation.
    """

    sparsity: float = knob(0.5, low=0.0, high=0.999)
    scope: str = knob("layer", among=("layer", "global"))
    granularity: str = knob("element", among=GRANULARITIES)
    norm: str = knob("l1", among=("l1", "l2"), search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with masked weights; weights that cannot be masked are noted."""
        out = net.copy()
        weights = {name: out.slot(name)() for name in _maskable(out, work)}
        groups = {name: norms(weight, self.granularity, self.norm) for name, weight in weights.items()}
        sizes = {name: weight.numel() // groups[name].numel() for name, weight in weights.items()}
        together = [tuple(weights)] if self.scope == "global" else [(name,) for name in weights]
        for names in filter(None, together):
            stays = smallest({n: groups[n] for n in names}, sizes, self.sparsity)
            for name in names:
                out.set_slot(name, _held(out.slot(name), stays[name].expand_as(weights[name])))
        return out


def _maskable(net: Net, work: Work) -> list[str]:
    names = []
    for name, _ in net.weighted():
        if isinstance(net.slot(name), Free | Masked):
            names.append(name)
        else:
            work.skip(name, f"it is held as {type(net.slot(name)).__name__}, which has no mask")
    return names


def _held(slot: Free | Masked, stays: Tensor) -> Masked:
    return Masked(slot.value, stays & slot.mask if isinstance(slot, Masked) else stays)
