"""Weights of −a, 0 and +a: the nearest a·T to a weight, by a threshold."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.errors import Damaged
from paredown.core.kinds import Loss
from paredown.core.knob import knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.latent import Latent, by_filter, hold_, learn_, straight_through
from paredown.graph.net import Net
from paredown.graph.slots import Grid, short_float
from paredown.methods.loss.cross_entropy import CrossEntropy

TRITS = 5
"""Codes of three values that a byte holds: 3⁵ = 243."""


def ternarize(weight: Tensor, threshold: float = 0.7, per_filter: bool = False) -> tuple[Tensor, Tensor]:
    """Return (T, a): codes in {−1, 0, +1} and the scale a that make ‖W − a·T‖² small (Li & Liu 2016, equations 3-6).

    Δ = threshold · mean|W|; T is the sign of what is larger than Δ, and a its mean size, which is the best a for this T.
    One a for the tensor, or for each filter: then a has the weight's rank and broadcasts over the first dimension.
    """
    size = weight.abs()
    dims = by_filter(weight) if per_filter and weight.dim() > 1 else tuple(range(weight.dim()))
    keep = per_filter and weight.dim() > 1
    large = size > threshold * size.mean(dims, keepdim=True)
    scale = (size * large).sum(dims, keepdim=keep) / large.sum(dims, keepdim=keep).clamp(min=1)
    return weight.sign() * large, scale


def pack_trits(codes: np.ndarray) -> bytes:
    """Return codes of −1, 0 and 1 at five a byte, the first one the lowest digit to base 3: 1.6 bits each."""
    digits = np.append(np.ravel(codes).astype(np.int64) + 1, np.zeros(-codes.size % TRITS, np.int64))
    return (digits.reshape(-1, TRITS) @ 3 ** np.arange(TRITS)).astype(np.uint8).tobytes()


def unpack_trits(data: bytes, size: int) -> np.ndarray:
    """Return the `size` codes (int8) that `pack_trits` was given. Raises Damaged for bytes that cannot be such codes."""
    numbers = np.frombuffer(data, np.uint8).astype(np.int64)
    if len(numbers) != -(-size // TRITS) or (numbers >= 3**TRITS).any():
        raise Damaged(f"{len(data)} bytes do not hold {size} codes of three values, five a byte")
    return (numbers[:, None] // 3 ** np.arange(TRITS) % 3 - 1).ravel()[:size].astype(np.int8)


class Ternary(Latent):
    """A tensor whose call returns a·T; the gradient goes to the real values unchanged (Li & Liu 2016, section 2.3)."""

    def __init__(self, value: Tensor, threshold: float, per_filter: bool) -> None:
        super().__init__(value)
        self.threshold, self.per_filter = threshold, per_filter

    def forward(self) -> Tensor:
        codes, scale = self.parts()
        return straight_through(self.value, codes * scale)

    @torch.no_grad()
    def parts(self) -> tuple[Tensor, Tensor]:
        """Return the codes, and the scale with the four significant bits that a file holds."""
        codes, scale = ternarize(self.value, self.threshold, self.per_filter)
        return codes, short_float(scale.clamp(min=1e-8))

    def held(self) -> Grid:
        """Return codes of −1, 0 and 1, two bits wide, with the scale as their step."""
        return Grid(*self.parts(), 2)


@part("quantize.ternary_weights", Card(title="Ternary weight networks", paper="arxiv:1605.04711", year=2016,
                                       authors="Li, Liu",
                                       source="Ternary Weight Networks, equations 1-6",
                                       changes={"bits", "bytes"}, needs={"fit"},
                                       forbids={"quantized", "shared", "masked"}, gives={"quantized"}))  # fmt: skip
@dataclass(frozen=True)
class TernaryWeights:
    """Train with weights of −a, 0 and +a, with the threshold and a taken anew at every step; then hold the codes.

    threshold: Δ / mean|W|; 0.7 is near the best for normal and uniform weights. granularity: one a for the tensor, as in
    the paper, or for each filter. real_ends: leave the first and the last layer real.

    Differs from the paper: a is used with four significant bits, in training too, so that a file holds what was trained.
    """

    threshold: float = knob(0.7, low=0.0, high=3.0)
    granularity: str = knob("tensor", among=("tensor", "channel"))
    real_ends: bool = knob(False, among=(False, True), search=False)
    loss: Loss = CrossEntropy()
    habits: tuple = ()
    plan: Plan = Plan()

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` whose convolutions and linear layers hold codes of −1, 0 and 1."""
        learning = net.copy()
        learn_(learning, self._ternary, work.skip, self.real_ends)
        work.use("fit")(learning, loss=self.loss, habits=self.habits, plan=self.plan)
        return hold_(learning)

    def _ternary(self, value: Tensor) -> Ternary:
        return Ternary(value, self.threshold, self.granularity == "channel")
