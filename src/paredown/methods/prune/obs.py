"""Weights removed one after another, the rest making up for each."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.masks import lowest, mask_of, maskable
from paredown.graph.moments import crossed, value_at
from paredown.graph.net import Net
from paredown.graph.slots import Masked
from paredown.graph.spec import Node
from paredown.graph.windows import LAYERS

ENTRIES = 16_000_000
"""Entries of inverses that are held at a time."""


def saliency(weight: Tensor, inverse: Tensor) -> Tensor:
    """Return w² / (2 [H⁻¹]_qq), the least rise of ½ δᵀ H δ at which each weight can go (Hassibi & Stork 1993, equation 5).

    weight: [rows, n]. inverse: H⁻¹ of each row, [rows, n, n].
    """
    return weight.square() / (2 * inverse.diagonal(dim1=1, dim2=2))


def eliminated(rows: Tensor, second: Tensor, counts: Tensor, gone: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (rows, what stays, rise of the error at each removal) after removing `counts` weights of each row.

    rows: [rows, n]. second: H, [n, n], positive definite. gone: True for weights that are zero already; they go first, and
    count. Each time the weight of least saliency goes, δ = − w_q / [H⁻¹]_qq H⁻¹ e_q is added to its row (equation 5),
    and H⁻¹ becomes that of the weights that are left (Frantar & Alistarh 2022, lemma 1). Rises: [rows, removals], 0 for
    those that are zero already, infinite beyond a row's count.
    """
    left, stays = rows.clone(), torch.ones_like(gone)
    inverse = torch.linalg.inv(second).expand(len(rows), -1, -1).clone()
    removals = int(counts.max()) if len(counts) else 0
    rises = torch.full((len(rows), removals), torch.inf, dtype=rows.dtype, device=rows.device)
    for at in range(rises.shape[1]):
        cost = torch.where(stays, saliency(left, inverse), torch.inf)
        cost = torch.where(gone & stays, -torch.inf, cost)
        rise, picked = cost.min(1)
        active = at < counts
        rises[:, at] = torch.where(active, rise.clamp(min=0), torch.inf)
        column = inverse.gather(2, picked[:, None, None].expand(-1, inverse.shape[1], 1))[..., 0]
        pivot = column.gather(1, picked[:, None])
        error = left.gather(1, picked[:, None]) / pivot * active[:, None]
        left -= error * column
        inverse -= (active[:, None] * column / pivot)[:, :, None] * column[:, None, :]
        stays[torch.arange(len(rows)), picked] &= ~active
        left *= stays
    return left, stays, rises


def pruned(rows: Tensor, second: Tensor, most: int, gone: Tensor) -> tuple[Tensor, Tensor]:
    """Return (rows, what stays) with `most` weights of all rows removed, those whose removals cost least.

    Each row is emptied once to learn its costs, and a second time as far as it is worth; a row's costs rise by themselves or
    are taken as the largest so far.
    """
    whole = torch.full((len(rows),), rows.shape[1], device=rows.device)
    rises = torch.cat([eliminated(r, second, c, g)[2] for r, c, g in _parts(rows, whole, gone)]).cummax(1).values
    goes = lowest({"": rises}, {"": torch.ones_like(rises, dtype=torch.long)}, most)[""]
    done = [eliminated(r, second, c, g)[:2] for r, c, g in _parts(rows, goes.sum(1), gone)]
    return torch.cat([left for left, _ in done]), torch.cat([stays for _, stays in done])


def _parts(rows: Tensor, counts: Tensor, gone: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    size = max(1, ENTRIES // rows.shape[1] ** 2)
    yield from zip(rows.split(size), counts.split(size), gone.split(size), strict=True)


@part("prune.obs", Card(title="Optimal Brain Surgeon, layer by layer", paper="arxiv:2208.11580", year=1993,
                        authors="Hassibi, Stork; layers: Frantar, Alistarh",
                        source="Hassibi & Stork, Second order derivatives for network pruning, NIPS 1992, equation 5; Optimal Brain Compression, section 4",
                        changes=frozenset({"nonzero"}), needs=frozenset({"calib"}),
                        forbids=frozenset({"quantized", "shared"}), gives=frozenset({"masked"})))  # fmt: skip
@dataclass(frozen=True)
class Obs:
    """Remove weights one by one, the least harmful first, and change those that are left to make up for each.

    sparsity: fraction of each layer's weights at zero; of a grouped convolution, of each group's. damp: added to the diagonal of H, as a share of its mean. samples: of
    the calibration split. Layers go in order, each on what the pruned ones before it make. Linear layers and one- and
    two-dimensional convolutions; others are noted. Of n weights to an output, a row costs about 2 n³ operations.

    Differs from the paper of 1993: H is that of a layer's squared output error, the mean of x xᵀ over its inputs, the same
    for each output (as in Optimal Brain Compression); not that of the network's loss.
    """

    sparsity: float = knob(0.5, low=0.0, high=0.999)
    damp: float = knob(0.01, low=1e-6, high=1.0, log=True, search=False)
    samples: int = knob(1024, low=1, high=1_000_000, log=True, search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with fewer weights, and changed ones."""
        out, x = net.copy().eval(), work.use("calib")[0][: self.samples]
        able = maskable(out, work.skip)
        for name, node in list(out.weighted()):
            if name in able and node.op not in LAYERS:
                work.skip(name, f"windows of {node.op} are not laid out")
            elif name in able:
                self._prune(out, name, node, x)
        return out.train(net.training)

    @torch.no_grad()
    def _prune(self, out: Net, name: str, node: Node, x: Tensor) -> None:
        weight, mask = out.slot(name)().detach(), mask_of(out, name)
        inputs = value_at(out, x, str(node.args["input"]))
        second = crossed(node, inputs, inputs, tuple(weight.shape[2:]))
        sides = weight.double().flatten(1).chunk(len(second)), (~mask).flatten(1).chunk(len(second))
        found = []
        for rows, gone, moment in zip(*sides, second, strict=True):
            pull = self.damp * moment.diagonal().mean().clamp(min=1e-12)
            damped = moment + pull * torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
            found.append(pruned(rows, damped, math.floor(self.sparsity * rows.numel() + 1e-9), gone))
        left, stays = (torch.cat(part).view_as(weight) for part in zip(*found, strict=True))
        out.set_slot(name, Masked(left.to(weight), stays & mask))
