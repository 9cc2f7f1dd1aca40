"""Weights that a hash places: a few values stand in many places."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.latent import learnable
from paredown.graph.net import Net
from paredown.graph.vectors import MOST_ENTRIES, Hashed


def fitted(weight: Tensor, count: int, seed: int) -> Hashed:
    """Return `count` hashed values that are nearest to `weight` in squared error: of each bucket the mean of sign · w.

    A bucket that no entry falls into has the value 0.
    """
    slot = Hashed(torch.zeros(count), weight.shape, seed).to(weight.device)
    buckets, signed = slot.buckets.flatten(), (slot.sign * weight.detach()).flatten().double()
    sums = torch.bincount(buckets, weights=signed, minlength=count)
    with torch.no_grad():
        slot.values.copy_(sums / torch.bincount(buckets, minlength=count).clamp_min(1))
    return slot


@part("share.hashed", Card(title="HashedNets", paper="arxiv:1504.04788", year=2015,
                           authors="Chen, Wilson, Tyree, Weinberger, Chen",
                           source="Compressing Neural Networks with the Hashing Trick, section 4",
                           changes={"params", "bits", "bytes"}, forbids={"quantized", "shared", "masked"},
                           gives={"shared"}))  # fmt: skip
@dataclass(frozen=True)
class HashedNets:
    """Hold 1/`factor` as many values as each weight has entries, and let a hash say which stands where, with which sign.

    W[i] = sign(i) · values[bucket(i)], i in C order (eq. 3 and 7); bucket and sign are computed from i and the run's seed
    (`graph.hashing`), so nothing but the values is stored. They start as the least-squares fit to the weight,
    which is far from it: train afterwards. The gradient of a value is the sum of sign · gradient over its places
    (eq. 12). factor: 1.5 to 1024. Biases and norms stay as they are.

    Differs from the paper: MurmurHash3's finaliser of the flat index instead of xxHash of (i, j), its highest bit for the
    sign; convolutions as well; values that start from a trained weight instead of at random.
    """

    factor: float = knob(8.0, low=1.5, high=1024.0, log=True)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` whose weights are hashed values; weights that are left alone are noted."""
        out = net.copy()
        for name in list(learnable(net, work.skip)):
            weight = out.slot(name)().detach()
            count = max(1, math.floor(weight.numel() / self.factor))
            if weight.numel() < 2 or weight.numel() > MOST_ENTRIES:
                work.skip(str(name), f"it has {weight.numel():,} weights; allowed: 2 to {MOST_ENTRIES:,}")
            else:
                out.set_slot(name, fitted(weight, count, work.seed % 2**32))
        return out
