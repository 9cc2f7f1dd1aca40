"""Weights in short blocks, each with a step of its own: groups, vectors, microscaling formats.

Blocks lie along what a layer sums over, channels fastest: of a weight [out, in, …kernel] they run over the input channels
of one kernel position, then over the next position. The last block of a row may be shorter.
"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from paredown.core.errors import BadInput
from paredown.graph.number import number_named


def in_blocks(weight: Tensor, block: int) -> Tensor:
    """Return the weight as [rows, blocks, block], filled with zeros. A vector is one row; block 0 is the whole row."""
    rows = weight.movedim(1, -1).flatten(1) if weight.dim() > 1 else weight.reshape(1, -1)
    block = block or max(1, rows.shape[1])
    return nn.functional.pad(rows, (0, -rows.shape[1] % block)).unflatten(1, (-1, block))


def from_blocks(blocks: Tensor, shape: torch.Size) -> Tensor:
    """Return the weight of that shape; the inverse of `in_blocks`."""
    if len(shape) < 2:
        return blocks.flatten()[: math.prod(shape)].view(shape)
    rows = blocks.flatten(1)[:, : math.prod(shape[1:])]
    return rows.view(shape[0], *shape[2:], shape[1]).movedim(-1, 1).contiguous()


class Blocked(nn.Module):
    """Codes of a number format, and a step for each block: `decode(codes) * step`.

    codes: bit patterns in the weight's shape. step: [rows, blocks]. number: the format's name (`graph.number`).
    block: the length of a block. step_bits: what a step takes in storage; row_bits: what each row takes besides.
    A form for running and counting; no file format holds it yet, and `freeze` says so.
    """

    form: ClassVar[str] = "quantized"
    codes: Tensor
    step: Tensor

    def __init__(
        self, codes: Tensor, step: Tensor, number: str, block: int, step_bits: int = 32, row_bits: int = 0
    ) -> None:
        super().__init__()
        self.number, self.block, self.step_bits, self.row_bits = number, block, step_bits, row_bits
        self.bits = number_named(number).bits
        rows, inner = (codes.shape[0], math.prod(codes.shape[1:])) if codes.dim() > 1 else (1, codes.numel())
        if block < 1 or step.dim() != 2 or step.shape[0] not in (1, rows) or step.shape[1] != -(-inner // block):
            raise BadInput(f"{tuple(step.shape)} steps do not fit blocks of {block} in {tuple(codes.shape)} codes")
        self.register_buffer("codes", codes.to(torch.uint8 if self.bits <= 8 else torch.int32))
        self.register_buffer("step", step.detach().float().clone())

    @classmethod
    def rounding(
        cls, weight: Tensor, step: Tensor, number: str, block: int, step_bits: int = 32, row_bits: int = 0
    ) -> "Blocked":
        """Return the slot that is nearest to `weight`, given the steps."""
        scaled = in_blocks(weight.detach().double(), block) / step.double()[:, :, None]
        codes = from_blocks(number_named(number).encode(scaled), weight.shape)
        return cls(codes, step, number, block, step_bits, row_bits)

    def forward(self) -> Tensor:
        whole = number_named(self.number).decode(self.codes).float()
        return from_blocks(in_blocks(whole, self.block) * self.step[:, :, None], self.codes.shape)

    def stored_bits(self) -> int:
        """Return the width of codes, steps and what each row takes besides."""
        return self.codes.numel() * self.bits + self.step.numel() * self.step_bits + len(self.step) * self.row_bits

    def meta(self) -> dict[str, Any]:
        """Return what is needed to rebuild an empty slot of this shape."""
        names = ("number", "block", "step_bits", "row_bits")
        shapes = {"shape": list(self.codes.shape), "step": list(self.step.shape)}
        return {"slot": "blocked", **shapes, **{name: getattr(self, name) for name in names}}

    @classmethod
    def empty(cls, meta: dict[str, Any]) -> "Blocked":
        """Return a slot of the described shape, to be filled by `load_state_dict`."""
        codes, step = torch.zeros(meta["shape"], dtype=torch.int32), torch.zeros(meta["step"])
        return cls(codes, step, str(meta["number"]), meta["block"], meta["step_bits"], meta["row_bits"])
