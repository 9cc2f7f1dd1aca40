"""MX9, MX6, MX4: block floating point whose shared exponent is one lower for pairs of small values."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.graph.blocks import Blocked, in_blocks
from paredown.graph.number import power

BLOCK, PAIR = 16, 2
MANTISSA = {9: 7, 6: 4, 4: 2}


def exponent_of(largest: Tensor) -> Tensor:
    """Return ⌊log₂ largest⌋ exactly, −127 … 127 (of zero: −127)."""
    exponent = torch.frexp(largest).exponent - 1
    return torch.where(largest > 0, exponent, -127).clamp(-127, 127)


def pair_exponents(weight: Tensor) -> Tensor:
    """Return E − τ for each pair of weights, [rows, pairs]: E of its block of 16, τ = 1 if the pair is below 2^E."""
    pairs = exponent_of(in_blocks(weight, PAIR).abs().amax(2))
    blocks = exponent_of(in_blocks(weight, BLOCK).abs().amax(2))
    shared = blocks.repeat_interleave(BLOCK // PAIR, 1)[:, : pairs.shape[1]]
    return shared - (pairs < shared).to(shared.dtype)


@part("grid.shared_microexponents", Card(title="MX with shared microexponents", paper="arxiv:2302.08007", year=2023,
                                         authors="Rouhani, Zhao, Elango, Shafipour, Hall, Mesmakhosroshahi, More, Melnick, "
                                                 "Golub, Varatkar, Shao, Kolhe, Melts, Klar, L'Heureux, Perry, Burger, Chung, "
                                                 "Deng, Naghshineh, Park, Naumov",
                                         source="With Shared Microexponents, A Little Shifting Goes a Long Way, section 4"))  # fmt: skip
@dataclass(frozen=True)
class SharedMicroexponents:
    """MX9, MX6 or MX4: sign and mantissa, an 8-bit exponent for 16 values, a 1-bit microexponent for 2.

    bits: 9, 6 or 4, the average of a value: mantissas of 7, 4 or 2 bits without hidden bit, 8 / 16 + 1 / 2 for the
    exponents. Not to be confused with OCP's MX (`grid.ocp_mx`). Mantissas round to nearest even and saturate.
    """

    bits: int = knob(9, among=tuple(MANTISSA))

    def fit(self, weight: Tensor) -> Blocked:
        """Return the weight's codes; the step of a pair is 2^(E − τ − mantissa + 1)."""
        mantissa = MANTISSA[self.bits]
        step = power(pair_exponents(weight.detach()) - mantissa + 1)
        return Blocked.rounding(weight, step, f"int{mantissa + 1}", PAIR, 1 + 8 * PAIR // BLOCK)
