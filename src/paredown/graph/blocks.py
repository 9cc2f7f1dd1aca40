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
    """Codes of a number format, and a step for each block: `(decode(codes) - zero) * step`.

    codes: bit patterns in the weight's shape. step: [rows, blocks], or [1, blocks] for all rows. number: the format's
    name (`graph.number`). block: the length of a block; as long as a row, there is one step for each output channel or
    for the tensor. step_bits: what a step takes in storage. zero: the code of each block that stands for 0, where the
    range is asymmetric (of "uint" formats; it takes as many bits as a code). coarse: [rows, 1], a float32 for each row
    that its steps are multiplied by: steps of two levels, of which `step` is the finer.
    """

    form: ClassVar[str] = "quantized"
    codes: Tensor
    step: Tensor
    zero: Tensor | None
    coarse: Tensor | None

    def __init__(
        self,
        codes: Tensor,
        step: Tensor,
        number: str,
        block: int,
        step_bits: int = 32,
        zero: Tensor | None = None,
        coarse: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.number, self.block, self.step_bits = number, block, step_bits
        self.bits = number_named(number).bits
        rows, inner = (codes.shape[0], math.prod(codes.shape[1:])) if codes.dim() > 1 else (1, codes.numel())
        if block < 1 or step.dim() != 2 or step.shape[0] not in (1, rows) or step.shape[1] != -(-inner // block):
            raise BadInput(f"{tuple(step.shape)} steps do not fit blocks of {block} in {tuple(codes.shape)} codes")
        if zero is not None and (zero.shape != step.shape or not number.startswith("uint")):
            raise BadInput(f"zero points of shape {tuple(zero.shape)} do not fit {tuple(step.shape)} steps of {number}")
        if coarse is not None and coarse.shape != (step.shape[0], 1):
            raise BadInput(f"coarse steps of shape {tuple(coarse.shape)} do not fit {tuple(step.shape)} steps")
        kind = torch.uint8 if self.bits <= 8 else torch.int32
        self.register_buffer("codes", codes.to(kind))
        self.register_buffer("step", step.detach().float().clone())
        self.register_buffer("zero", None if zero is None else zero.detach().to(kind).clone())
        self.register_buffer("coarse", None if coarse is None else coarse.detach().float().clone())

    @classmethod
    def rounding(
        cls,
        weight: Tensor,
        step: Tensor,
        number: str,
        block: int,
        step_bits: int = 32,
        zero: Tensor | None = None,
        coarse: Tensor | None = None,
    ) -> "Blocked":
        """Return the slot that is nearest to `weight`, given the steps, and the zero points if there are any."""
        whole = step if coarse is None else step * coarse
        scaled = in_blocks(weight.detach().double(), block) / whole.double()[:, :, None]
        if zero is not None:
            scaled = scaled.round() + zero[:, :, None]
        codes = from_blocks(number_named(number).encode(scaled), weight.shape)
        return cls(codes, step, number, block, step_bits, zero, coarse)

    def forward(self) -> Tensor:
        whole = in_blocks(number_named(self.number).decode(self.codes).float(), self.block)
        if self.zero is not None:
            whole = whole - self.zero[:, :, None]
        step = self.step if self.coarse is None else self.step * self.coarse
        return from_blocks(whole * step[:, :, None], self.codes.shape)

    def stored_bits(self) -> int:
        """Return the width of codes, steps, zero points and coarse steps."""
        zeros = 0 if self.zero is None else self.zero.numel() * self.bits
        coarse = 0 if self.coarse is None else 32 * self.coarse.numel()
        return self.codes.numel() * self.bits + self.step.numel() * self.step_bits + zeros + coarse

    def meta(self) -> dict[str, Any]:
        """Return what is needed to rebuild an empty slot of this shape."""
        shapes = {"shape": list(self.codes.shape), "step": list(self.step.shape)}
        own = {name: getattr(self, name) for name in ("number", "block", "step_bits")}
        parts = {name: True for name in ("zero", "coarse") if getattr(self, name) is not None}
        return {"slot": "blocked", **shapes, **own, **parts}

    @classmethod
    def empty(cls, meta: dict[str, Any]) -> "Blocked":
        """Return a slot of the described shape, to be filled by `load_state_dict`."""
        codes, step = torch.zeros(meta["shape"], dtype=torch.int32), torch.zeros(meta["step"])
        zero = torch.zeros_like(step) if meta.get("zero") else None
        coarse = step[:, :1] if meta.get("coarse") else None
        return cls(codes, step, str(meta["number"]), meta["block"], meta["step_bits"], zero, coarse)
