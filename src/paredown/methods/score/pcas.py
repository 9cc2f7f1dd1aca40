"""Channels by the attention that they get from modules trained for the purpose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from paredown.core.catalog import Card, part
from paredown.core.kinds import Loss
from paredown.core.knob import knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.features import Place, by_unit, read, shown
from paredown.graph.groups import Group, groups
from paredown.graph.importance import refused
from paredown.graph.net import Net
from paredown.graph.watched import Watched
from paredown.methods.loss.cross_entropy import CrossEntropy


class Attention(nn.Module):
    """Multiplies each channel with a number of (0, 1) that two linear layers make of all channels' means.

    channels: along dimension `dim` of the value. reduction: by what the layer between is narrower. The first factors are
    about sigmoid(2) = 0.88, so that the frozen network still works.
    """

    def __init__(self, channels: int, dim: int, reduction: int) -> None:
        super().__init__()
        self.dim, inner = dim, max(1, channels // reduction)
        last = nn.Linear(inner, channels)
        nn.init.constant_(last.bias, 2.0)
        self.attend = nn.Sequential(nn.Linear(channels, inner), nn.ReLU(), last, nn.Sigmoid())

    def forward(self, value: Tensor) -> Tensor:
        channels = value.movedim(self.dim, 1)
        attention = self.attend(channels.flatten(2).mean(2) if channels.dim() > 2 else channels)
        shape = [1] * value.dim()
        shape[0], shape[self.dim] = attention.shape
        return value * attention.view(shape)


class Attended(Watched):
    """A network in which only attention modules are trained: all else is frozen, and its norms keep their statistics."""

    def __init__(self, net: Net, passes: Mapping[str, Attention]) -> None:
        held = net.copy().eval()
        super().__init__(held, passes)
        for slot in self.slots.values():
            slot.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode; attention has no other."""
        return super().train(False)


@torch.no_grad()
def mean_attention(net: Attended, x: Tensor, batch: int = 64) -> dict[str, Tensor]:
    """Return {value: the mean over `x` of the attention of each of its channels}."""
    total: dict[str, Tensor] = {}
    hooks = []
    for name in [node.name for node in net.spec.nodes]:
        if module := net.passing(name):

            def note(_: nn.Module, __: tuple, out: Tensor, name: str = name) -> None:
                total[name] = total.get(name, 0.0) + out.double().sum(0).cpu()

            hooks.append(module.attend.register_forward_hook(note))
    for rows in x.split(batch):
        net.eval()(rows)
    for hook in hooks:
        hook.remove()
    return {name: found / len(x) for name, found in total.items()}


@part("score.pcas", Card(title="PCAS", paper="arxiv:1806.05382", year=2018, authors="Yamamoto, Maeno",
                         source="PCAS: Pruning Channels with Attention Statistics, section 3",
                         needs=frozenset({"calib", "fit"})))  # fmt: skip
@dataclass(frozen=True)
class Pcas:
    """The mean attention that a channel gets over the calibration split; values compare across the whole network.

    Attention modules (means over positions, linear, ReLU, linear, sigmoid) are put behind the nonlinearities of each group,
    or where there are none behind what the next layers read; they alone are trained, and dropped. With several modules
    the mean counts. The paper's one ratio for the network is `prune.channels` with scope="global".
    reduction: by how much the layer between is narrower. loss, plan: of the modules' training.

    Differs from the paper: modules stand behind the nonlinearity, start nearly open, and the last layer is not trained
    with them.
    """

    reduction: int = knob(8, low=1, high=1024, search=False)
    loss: Loss = CrossEntropy()
    plan: Plan = Plan(epochs=5, lr=3e-3)

    comparable = True

    def importance(self, net: Net, group: Group, work: Work) -> Tensor:
        """Return the mean attention of each unit of `group`; the modules of all groups are trained for it."""
        found = [own for own in groups(net) if len(own)]
        return self.importances(net, found, work)[[own.name for own in found].index(group.name)]

    def importances(self, net: Net, groups: Sequence[Group], work: Work) -> list[Tensor]:
        """Return the mean attention of each unit of each group; needs the calibration split and training."""
        places = _places(net, groups)
        values = {place.value: place for own in places for place in own}
        with torch.random.fork_rng():
            torch.manual_seed(work.seed)
            made = {name: Attention(len(p.units), p.dim, self.reduction) for name, p in values.items()}
        attended = Attended(net, made).to(work.use("calib")[0].device)
        if made:
            work.use("fit")(attended, loss=self.loss, habits=(), plan=self.plan)
        means = mean_attention(attended, work.use("calib")[0])
        found = []
        for group, own in zip(groups, places, strict=True):
            if own:
                found.append(by_unit(own, [means[place.value] for place in own], len(group)))
            else:
                found.append(refused(group, work, "nothing that can be looked at carries its channels"))
        return found


def _places(net: Net, groups: Sequence[Group]) -> list[list[Place]]:
    pairs = zip(shown(net, groups), read(net, groups), strict=True)
    return [after or [place for _, place in before] for after, before in pairs]
