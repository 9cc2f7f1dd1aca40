"""A table of values made for the data's distribution."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.knob import check_fields
from paredown.graph.slots import Codebook


def normal_float(bits: int) -> tuple[float, ...]:
    """Return NF`bits`: 2^bits values from −1 to 1, zero included, at even quantiles of a normal (Dettmers et al. 2023, section 3).

    There is one more positive value than negative ones. The outermost quantile is the mean of 1 − 1/(2·2^bits) and
    1 − 1/(2(2^bits − 1)), as in the authors' code: 0.9677083 for 4 bits.
    """
    half = 2 ** (bits - 1)
    outer = 1 - (1 / (4 * half) + 1 / (2 * (2 * half - 1))) / 2
    up = torch.special.ndtri(torch.linspace(0.5, outer, half + 1, dtype=torch.float64))
    down = -torch.special.ndtri(torch.linspace(0.5, outer, half, dtype=torch.float64))
    found = torch.cat([down.flip(0), up[1:]]) / up[-1]
    return tuple((found + 0.0).tolist())


def nearest(x: Tensor, table: Tensor) -> Tensor:
    """Return the index of the nearest entry of a sorted table; a tie goes to the even index."""
    above = torch.searchsorted((table[1:] + table[:-1]) / 2, x.contiguous())
    tied = above < len(table) - 1
    middle = ((table[1:] + table[:-1]) / 2)[above.clamp(max=len(table) - 2)]
    return torch.where(tied & (x == middle) & (above % 2 == 1), above + 1, above)


@part("grid.table", Card(title="Normal float: a table for normal weights", paper="arxiv:2305.14314", year=2023,
                            authors="Dettmers, Pagnoni, Holtzman, Zettlemoyer",
                            source="QLoRA: Efficient Finetuning of Quantized LLMs, section 3"))  # fmt: skip
@dataclass(frozen=True)
class Table:
    """A fixed table of values, scaled so that its largest |value| meets the weight's; NF4 where none is given.

    values: 2 to 256 increasing numbers; without a zero among them pruned weights do not stay zero. Differs from the paper: one scale for the tensor, not one for
    each block of 64.
    """

    values: tuple = normal_float(4)

    def __post_init__(self) -> None:
        check_fields(self)
        if not 2 <= len(self.values) <= 256 or any(a >= b for a, b in zip(self.values, self.values[1:], strict=False)):
            raise BadInput(f"Table.values={self.values!r} must be 2 to 256 increasing numbers")

    def fit(self, weight: Tensor) -> Codebook:
        """Return the weight's codes with the scaled table."""
        plain, table = weight.detach(), torch.tensor(self.values, dtype=torch.float64, device=weight.device)
        largest = plain.double().abs().max()
        step = largest / table.abs().max() if largest > 0 else torch.ones_like(largest)
        return Codebook(nearest(plain.double() / step, table), (table * step).to(plain))
