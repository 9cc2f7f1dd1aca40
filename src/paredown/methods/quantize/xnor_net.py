"""Binary weights and binary inputs: products that are counts of equal bits."""

from dataclasses import dataclass

import numpy as np

from paredown.core.catalog import Card, part
from paredown.core.kinds import Loss
from paredown.core.knob import knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.latent import hold_, learn_
from paredown.graph.net import Net
from paredown.graph.signs import read_signs_
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.quantize.binary_weights import BinaryFilters


def packed_signs(rows: np.ndarray) -> np.ndarray:
    """Return the signs of (n × k) values as bits, 1 for +1, in (n × ⌈k/8⌉) bytes; the last byte is filled with zeros."""
    return np.packbits(rows > 0, axis=1)


def xnor_product(left: np.ndarray, right: np.ndarray, size: int) -> np.ndarray:
    """Return the (n × m) products of packed rows of ±1: k − 2 · popcount(a xor b), exactly what floats would give.

    left: (n × ⌈k/8⌉) and right: (m × ⌈k/8⌉) bytes of `packed_signs`; size: k (Rastegari et al. 2016, section 3.2).
    """
    ones = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1).astype(np.int64)
    return size - 2 * ones[left[:, None] ^ right[None]].sum(2)


def speed_up(channels: int, taps: int) -> float:
    """Return 64 c N / (c N + 64): how many times fewer operations of 64 bits a binary convolution takes (section 4.1).

    channels: c of the input; taps: N, the places of a kernel. The input's size does not matter.
    """
    return 64 * channels * taps / (channels * taps + 64)


@part("quantize.xnor_net", Card(title="XNOR-Networks", paper="arxiv:1603.05279", year=2016,
                                authors="Rastegari, Ordonez, Redmon, Farhadi",
                                source="XNOR-Net, section 3.2, equations 7-11",
                                changes={"bits", "bytes", "bops"}, needs={"fit"},
                                forbids={"quantized", "shared", "masked"}, gives={"quantized"}))  # fmt: skip
@dataclass(frozen=True)
class XnorNet:
    """Train with weights a·sign(W) and inputs sign(x), all but the first and the last layer; then hold one bit each.

    scaled: multiply each product by K, the mean of |x| over what the output sees, as in the paper; without it, fewer
    operations, as many implementations have it. A layer reads the sign of what comes before its rectifier (batch
    norm, sign, layer, pooling); that of 0 is −1.

    Differs from the paper: scales have four significant bits; grouped convolutions keep real inputs; pooling stays where
    it is in the network.
    """

    scaled: bool = knob(True, among=(True, False))
    real_ends: bool = knob(True, among=(True, False), search=False)
    loss: Loss = CrossEntropy()
    habits: tuple = ()
    plan: Plan = Plan()

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` whose inner layers multiply signs by signs."""
        learning = net.copy()
        taken = learn_(learning, BinaryFilters, work.skip, self.real_ends)
        read_signs_(learning, taken, self.scaled, work.skip)
        work.use("fit")(learning, loss=self.loss, habits=self.habits, plan=self.plan)
        return hold_(learning)
