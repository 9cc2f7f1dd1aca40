"""Activations quantized with calibrated ranges, without training."""

from dataclasses import dataclass

import torch

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.activations import CONSTANT, LEARNABLE, insert, made, places
from paredown.graph.linear import affine, unsigned
from paredown.graph.net import Net
from paredown.graph.ranges import METHODS, Range, calibrate, chosen
from paredown.graph.spec import Node, Value


def quantizer(name: str, found: Range, bits: int) -> Node:
    """Return the node that rounds the value `name` to 2^bits levels of a range; zero is one of them."""
    levels = affine(torch.tensor(found[0]).double(), torch.tensor(found[1]).double(), unsigned(bits))
    args = {"self": Value(name), "scale": float(levels.step), "zero_point": int(levels.zero)}
    return Node(f"{name}_quantized", CONSTANT, {**args, "quant_min": levels.low, "quant_max": levels.high})


@part("quantize.activations", Card(title="Calibrated activation ranges", paper="arxiv:1806.08342", year=2018,
                                   authors="Krishnamoorthi",
                                   source="Quantizing deep convolutional networks for efficient inference, section 3.1; "
                                          "ranges: Jacob et al. 2018 (EMA), Banner et al. 2019 (MSE), Migacz 2017 (KL)",
                                   changes={"bops"}, needs={"calib"}))  # fmt: skip
@dataclass(frozen=True)
class Activations:
    """Round what feeds convolutions and linear layers to an asymmetric grid, one for each value; weights stay as they are.

    bits: 8 or 4. method: where the range ends: "min-max"; "ema", extremes averaged over the batches; "percentile",
    0.01 % of the values beyond at either end; "mse", least squared error; "kl", least divergence
    (`graph.ranges.least_divergence` says which convention). batch: samples at a time; only "ema" depends on it.
    everywhere: also what flows between the other operators that runtimes compute in integers (sums, poolings, joins), and
    what the network returns, so that an exported file is in integers from its input to its output.
    """

    bits: int = knob(8, among=(8, 4))
    method: str = knob("mse", among=METHODS)
    batch: int = knob(64, low=1, high=65_536, search=False)
    everywhere: bool = knob(False, among=(False, True), search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with quantizers; values that are quantized already are noted."""
        held = net.copy()
        for node in (n for n in net.spec.nodes if n.op in (CONSTANT, LEARNABLE)):
            work.skip(node.name, "it is quantized already")
        roots = set(places(held, self.everywhere).values())
        found = calibrate(held, work.use("calib")[0], self.batch, roots)
        levels = {n: quantizer(n, chosen(value, self.method, self.bits), self.bits) for n, value in found.items()}
        insert(held, made(held, levels, self.everywhere), self.everywhere)
        return held
