"""Channels without connections removed: fewer parameters, the same function."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.work import Work
from paredown.graph.groups import Group, filters, groups
from paredown.graph.net import Net
from paredown.graph.shrink import TOLERANCE, Chosen, apart, remove_channels
from paredown.graph.thinning import order_of


def unconnected(net: Net, group: Group) -> Tensor:
    """Return True for each unit of which no weight that reads it, or none that makes it, is other than zero."""
    made, read = filters(net, group), filters(net, group, group.readers)
    return torch.tensor([not (m.any() and r.any()) if len(r) else not m.any() for m, r in zip(made, read, strict=True)])


@part("prune.dead_channels", Card(title="Neurons without connections removed", paper="arxiv:1506.02626", year=2015,
                                  authors="Han, Pool, Tran, Dally",
                                  source="Learning both Weights and Connections for Efficient Neural Networks, section 3.5",
                                  changes=frozenset({"params", "bits", "macs"}),
                                  forbids=frozenset({"quantized", "shared"}), gives=frozenset({"thin"})))  # fmt: skip
@dataclass(frozen=True)
class DeadChannels:
    """Remove the channels that nothing reads, or that nothing makes: what masks have emptied, or training has.

    The network computes the same, in float64 to 1e-9: where it would not (a bias makes a constant of an empty channel, a
    norm takes its statistics over it) the channel stays, and is noted. After `prune.weights` it turns masks into a
    smaller network. Differs from the paper: it has such neurons die in retraining; here they go only if nothing changes.
    """

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` without its dead channels; layers that keep all theirs are noted."""
        found = groups(net)
        chosen = {group: dead for group in found if len(group) and (dead := self._dead(net, group))}
        out, gone = self._without(net, chosen)
        for group in found:
            for slot, why in group.frozen.items():
                work.skip(slot, why)
            kept = len(chosen.get(group, ())) - len(gone.get(group, ()))
            if kept or (len(group) and group not in gone):
                why = f"{kept} empty channels stay: without them the network would not compute the same"
                for slot in dict.fromkeys(slot for slot, _ in group.makers):
                    work.skip(slot, why if kept else "none of its channels is without connections")
        return out

    def _dead(self, net: Net, group: Group) -> tuple[int, ...]:
        """Return the dead units that may go, so that one stays of what must."""
        return order_of(group, torch.where(unconnected(net, group), 0.0, torch.inf))

    def _without(self, net: Net, chosen: Chosen) -> tuple[Net, Chosen]:
        """Return the network without as many of the units as change nothing, and those."""
        out, left = remove_channels(net, chosen)
        if not left and apart(net, out) <= TOLERANCE:
            return out, chosen
        good: dict[Group, tuple[int, ...]] = {}
        for group, units in chosen.items():
            for some in (units, *((unit,) for unit in units)) if len(units) > 1 else (units,):
                if set(some) <= set(good.get(group, ())):
                    continue
                trial = {**good, group: tuple(dict.fromkeys((*good.get(group, ()), *some)))}
                out, left = remove_channels(net, trial)
                if not left and apart(net, out) <= TOLERANCE:
                    good = trial
        return remove_channels(net, good)[0], good
