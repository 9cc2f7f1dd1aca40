"""Whole numbers with a step for each short group of weights."""

from dataclasses import dataclass

from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.graph.blocks import Blocked, in_blocks
from paredown.graph.linear import symmetric
from paredown.graph.number import FLOATS, rounded
from paredown.methods.grid.integer import asymmetric


def group_steps(weight: Tensor, bits: int, block: int) -> Tensor:
    """Return the step of each group, [rows, groups]: max |w| / (2^(bits−1) − 1), as fp16 holds it."""
    step = symmetric(in_blocks(weight, block).abs().amax(2), bits).step
    return rounded(step, FLOATS["fp16"]).clamp(min=2.0**-24)


@part("grid.group", Card(title="Group-wise quantization", paper="arxiv:1909.05840", year=2020,
                         authors="Shen, Dong, Ye, Ma, Yao, Gholami, Mahoney, Keutzer",
                         source="Q-BERT, section 3.2"))  # fmt: skip
@dataclass(frozen=True)
class Group:
    """Integers of `bits` bits with one fp16 step for every `block` weights that are summed together.

    symmetric: codes around 0; else 0 … 2^bits − 1 less a zero point, a code of its own for each group.
    Differs from the paper: groups lie along what a layer sums over, instead of whole heads.
    """

    bits: int = knob(4, among=range(2, 9))
    block: int = knob(32, low=1, high=65_536, log=True)
    symmetric: bool = True

    def fit(self, weight: Tensor) -> Blocked:
        """Return the weight's codes with a step for each group, and a zero point if they are asymmetric."""
        if not self.symmetric:
            return asymmetric(weight.detach(), self.bits, self.block, step_bits=16)
        steps = group_steps(weight.detach(), self.bits, self.block)
        return Blocked.rounding(weight, steps, f"int{self.bits}", self.block, 16)
