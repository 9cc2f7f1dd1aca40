"""Weights that a network computes from others, stored as they come out."""

from dataclasses import dataclass

from paredown.core.catalog import Card, part
from paredown.core.work import Work
from paredown.graph.computed import with_stored_weights
from paredown.graph.net import Net


@part("edit.store_weights", Card(title="Computed weights stored as they come out", paper="arxiv:1903.10520", year=2019,
                                 authors="Qiao, Wang, Liu, Shen, Yuille", source="Weight Standardization, section 3: what is computed",
                                 forbids=frozenset({"quantized", "shared", "masked"})))  # fmt: skip
@dataclass(frozen=True)
class StoreWeights:
    """Store what standardised, normalised or scaled weights come out as, so that their channels can be pruned.

    The network computes the same. Before this step such weights stay whole: without some of its inputs a standardised
    filter would have other statistics than the masked one. Training afterwards moves the weights themselves, and what
    they were computed by is gone: where that helped training, train first.
    """

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` in which every layer's weight is stored; those that already are, are noted."""
        out, names = with_stored_weights(net)
        for name, _ in out.weighted():
            if name not in names:
                work.skip(name, "it is stored as it is used")
        return out
