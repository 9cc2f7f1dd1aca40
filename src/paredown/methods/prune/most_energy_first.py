"""Layers pruned in order of the energy they take."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.cost.count import layers
from paredown.cost.energy_aware import energy, shares
from paredown.graph.masks import alike, lowest, mask_of, maskable
from paredown.graph.moments import crossed, value_at
from paredown.graph.net import Net
from paredown.graph.slots import Masked
from paredown.graph.spec import Node
from paredown.graph.windows import LAYERS

ENTRIES = 16_000_000
"""Entries of matrices that are solved at a time."""


def restored(rows: Tensor, kept: Tensor, second: Tensor, target: Tensor, count: int) -> Tensor:
    """Return the mask `kept` with `count` more weights, each the one that lowers the squared output error most just then.

    rows: W before, [outputs, n]; second: mean of x xᵀ, [n, n]; target: mean of y xᵀ, [outputs, n], of the output y that
    is aimed at. Giving back w_i lowers the error by 2 w_i rᵀx_i − w_i² |x_i|², r what is missing from the output.
    """
    kept, missing = kept.clone(), target - (rows * kept) @ second
    power = rows.square() * second.diagonal()
    gains = torch.where(kept, -torch.inf, 2 * rows * missing - power)
    best, at = gains.max(1)
    for _ in range(min(count, int((~kept).sum()))):
        row = int(best.argmax())
        column = int(at[row])
        kept[row, column] = True
        missing[row] -= rows[row, column] * second[column]
        gains[row] = torch.where(kept[row], -torch.inf, 2 * rows[row] * missing[row] - power[row])
        best[row], at[row] = gains[row].max(0)
    return kept


def refit(rows: Tensor, kept: Tensor, second: Tensor, target: Tensor, ridge: float = 1e-6) -> Tensor:
    """Return the kept weights that minimise the squared output error, plus a pull towards what they were.

    The same sizes as in `restored`. The pull is `ridge` times the mean of the diagonal of `second`; with it the error never
    grows, and what is missing is orthogonal to every kept input up to the pull.
    """
    pull = ridge * float(second.diagonal().mean().clamp(min=1e-12))
    eye = torch.eye(len(second), dtype=second.dtype, device=second.device)
    size, found = max(1, ENTRIES // len(second) ** 2), []
    for some, mask, aim in zip(rows.split(size), kept.split(size), target.split(size), strict=True):
        on = mask.to(second)
        matrix = (second + pull * eye) * on[:, :, None] * on[:, None, :] + eye * (1 - on)[:, :, None]
        found.append(torch.linalg.solve(matrix, (aim + pull * some) * on))
    return torch.cat(found)


@part("prune.most_energy_first", Card(title="Energy-aware pruning", paper="arxiv:1611.05128", year=2017,
                                 authors="Yang, Chen, Sze",
                                 source="Designing Energy-Efficient Convolutional Neural Networks using Energy-Aware Pruning, sections 3 and 4",
                                 changes=frozenset({"nonzero"}), needs=frozenset({"calib"}),
                                 forbids=frozenset({"quantized", "shared"}), gives=frozenset({"masked"})))  # fmt: skip
@dataclass(frozen=True)
class MostEnergyFirst:
    """Prune layers, most modelled energy first, and refit each to the output that it had.

    sparsity: fraction of a pruned layer's weights at zero; of a grouped convolution, of each group's. restore: of those, the share that is first removed too, by
    magnitude, and then given back where it lowers the output error most. energy: stop when the modelled energy is down to
    this share; 0 prunes every layer. samples: of the calibration split, whose inputs and outputs are compared: what the
    pruned network brings to a layer, and what the layer made before anything was pruned.

    Linear layers and one- and two-dimensional convolutions; others are noted, and so are layers whose turn does not come.
    Differs from the paper: it ends at an energy, not at an accuracy; it does not train the whole network at the end, nor
    repeat: a recipe says `train.finetune` after it.
    """

    sparsity: float = knob(0.5, low=0.0, high=0.999)
    restore: float = knob(0.1, low=0.0, high=1.0, search=False)
    energy: float = knob(0.0, low=0.0, high=1.0)
    samples: int = knob(512, low=1, high=1_000_000, log=True, search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with fewer weights, refit, in its most hungry layers."""
        out, before, x = net.copy().eval(), net.copy().eval(), work.use("calib")[0][: self.samples]
        able = set(maskable(out, work.skip))
        nodes = dict(out.weighted())
        limit = self.energy * energy(layers(net)).value
        slots = {row.name: row.slot for row in layers(net)}
        for share in shares(layers(net)):
            name = slots[share.name]
            if name not in able:
                continue
            node = nodes[name]
            if node.op not in LAYERS:
                work.skip(name, f"windows of {node.op} are not laid out")
            elif self.energy and energy(layers(out)).value <= limit:
                work.skip(name, f"the energy is down to {self.energy:g} of what it was before its turn came")
            else:
                self._prune(out, before, (name, node), x)
        return out.train(net.training)

    @torch.no_grad()
    def _prune(self, out: Net, before: Net, layer: tuple[str, Node], x: Tensor) -> None:
        name, node = layer
        weight, mask = out.slot(name)().detach(), mask_of(out, name)
        now, then = (value_at(some, x, str(node.args["input"])) for some in (out, before))
        kernel = tuple(weight.shape[2:])
        second, aims = crossed(node, now, now, kernel), crossed(node, then, now, kernel)
        sides = (weight.double().flatten(1).chunk(len(second)), mask.flatten(1).chunk(len(second)), second, aims)
        found = [self._rows(*side) for side in zip(*sides, strict=True)]
        left, stays = (torch.cat(part).view_as(weight) for part in zip(*found, strict=True))
        out.set_slot(name, Masked(left.to(weight), stays))

    def _rows(self, rows: Tensor, mask: Tensor, second: Tensor, aims: Tensor) -> tuple[Tensor, Tensor]:
        """Return (weights, what stays) of one group of outputs."""
        target, most = rows @ aims, math.floor(self.sparsity * rows.numel() + 1e-9)
        gone = int((~mask).sum())
        back = math.floor(self.restore * max(0, min(most, rows.numel() - most)) + 1e-9) if most > gone else 0
        size = torch.where(mask, rows.abs(), -1.0)
        kept = mask & ~lowest({"": size}, {"": alike(size, 1)}, most + back)[""]
        kept = restored(rows, kept | ~mask, second, target, back) & mask
        return refit(rows, kept, second, target), kept
