"""Low-bit weights through tanh, and activations between 0 and 1."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.kinds import Loss
from paredown.core.knob import knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.activations import CONSTANT, insert, observe
from paredown.graph.latent import Latent, Skip, hold_, learn_, signs, straight_through
from paredown.graph.net import Net
from paredown.graph.ops import WEIGHTED
from paredown.graph.slots import Codebook, Grid, short_float
from paredown.graph.spec import Node, Value
from paredown.graph.watched import Watched
from paredown.methods.loss.cross_entropy import CrossEntropy


def quantize_unit(value: Tensor, bits: int) -> Tensor:
    """Return round((2^k − 1) r) / (2^k − 1) of numbers from 0 to 1 (Zhou et al. 2016, equation 5)."""
    high = 2**bits - 1
    return (value * high).round() / high


def squeezed(weight: Tensor) -> Tensor:
    """Return tanh(w) / (2 max|tanh(w)|) + 1/2, from 0 to 1 (Zhou et al. 2016, equation 9); the maximum has no gradient."""
    bent = torch.tanh(weight)
    return bent / (2 * bent.detach().abs().max().clamp(min=1e-8)) + 0.5


class TanhWeight(Latent):
    """A tensor whose call returns size · (2 quantize_unit(squeezed(w)) − 1); of one bit sign(w) · mean|w|."""

    size: Tensor

    def __init__(self, value: Tensor, bits: int, keep_size: bool) -> None:
        super().__init__(value)
        self.bits = bits
        size = self.value.detach().tanh().abs().max().clamp(min=1e-8)
        self.register_buffer("size", short_float(size) if keep_size else torch.ones_like(size))

    def table(self) -> Tensor:
        """Return the 2^bits values, from the lowest."""
        high = 2**self.bits - 1
        return self.size * (torch.arange(high + 1, device=self.value.device) * 2 - high) / high

    def forward(self) -> Tensor:
        if self.bits == 1:
            return straight_through(self.value, self.held()())
        share = squeezed(self.value)
        codes = (share.detach() * (2**self.bits - 1)).round().long()
        return straight_through(share, self.table()[codes], 2 * self.size)

    @torch.no_grad()
    def held(self) -> Grid | Codebook:
        """Return the signs with one step, or an index into 2^bits evenly spaced values without a zero."""
        if self.bits == 1:
            return Grid(signs(self.value), short_float(self.value.abs().mean().clamp(min=1e-8)), 1)
        return Codebook((squeezed(self.value) * (2**self.bits - 1)).round(), self.table())


def round_gradient(grad: Tensor, bits: int, noise: Tensor) -> Tensor:
    """Return 2 m (quantize_unit(dr / (2 m) + 1/2 + N) − 1/2) with m = max|dr| of each sample (Zhou et al. 2016, equation 12).

    grad: dr, [samples, ...]. noise: uniform from −1/2 to 1/2, one for each entry; N is it over 2^bits − 1, so that the
    expectation is dr. One of 2^bits values from −m to m, none of them 0.
    """
    high = 2**bits - 1
    most = grad.abs().flatten(1).amax(1).view(-1, *[1] * (grad.dim() - 1))
    share = grad / (2 * most.clamp(min=torch.finfo(grad.dtype).tiny)) + 0.5 + noise / high
    return 2 * most * (quantize_unit(share, bits).clamp(0, 1) - 0.5)


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, bits: int) -> Tensor:
        ctx.bits = bits
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        grad = grads[0].to(torch.promote_types(grads[0].dtype, torch.float32))
        return round_gradient(grad, ctx.bits, torch.rand_like(grad) - 0.5).to(grads[0].dtype), None


class RoundedGradient(nn.Module):
    """Returns its input; the gradient that comes back is rounded at random to `bits` bits (see `round_gradient`)."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, value: Tensor) -> Tensor:
        return _Backward.apply(value, self.bits)


def readable(net: Net, weights: Collection[str], x: Tensor, skip: Skip) -> dict[str, float]:
    """Return {value: its maximum over `x`} of what the layers with these weights read, if it is never negative.

    skip: told the layer and the reason for every input that stays real.
    """
    seen, found = observe(net, x), {}
    for node in net.spec.nodes:
        value = node.args.get("input")
        if node.op not in WEIGHTED or node.args["weight"] not in weights:
            continue
        if value in dict(net.spec.inputs):
            skip(f"{node.name}.input", "it is the network's input, which stays real")
        elif seen[str(value)][0] < 0:
            skip(f"{node.name}.input", "it is negative at times; a range that begins at 0 would cut that off")
        else:
            found[str(value)] = seen[str(value)][1]
    return found


@part("quantize.dorefa", Card(title="DoReFa-Net", paper="arxiv:1606.06160", year=2016,
                              authors="Zhou, Wu, Ni, Zhou, Wen, Zou",
                              source="DoReFa-Net, sections 2.2-2.5, equations 5-12",
                              changes={"bits", "bytes"}, needs={"fit", "calib"},
                              forbids={"quantized", "shared", "masked"}, gives={"quantized", "shared"}))  # fmt: skip
@dataclass(frozen=True)
class DoReFa:
    """Train with weights rounded after tanh, and inputs clipped to [0, 1] and rounded; then hold the codes.

    bits: of a weight, 1 to 8: an index into 2^bits evenly spaced values, none of them 0; of one bit, its sign.
    activation_bits: of an inner layer's input that is never negative on the calibration split, 1 to 8, or 0 for real
    ones. size: "one" for weights from −1 to 1, as in the paper, or "kept" for those of the network. real_ends: leave the
    first and the last layer real, as the paper does. gradient_bits: of the gradients that come back to the outputs of the
    layers with rounded weights, 1 to 8, or 0 for real ones; no file is smaller for it.

    Differs from the paper: gradients are real by default; the size is kept by default, with four significant bits, so
    that a trained network is a good start.
    """

    bits: int = knob(2, among=range(1, 9))
    activation_bits: int = knob(0, among=range(9), search=False)
    size: str = knob("kept", among=("kept", "one"), search=False)
    real_ends: bool = knob(True, among=(True, False), search=False)
    loss: Loss = CrossEntropy()
    habits: tuple = ()
    plan: Plan = Plan()
    gradient_bits: int = knob(0, among=range(9), search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` whose inner layers hold codes."""
        learning = net.copy()
        taken = learn_(learning, self._weight, work.skip, self.real_ends)
        if self.activation_bits:
            read = readable(net.copy(), taken, work.use("calib")[0], work.skip)
            insert(learning, {value: self._unit(value) for value in read})
        if self.gradient_bits:
            outputs = [node.name for name in taken for node in learning.spec.slot_users()[name]]
            learning = Watched(learning, {name: RoundedGradient(self.gradient_bits) for name in outputs})
        work.use("fit")(learning, loss=self.loss, habits=self.habits, plan=self.plan)
        return hold_(learning.plain() if isinstance(learning, Watched) else learning)

    def _weight(self, value: Tensor) -> TanhWeight:
        return TanhWeight(value, self.bits, self.size == "kept")

    def _unit(self, value: str) -> Node:
        high = 2**self.activation_bits - 1
        args = {"self": Value(value), "scale": 1 / high, "zero_point": 0, "quant_min": 0, "quant_max": high}
        return Node(f"{value}_quantized", CONSTANT, args)
