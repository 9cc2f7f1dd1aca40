"""The weights that matter least held at zero."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.kinds import Saliency, Structure
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.masks import SCOPES, below_all, mask_, mask_of, maskable
from paredown.graph.net import Net
from paredown.methods.saliency.magnitude import Magnitude
from paredown.methods.structure.granularity import Granularity


def sparsities(last: float, rounds: int, schedule: str) -> list[float]:
    """Return the sparsity after each round: 1 − (1 − last)^(k/rounds) if "exponential", else last · k/rounds."""
    parts = [k / rounds for k in range(1, rounds)]
    return [1 - (1 - last) ** p if schedule == "exponential" else last * p for p in parts] + [last]


def eased_dropout(rate: float, before: int, after: int) -> float:
    """Return the dropout rate to train a pruned layer with: rate · √(after / before), Han et al. 2015, equation 2.

    rate: the one that the whole layer was trained with. before, after: how many connections the layer had and has left;
    of a dense layer inputs times outputs, of a masked one the weights that stay. A sparse layer fits less, so that less
    needs to be dropped. Raises BadInput for a rate outside 0 to 1, or for connections that do not fall.
    """
    if not 0 <= rate < 1:
        raise BadInput(f"a dropout rate of {rate} is not allowed; 0 to below 1")
    if not 0 <= after <= before or not before:
        raise BadInput(f"a layer of {before} connections cannot have {after} of them left")
    return rate * math.sqrt(after / before)


@part("prune.weights", Card(title="Fine-grained pruning", paper="arxiv:1506.02626", year=2015,
                            authors="Han, Pool, Tran, Dally; rounds without training: Tanaka, Kunin, Yamins, Ganguli",
                            source="arxiv:1506.02626, section 3; rounds: arxiv:2006.05467, section 6",
                            changes=frozenset({"nonzero"}), forbids=frozenset({"quantized", "shared"}),
                            gives=frozenset({"masked"})))  # fmt: skip
@dataclass(frozen=True)
class Weights:
    """Hold the least salient weights of convolutions and linear layers at zero; biases and norms stay.

    sparsity: fraction of weights at zero, 0 to 0.999. saliency: what a weight is worth. structure: what goes at once.
    scope: "layer" takes the sparsity from each weight, "global" from all together, which may empty a layer; that is
    noted. rounds: how often saliencies are taken afresh on the way, without training; schedule: "exponential" multiplies
    the density by the same in each round, "linear" adds the same sparsity.

    Nothing shrinks by itself: zeros cost fewer bytes once coded, and no operations on a dense runtime. Weights already
    masked stay so, and count. Only saliencies that look at data use the calibration split.
    """

    sparsity: float = knob(0.5, low=0.0, high=0.999)
    saliency: Saliency = field(default_factory=Magnitude)
    structure: Structure = field(default_factory=Granularity)
    scope: str = knob("layer", among=SCOPES)
    rounds: int = knob(1, low=1, high=10_000, log=True, search=False)
    schedule: str = knob("exponential", among=("exponential", "linear"), search=False)

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with masked weights; weights that keep all or nothing are noted."""
        out = net.copy()
        names = maskable(out, work.skip)
        for sparsity in sparsities(self.sparsity, self.rounds, self.schedule):
            self._mask(out, names, sparsity, work)
        for name in names:
            if not mask_of(out, name).any():
                work.skip(name, "the layer has collapsed: none of its weights stays; lower sparsity or scope='layer'")
            elif mask_of(out, name).all():
                work.skip(name, "all of its weights stay: none of them is among those that go")
        return out

    def _mask(self, out: Net, names: Sequence[str], sparsity: float, work: Work) -> None:
        part_name, card = type(self.saliency).part_name, type(self.saliency).card  # type: ignore[attr-defined]
        found = self.saliency.saliencies(out, names, work.scoped(part_name, card.needs))
        ranked = below_all(found, {name: mask_of(out, name) for name in names})
        for name, stays in self.structure.stays(ranked, sparsity, self.scope).items():
            if not stays.all():
                mask_(out, name, stays)
