"""Rectangles of a weight's matrix."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.graph.masks import budget, lowest, norm, parted


def tiles(matrix: Tensor, rows: int, columns: int) -> Tensor:
    """Return a matrix in tiles, [tiles down, tiles across, rows, columns]; what lies beyond the edges is zero."""
    high, wide = -(-matrix.shape[0] // rows), -(-matrix.shape[1] // columns)
    padded = torch.zeros((high * rows, wide * columns), dtype=matrix.dtype, device=matrix.device)
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    return padded.view(high, rows, wide, columns).transpose(1, 2)


@part("structure.block", Card(title="Block sparsity", paper="arxiv:1711.02782", year=2017,
                              authors="Narang, Undersander, Diamos",
                              source="Block-Sparse Recurrent Neural Networks, section 3.1"))  # fmt: skip
@dataclass(frozen=True)
class Block:
    """Blocks of `rows` outputs by `columns` of what an output sums over, in the order in which it is stored.

    power: p of the norm of a block's saliencies; 1 is their sum. The last blocks of a weight may be smaller; they are
    ranked as whole ones with the same mean. Differs from the paper: ranked by norm, not by the largest weight against a threshold
    that grows in training.
    """

    rows: int = knob(4, low=1, high=1024, log=True)
    columns: int = knob(4, low=1, high=1024, log=True)
    power: float = knob(1.0, low=0.5, high=16.0, search=False)

    def stays(self, saliencies: Mapping[str, Tensor], sparsity: float, scope: str) -> dict[str, Tensor]:
        """Return {slot name: True where a weight stays}; ⌊sparsity · weights⌋ go, or just fewer in whole blocks."""
        found: dict[str, Tensor] = {}
        for some in parted(saliencies, scope):
            flat = {name: s.flatten(1) for name, s in some.items()}
            ones = {name: torch.ones_like(s, dtype=torch.long) for name, s in flat.items()}
            sizes = {name: tiles(one, self.rows, self.columns).sum((2, 3)) for name, one in ones.items()}
            costs = {name: self._costs(s, sizes[name]) for name, s in flat.items()}
            for name, goes in lowest(costs, sizes, budget(some, sparsity)).items():
                high, wide = flat[name].shape
                spread = goes.repeat_interleave(self.rows, 0).repeat_interleave(self.columns, 1)
                found[name] = ~spread[:high, :wide].reshape(some[name].shape)
        return found

    def _costs(self, matrix: Tensor, sizes: Tensor) -> Tensor:
        whole = norm(tiles(matrix, self.rows, self.columns), (2, 3), self.power)[..., 0, 0]
        return whole * (self.rows * self.columns / sizes) ** (1 / self.power)
