"""N of every M weights in a row."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.knob import check_fields, knob
from paredown.graph.masks import alike, budget, lowest, parted


def storage_ratio(n: int, m: int, bits: int) -> float:
    """Return the bits of N:M storage over those of dense storage: N values and N positions of ⌈log2 M⌉ bits for M values.

    >>> storage_ratio(2, 4, 16), storage_ratio(2, 4, 8)
    (0.5625, 0.625)
    """
    return n * (bits + math.ceil(math.log2(m))) / (m * bits)


def groups(saliency: Tensor, m: int) -> Tensor:
    """Return a weight (output, input, *kernel) in groups of `m` inputs in a row, [rows, groups, m]; the rest is left out."""
    rows = saliency.movedim(1, -1).reshape(-1, saliency.shape[1])
    whole = rows.shape[1] // m * m
    return rows[:, :whole].reshape(len(rows), -1, m)


def largest(grouped: Tensor, n: int) -> Tensor:
    """Return True for the `n` largest of the last dimension; of equal ones the first."""
    rank = grouped.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1, stable=True)
    return rank < n


def retained(saliency: Tensor, n: int, m: int) -> float:
    """Return the sum of what N:M keeps of a weight's saliency."""
    grouped = groups(saliency, m)
    return float((grouped * largest(grouped, n)).double().sum())


def packed(weight: Tensor, n: int, m: int) -> tuple[Tensor, Tensor]:
    """Return (values, positions), both [rows, groups, n]: N:M storage, positions ascending within a group (section 3.1).

    weight: (output, input, *kernel), of at most `n` other than zero in every group of `m` inputs. A group with fewer is
    filled up with zeros at its first free positions. Raises BadInput for more, or where inputs are no multiple of `m`.
    """
    if weight.shape[1] % m:
        raise BadInput(f"{weight.shape[1]} inputs are no multiple of {m}")
    grouped = groups(weight, m)
    if (most := int((grouped != 0).sum(-1).max()) if grouped.numel() else 0) > n:
        raise BadInput(f"a group of {m} weights has {most} other than zero; {n}:{m} has room for {n}")
    at = (grouped != 0).to(torch.int8).argsort(dim=-1, descending=True, stable=True)[..., :n].sort(-1).values
    return grouped.gather(-1, at), at


def unpacked(values: Tensor, positions: Tensor, m: int, kernel: tuple[int, ...] = ()) -> Tensor:
    """Return the weight (output, input, *kernel) of `packed`."""
    grouped = values.new_zeros((*values.shape[:2], m)).scatter(-1, positions, values)
    return grouped.view(-1, *kernel, values.shape[1] * m).movedim(-1, 1)


def better_order(saliency: Tensor, n: int, m: int, swaps: int) -> Tensor:
    """Return an order of the inputs in which N:M keeps at least as much, by at most `swaps` greedy exchanges of two inputs.

    Pool & Yu, Channel permutations for N:M sparsity (NeurIPS 2021), section 4: the exchange between two groups that
    gains most, until none gains. Inputs beyond the last whole group stay in place.
    """
    order = torch.arange(saliency.shape[1])
    rows = saliency.detach().movedim(1, -1).reshape(-1, saliency.shape[1]).double()
    count = rows.shape[1] // m
    for _ in range(swaps if count > 1 else 0):
        now = rows[:, order]
        kept = _kept(groups(now, m), n)
        gains = [
            (_gain(now, kept, (at, to), m, n), at, to)
            for at in range(count * m)
            for to in range((at // m + 1) * m, count * m)
        ]
        gain, at, to = max(gains, key=lambda one: one[0])
        if gain <= 1e-12 * float(kept.sum().abs()):
            break
        order[[at, to]] = order[[to, at]]
    return order


def _kept(grouped: Tensor, n: int) -> Tensor:
    return grouped.topk(n, -1).values.sum((0, -1))


def _gain(rows: Tensor, kept: Tensor, pair: tuple[int, int], m: int, n: int) -> float:
    both = [at // m for at in pair]
    moved = torch.stack([rows[:, g * m : (g + 1) * m] for g in both], 1)
    first, second = (at % m for at in pair)
    moved[:, 0, first], moved[:, 1, second] = rows[:, pair[1]], rows[:, pair[0]]
    return float(_kept(moved, n).sum() - kept[both].sum())


@part("structure.n_m", Card(title="N:M sparsity", paper="arxiv:2104.08378", year=2021,
                            authors="Mishra, Latorre, Pool, Stosic, Stosic, Venkatesh, Yu, Micikevicius",
                            source="Accelerating Sparse Deep Neural Networks, section 3; permutations: Pool, Yu, NeurIPS 2021"))  # fmt: skip
@dataclass(frozen=True)
class NM:
    """At most N weights other than zero of every M inputs in a row, for each output and each place of a kernel.

    n, m: 2 of 4 by default. swaps: exchanges of inputs that are tried so that more of the saliency is kept; the weight is
    then N:M in the order that `better_order` returns, while the network keeps its own.

    1 − N/M is the most that can go. At a lower sparsity whole groups stay dense, those that would lose most. Inputs
    beyond the last whole group stay; so do weights with fewer than M inputs.
    """

    n: int = knob(2, low=1, high=256)
    m: int = knob(4, low=2, high=256)
    swaps: int = knob(0, low=0, high=10_000, search=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.n >= self.m:
            raise BadInput(f"n={self.n} of m={self.m} leaves nothing to go; allowed: n from 1 to {self.m - 1}")

    def stays(self, saliencies: Mapping[str, Tensor], sparsity: float, scope: str) -> dict[str, Tensor]:
        """Return {slot name: True where a weight stays}. Raises BadInput for a sparsity over 1 − N/M."""
        if sparsity > 1 - self.n / self.m + 1e-9:
            most = f"{self.n}:{self.m} takes {1 - self.n / self.m:g} of the weights"
            raise BadInput(f"sparsity={sparsity:g} is more than {most}; lower sparsity, or n")
        found: dict[str, Tensor] = {}
        for some in parted(saliencies, scope):
            orders = {name: better_order(s, self.n, self.m, self.swaps) for name, s in some.items()}
            grouped = {name: groups(s[:, orders[name].to(s.device)], self.m) for name, s in some.items()}
            kept = {name: largest(g, self.n) for name, g in grouped.items()}
            costs = {name: (g * ~kept[name]).sum(-1) for name, g in grouped.items()}
            sizes = {name: alike(cost, self.m - self.n) for name, cost in costs.items()}
            for name, goes in lowest(costs, sizes, budget(some, sparsity)).items():
                found[name] = _placed(kept[name] | ~goes[..., None], some[name], orders[name])
        return found


def _placed(kept: Tensor, weight: Tensor, order: Tensor) -> Tensor:
    """Return a mask in groups as one of the weight's shape, its inputs where they were before they were ordered."""
    rows = torch.ones((len(kept), weight.shape[1]), dtype=torch.bool, device=weight.device)
    flat = kept.flatten(1)
    rows[:, order[: flat.shape[1]].to(weight.device)] = flat
    return rows.view(weight.shape[0], *weight.shape[2:], weight.shape[1]).movedim(-1, 1)
