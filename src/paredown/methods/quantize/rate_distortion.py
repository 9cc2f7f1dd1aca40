"""Rounding that weighs what an error costs the loss against what a code costs the file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.code_length import level_bits
from paredown.graph.moments import TOGETHER, crossed, value_at
from paredown.graph.net import Net
from paredown.graph.slots import Free, Grid, short_float
from paredown.graph.spec import Node
from paredown.graph.storing import storing
from paredown.graph.windows import LAYERS, outputs

HIGH = 127
"""The largest code."""
PASSES = 2
"""How often codes are chosen anew under the lengths that the last choice gave them."""
HALVINGS = 14


def even_step(rate: float | Tensor, harm: Tensor, width: float = 1.0) -> Tensor:
    """Return the step at which one more bit for a weight saves `rate` of harm: √(6 rate / (harm · ln 2)), times `width`.

    harm: h of h·e², what an error e costs. From harm Δ²/12 and −log₂ Δ bits (Gish & Pierce 1968): both change equally there.
    """
    return width * (6 * rate / (harm * math.log(2))).sqrt()


def lengths(codes: Tensor) -> Tensor:
    """Return the bits of each code −HIGH … HIGH: −log₂ of its smoothed share of `codes`, neighbours lending to each other."""
    counts = torch.bincount((codes.long() + HIGH).flatten(), minlength=2 * HIGH + 1).double()
    spread = counts + 0.02 * (F.pad(counts, (1, 0))[:-1] + F.pad(counts, (0, 1))[1:]) + 0.02
    return -(spread / spread.sum()).log2()


def prepared(second: Tensor, damp: float) -> tuple[Tensor, Tensor]:
    """Return (order of the columns, upper Cholesky factors of the inverses in it) of [groups, inputs, inputs].

    Column q's error e costs e² / factor_qq² once the columns behind it have made up for it as well as they can.
    """
    second = second.double().clone()
    diagonal = second.diagonal(dim1=1, dim2=2)
    diagonal += damp * diagonal.mean(1, keepdim=True).clamp_min(1e-12) + 1e-12
    order = diagonal.argsort(dim=1, descending=True, stable=True)
    rows = second.gather(1, order[:, :, None].expand_as(second))
    inverse = torch.linalg.inv(rows.gather(2, order[:, None].expand_as(second)))
    return order, torch.linalg.cholesky((inverse + inverse.transpose(1, 2)) / 2, upper=True)


def choose(rows: Tensor, ready: tuple[Tensor, Tensor], harm: Tensor, step: Tensor, rate: float, cost: Tensor) -> Tensor:
    """Return the codes that make harm + rate · bits small, column after column, each error made up for by the columns left.

    rows: [groups, outputs, inputs]. ready: `prepared`. harm: of an output's squared error, [groups, outputs, 1]. step: as harm. cost:
    bits of each code. Four codes are tried for each weight: the two around it, one nearer to zero, and zero.
    """
    order, factor = ready
    left = rows.double().gather(2, order[:, None].expand_as(rows))
    codes = torch.zeros_like(left)
    for at in range(left.shape[2]):
        own = (left[:, :, at : at + 1] / step).clamp(-HIGH, HIGH)
        down, sign = own.abs().floor(), own.sign()
        tried = sign * torch.cat([down, (down + 1).clamp_max(HIGH), (down - 1).clamp_min(0), 0 * down], 2)
        error = left[:, :, at : at + 1] - tried * step
        price = harm * error.square() / factor[:, at, at].square()[:, None, None] + rate * cost[tried.long() + HIGH]
        best = price.argmin(2, keepdim=True)
        code = tried.gather(2, best)
        spread = error.gather(2, best) / factor[:, at, at][:, None, None]
        left[:, :, at:] -= spread * factor[:, at : at + 1, at:]
        codes[:, :, at : at + 1] = code
    return torch.zeros_like(codes).scatter(2, order[:, None].expand_as(codes), codes)


def output_harms(net: Net, x: Tensor, wanted: Sequence[str], seed: int) -> dict[str, Tensor]:
    """Return for each of the nodes `wanted` half the mean square of each output's gradient, summed over places, [outputs].

    Of the loss at labels that the network itself draws (the true Fisher matrix; Martens & Grosse 2015, section 5): so a small
    error e of an output costs about e² times that. `net` must be in eval mode and compute class scores.
    """
    draw, sums = torch.Generator().manual_seed(seed), dict[str, Tensor]()
    for some in x.split(TOGETHER):
        seen: dict[str, Tensor] = {}

        def see(node: Node, value: Tensor, seen: dict[str, Tensor] = seen) -> Tensor | None:
            if node.name not in wanted:
                return None
            seen[node.name] = value if value.requires_grad else value.detach().requires_grad_()
            return seen[node.name]

        with torch.enable_grad():
            scores = net.run(some, watch=see)
            if not isinstance(scores, Tensor) or scores.dim() != 2:
                raise BadInput("quantize.rate_distortion needs a network that returns one row of class scores a sample")
            labels = torch.multinomial(scores.detach().float().softmax(1).cpu(), 1, generator=draw)[:, 0]
            loss = F.cross_entropy(scores, labels.to(scores.device), reduction="sum")
            grads = torch.autograd.grad(loss, list(seen.values()), allow_unused=True)
        for (name, value), grad in zip(seen.items(), grads, strict=True):
            node = next(n for n in net.spec.nodes if n.name == name)
            flat = outputs(node, torch.zeros_like(value) if grad is None else grad)
            sums[name] = sums.get(name, 0) + flat.double().square().sum((0, 2))
    return {name: total / (2 * len(x)) for name, total in sums.items()}


@dataclass(frozen=True)
class Layer:
    """What choosing needs to know of one weight: rows [groups, outputs, inputs], the columns' factors, the outputs' harms."""

    slot: str
    rows: Tensor
    ready: tuple[Tensor, Tensor]
    harm: Tensor
    bias: str | None

    def steps(self, rate: float, width: float, by_channel: bool) -> Tensor:
        """Return short steps, [groups, outputs, 1], for this price of a bit."""
        each = self.ready[1].diagonal(dim1=1, dim2=2).log().mean(1)[:, None, None].exp().square()
        harm = (self.harm / each).clamp_min(1e-30)
        if not by_channel:
            harm = harm.log().mean().exp().expand_as(harm)
        least = self.rows.double().abs().amax(2, keepdim=True) / HIGH
        least = least if by_channel else least.amax().expand_as(least)
        most = 4 * least * HIGH + 1e-12
        return short_float(torch.minimum(even_step(rate, harm, width), most).clamp_min(1.02 * least + 1e-12)).double()


@part("quantize.rate_distortion", Card(title="Rate–distortion rounding with error feedback", paper="arxiv:2505.18758", year=2025,
                                       authors="the rate in the choice: Wiedemann et al. 2020; feedback: Frantar et al. 2023; harm: Martens, Grosse 2015",
                                       source="DeepCABAC (arxiv:1907.11900), section III-C; GPTQ (arxiv:2210.17323), equations 2 and 3",
                                       changes={"bits", "bytes"}, needs={"calib"}, forbids={"quantized", "shared", "masked"},
                                       gives={"quantized"}))  # fmt: skip
@dataclass(frozen=True)
class RateDistortion:
    """Round weights and biases to the codes that make loss + rate · bits smallest, the rate such that the codes take `bytes`.

    bytes: what all codes should take together in the packed file, by `graph.code_length`; steps and architecture come on top.
    step: one for each output channel, or one for a tensor. width: what the steps of the theory of fine steps are
    multiplied by. damp: added to the diagonal of the mean x xᵀ, as a share of its mean.

    The loss is its second-order estimate: G ⊗ H by layer, G the Fisher information of the outputs (diagonal), H the mean x xᵀ of
    the float network's inputs. So one price of a bit settles every width, step and zero of the whole network at
    once. Needs no labels and trains nothing. Linear layers and one- and two-dimensional convolutions; others, and norms, stay as
    they are, noted: fold norms first.
    """

    bytes: float = knob(1000.0, low=8.0, high=1e9, log=True)
    step: str = knob("channel", among=("channel", "tensor"))
    width: float = knob(1.0, low=0.2, high=3.0)
    damp: float = knob(0.01, low=1e-6, high=1.0, log=True)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with integer weights and biases. Raises BadInput where so few bytes cannot be met."""
        held, x = net.copy().eval(), work.use("calib")[0]
        layers = self.layers(held, x, work)
        if not layers:
            return held
        low, high = 1e-14, 1e2
        for _ in range(3 * HALVINGS):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.total(held, layers, middle) > self.bytes else (low, middle)
            if high / low < 1.02:
                break
        if self.total(held, layers, high) > self.bytes:
            raise BadInput(
                f"quantize.rate_distortion: bytes={self.bytes:g} is less than codes of zeros take; ask for more"
            )
        for slot, grid in self.grids(held, layers, high).items():
            held.set_slot(slot, grid)
        return held

    def layers(self, net: Net, x: Tensor, work: Work) -> list[Layer]:
        """Return what is known of every weight that can be rounded; others are noted."""
        able = {str(slot) for slot, _ in storing(net, {"weight": 8}, (Free,), work.skip)}
        users = net.spec.slot_users()
        nodes = []
        for name, node in net.weighted():
            if name not in able or node in nodes:
                continue
            if node.op not in LAYERS or len(users[name]) > 1:
                work.skip(name, f"{node.op} is left in float" if node.op not in LAYERS else "it is used more than once")
            else:
                nodes.append(node)
        harms = output_harms(net, x, [node.name for node in nodes], work.seed)
        return [self._layer(net, node, x, harms[node.name]) for node in nodes]

    def _layer(self, net: Net, node: Node, x: Tensor, harm: Tensor) -> Layer:
        weight = net.slot(str(node.args["weight"]))().detach()
        inputs = value_at(net, x, str(node.args["input"]))
        second = crossed(node, inputs, inputs, tuple(weight.shape[2:]))
        rows = weight.flatten(1).unflatten(0, (len(second), -1))
        bias = node.args.get("bias")
        alone = (
            bias is not None and isinstance(net.slot(str(bias)), Free) and len(net.spec.slot_users()[str(bias)]) == 1
        )
        harm = harm.clamp_min(1e-9 * float(harm.mean()) + 1e-30).view(len(second), -1, 1)
        return Layer(str(node.args["weight"]), rows, prepared(second, self.damp), harm, str(bias) if alone else None)

    def total(self, net: Net, layers: list[Layer], rate: float) -> float:
        """Return the bytes of all codes at a price of a bit."""
        return (
            sum(level_bits(grid.codes.flatten().cpu().numpy()) for grid in self.grids(net, layers, rate).values()) / 8
        )

    def grids(self, net: Net, layers: list[Layer], rate: float) -> dict[str, Grid]:
        """Return {slot: codes and steps} at a price of a bit."""
        made: dict[str, Grid] = {}
        for layer in layers:
            shape = net.slot(layer.slot)().shape
            step = layer.steps(rate, self.width, self.step == "channel")
            codes = (layer.rows.double() / step).round().clamp(-HIGH, HIGH)
            for _ in range(PASSES):
                codes = choose(layer.rows, layer.ready, layer.harm, step, rate, lengths(codes))
            flat = step.reshape(-1, *[1] * (len(shape) - 1)) if self.step == "channel" else step.flatten()[0]
            made[layer.slot] = _grid(codes.reshape(shape), flat)
            if layer.bias is not None:
                value = net.slot(layer.bias)().detach().double()
                fine = even_step(rate, layer.harm.mean()).clamp_min(float(value.abs().max()) / 32000 + 1e-12)
                fine = short_float(fine.clamp_max(float(value.abs().max()) + 1e-12)).double()
                made[layer.bias] = _grid((value / fine).round(), fine)
        return made


def _grid(codes: Tensor, step: Tensor) -> Grid:
    reach = int(codes.abs().max()) if codes.numel() else 0
    return Grid(codes.to(torch.int16), step.float(), max(2, reach.bit_length() + 1))
