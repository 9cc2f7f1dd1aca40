"""Training for the coded size: the entropy of the codes is part of the loss, steered to a number of bytes."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.graph.code_length import level_bits
from paredown.graph.net import Net
from paredown.graph.slots import LearnedStep

REFRESH = 8
"""Steps between two looks at the codes' histogram."""
FIRST, LEAST, MOST = math.log(0.09), math.log(0.0018), math.log(9.0)
"""log of λ · `bytes`, what codes of the wanted size add to the loss: at first, and the least and the most that it may be."""


@part("habit.coded_size", Card(title="Entropy-penalised quantization", paper="arxiv:1905.08318", year=2019,
                               authors="Wiedemann, Kirchhoffer, Matlage, Haase, Marban, Marinc, Neumann, Osman, Marpe, Schwarz, Wiegand, Samek",
                               source="DeepCABAC: rate-distortion quantization, section 3; here the rate is in the training loss",
                               changes={"bytes"}))  # fmt: skip
@dataclass(frozen=True)
class CodedSize:
    """Add λ · (ideal code length of the codes) to the loss, with λ steered so that the codes take `bytes` in the end.

    The length is −log2 of each level's smoothed frequency in its tensor, linear between levels, so that weights and
    steps have a gradient; every 8 steps the frequencies are taken afresh and log(λ · bytes) moves with the relative
    error of the codes' size in the packed file (`graph.code_length`) against an aim that falls geometrically to `bytes` over the first half.

    bytes: what the codes of all learned tensors should take together, steps and architecture not included.
    """

    bytes: float = knob(500.0, low=16.0, high=1e9, log=True)

    def start(self, net: Net) -> dict:
        """Return the state before the first step."""
        return {"t": 0.0, "count": 0, "log_price": FIRST, "first": 0.0, "cost": torch.zeros(0)}

    def penalty(self, net: Net, state: dict) -> Tensor:
        """Return λ times the code length in bytes; zero for a network that is learning no steps."""
        slots = [slot for slot in net.slots.values() if isinstance(slot, LearnedStep)]
        if not slots:
            return torch.zeros(())
        levels = torch.cat([slot.levels().flatten() for slot in slots])
        sizes = [slot.value.numel() for slot in slots]
        reach = max(slot.high for slot in slots) + 2
        rows = _rows(tuple(sizes), levels.device) * (2 * reach + 1) + reach
        if state["count"] % REFRESH == 0:
            self._refresh(state, levels.detach(), rows, (sizes, 2 * reach + 1))
        state["count"] += 1
        below = levels.detach().floor()
        at = rows + below.long()
        low, high = state["cost"][at], state["cost"][at + 1]
        return math.exp(state["log_price"]) / self.bytes * (low + (levels - below) * (high - low)).sum() / 8

    def _refresh(self, state: dict, levels: Tensor, rows: Tensor, shape: tuple[list[int], int]) -> None:
        sizes, width = shape
        whole = levels.round().long()
        counts = torch.bincount(rows + whole, minlength=len(sizes) * width).view(-1, width).float()
        near = counts + 0.075 * (torch.roll(counts, 1, 1) + torch.roll(counts, -1, 1)) + 0.1
        state["cost"] = -torch.log2(near / near.sum(1, keepdim=True)).flatten()
        now = sum(level_bits(part.numpy()) for part in whole.cpu().split(sizes)) / 8
        state["first"] = state["first"] or max(now, self.bytes)
        aim = self.bytes * (state["first"] / self.bytes) ** max(0.0, 1 - 2 * state["t"])
        error = max(-0.3, min(0.3, (now - aim) / aim))
        state["log_price"] = max(LEAST, min(MOST, state["log_price"] + 0.6 * error))

    def step(self, net: Any, state: dict, t: float) -> dict:
        """Return the state, having taken note of the training's progress."""
        state["t"] = t
        return state


def _rows(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(sizes), device=device), torch.tensor(sizes, device=device))
