"""Quantization without data: samples are made that show the batch norms what they remember."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.knob import check_fields, knob
from paredown.core.work import Work
from paredown.graph.activations import insert
from paredown.graph.allocate import frontier
from paredown.graph.fold import fold_batchnorm
from paredown.graph.net import Net
from paredown.graph.ranges import Range, Seen, calibrate, percentile
from paredown.graph.slots import Free, Grid, Masked
from paredown.graph.spec import Node
from paredown.graph.storing import storing
from paredown.methods.quantize.activations import quantizer
from paredown.methods.quantize.uniform import grid

WIDTHS = (2, 4, 8)

SHARE = 0.999
"""Of the values that a range holds with ranges="percentile": as many may lie beyond at either end."""


@dataclass(frozen=True)
class Known:
    """What is known of the inputs without any sample, from how they are prepared; None is nothing.

    least, most: what an input can be, for example 0 and 1 where pixels were divided by 255. mean, deviation: of all values,
    for example 0 and 1 where inputs are normalised.
    """

    least: float | None = None
    most: float | None = None
    mean: float | None = None
    deviation: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.least is not None and self.most is not None and self.least >= self.most:
            raise BadInput(f"least={self.least} is not below most={self.most}")

    def mismatch(self, x: Tensor) -> Tensor:
        """Return (mean of x − mean)² + (deviation of x − deviation)², the terms of the inputs; 0 for what is not known."""
        off = x.new_zeros(())
        if self.mean is not None:
            off = off + (x.mean() - self.mean).square()
        return off if self.deviation is None else off + (x.std(correction=0) - self.deviation).square()

    def first(self, noise: Tensor) -> Tensor:
        """Return what samples begin as: standard normal noise, scaled to the moments and cut to what an input can be."""
        return self.cut(noise * (1 if self.deviation is None else self.deviation) + (self.mean or 0))

    def cut(self, x: Tensor) -> Tensor:
        """Return values within least … most."""
        return x if self.least is None and self.most is None else x.clamp(self.least, self.most)


NOTHING = Known()


def mismatch(net: Net, x: Tensor) -> Tensor:
    """Return Σ ‖μʳ − μ‖² + ‖σʳ − σ‖² over the batch norms: what `x` shows them against what they remember (section 3.1)."""
    norms = {str(n.args["input"]): n for n in net.spec.nodes if n.op == "batch_norm" and n.slot("running_mean")}
    terms: list[Tensor] = []

    def watch(node: Node, value: Tensor) -> None:
        if node.name in norms:
            own = norms[node.name]
            mean, variance = (net.slot(own.args[key])() for key in ("running_mean", "running_var"))
            rows = value.transpose(0, 1).flatten(1)
            terms.append((rows.mean(1) - mean).square().sum())
            terms.append((rows.std(1, correction=0) - variance.sqrt()).square().sum())

    net.eval().run(x, watch=watch)
    if not terms:
        raise BadInput("this network has no batch norms with statistics, so no samples can be made from them")
    return torch.stack(terms).sum()


def distil(
    net: Net, count: int, iterations: int, lr: float, seed: int = 0, known: Known = NOTHING, decay: bool = False
) -> Tensor:
    """Return `count` samples that begin as normal noise and minimise `mismatch` and that of what is known, by Adam.

    decay: let lr fall to 0 along a cosine. Raises BadInput for a network without batch norms that keep statistics.
    """
    frozen = net.copy().eval().requires_grad_(False)
    draw = torch.Generator().manual_seed(seed)
    device = next(iter(frozen.state_dict().values())).device
    x = known.first(torch.randn((count, *net.spec.inputs[0][1]), generator=draw)).to(device).requires_grad_()
    optimiser = torch.optim.Adam([x], lr=lr)
    for at in range(iterations):
        if decay:
            optimiser.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * at / iterations)) / 2
        optimiser.zero_grad()
        (mismatch(frozen, x) + known.mismatch(x)).backward()
        optimiser.step()
        with torch.no_grad():
            x.copy_(known.cut(x))
    return x.detach()


@torch.no_grad()
def sensitivities(net: Net, x: Tensor, slots: list[str]) -> list[list[float]]:
    """Return Ω_i(k) for each weight i and each of WIDTHS: mean KL(M(x) ‖ M with weight i at k bits) (section 3.2)."""
    wanted = net.eval()(x).log_softmax(1)
    found = []
    for name in slots:
        row = []
        for bits in WIDTHS:
            tried = net.copy().eval()
            tried.set_slot(name, Grid(*grid(net.slot(name)().detach(), bits), bits))
            given = tried(x).log_softmax(1)
            row.append(float((wanted.exp() * (wanted - given)).sum(1).mean()))
        found.append(row)
    return found


@part("quantize.zeroq", Card(title="ZeroQ", paper="arxiv:2001.00281", year=2020,
                             authors="Cai, Yao, Dong, Gholami, Mahoney, Keutzer",
                             source="ZeroQ: A Novel Zero Shot Quantization Framework, section 3",
                             changes={"bits", "bytes"}, forbids={"quantized", "shared", "folded"},
                             gives={"quantized", "folded"}))  # fmt: skip
@dataclass(frozen=True)
class ZeroQ:
    """Quantize without any data: distilled samples choose the weights' widths and calibrate the activations.

    mean_bits: what a weight takes on average; below 8 each weight tensor gets 2, 4 or 8 bits, with the least sum of
    sensitivities that fits (never above). activation_bits: 8 or 4 with min-max ranges, or 0 for none. samples,
    iterations, lr: of the distillation; decay: let lr fall to 0. inputs: what is known of them. ranges: of activations,
    "min-max", or "percentile" with 0.1 % of the values beyond at either end. Batch norms are needed, and folded afterwards.

    What is reached: samples show every norm its mean and deviation, but tails are not in those. On three small networks
    trained on 8×8 digits, three seeds each, 64 samples and 300 iterations: what 99.9 % of the activations stay below is 0.89
    to 1.47 of the real value with nothing known; 0.92 to 1.18, so within 20 %, where the inputs are known to be from 0 to 1
    with their mean and deviation, and with decay. The largest activations are not within 20 %: 0.71 to 1.78, and 0.69 to 1.21.

    Differs from the paper: weights are rounded symmetrically for each channel, after folding; the inputs' own moments, which
    the paper's inputs have by their normalisation, count only if they are given; the range of an input is ours.
    """

    mean_bits: float = knob(8.0, low=2.0, high=8.0)
    activation_bits: int = knob(8, among=(0, 4, 8), search=False)
    samples: int = knob(64, low=2, high=4096, log=True, search=False)
    iterations: int = knob(500, low=1, high=10_000, log=True, search=False)
    lr: float = knob(0.1, low=1e-4, high=1.0, log=True, search=False)
    inputs: Known = NOTHING
    ranges: str = knob("min-max", among=("min-max", "percentile"), search=False)
    decay: bool = knob(False, among=(False, True), search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a folded, quantized copy of `net`. Raises BadInput if it has no batch norms."""
        x = distil(net, self.samples, self.iterations, self.lr, work.seed, self.inputs, self.decay)
        held, left = fold_batchnorm(net)
        for layer, why in left:
            work.skip(layer, why)
        found = calibrate(held, x)
        slots = dict.fromkeys(str(s) for s, _ in storing(held, {"weight": 8}, (Free, Masked), work.skip))
        for name, bits in self._widths(held, x, list(slots)).items():
            held.set_slot(name, Grid(*grid(held.slot(name)().detach(), bits), bits))
        if self.activation_bits:
            insert(held, {n: quantizer(n, self._range(seen), self.activation_bits) for n, seen in found.items()})
        return held

    def _range(self, seen: Seen) -> Range:
        if self.ranges == "min-max":
            return seen.extremes
        (low, high), (least, most) = seen.extremes, percentile(seen.histogram, SHARE)
        return max(low, least), min(high, most)

    def _widths(self, net: Net, x: Tensor, slots: list[str]) -> dict[str, int]:
        if self.mean_bits == WIDTHS[-1]:
            return dict.fromkeys(slots, WIDTHS[-1])
        counts = [net.slot(name)().numel() for name in slots]
        sizes = [[bits * count for bits in WIDTHS] for count in counts]
        fitting = [f for f in frontier(sensitivities(net, x, slots), sizes) if f[0] <= self.mean_bits * sum(counts)]
        return {name: WIDTHS[k] for name, k in zip(slots, fitting[-1][2], strict=True)}
