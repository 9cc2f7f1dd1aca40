"""A sparse network that trains from where the dense one began."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.kinds import Habit, Loss
from paredown.core.knob import knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.masks import SCOPES, below_all, mask_, mask_of, maskable
from paredown.graph.net import Net
from paredown.graph.slots import Free, Masked
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.structure.granularity import Granularity

CONTROLS = ("ticket", "reinit", "shuffled")


def shuffled(value: Tensor, draw: torch.Generator) -> Tensor:
    """Return the values of a tensor in an order of chance."""
    order = torch.randperm(value.numel(), generator=draw).to(value.device)
    return value.flatten()[order].view_as(value)


@torch.no_grad()
def controlled(ticket: Net, control: str, seed: int) -> Net:
    """Return a copy of a ticket with its values ("reinit") or its masks ("shuffled") shuffled within each tensor."""
    out, draw = ticket.copy(), torch.Generator().manual_seed(seed)
    for name in out.slot_names():
        slot = out.slot(name)
        if control == "reinit" and isinstance(slot, Free | Masked):
            slot.value.copy_(shuffled(slot.value, draw))
        elif control == "shuffled" and isinstance(slot, Masked):
            slot.mask.copy_(shuffled(slot.mask, draw))
    return out


@part("prune.lottery", Card(title="Lottery tickets by iterative magnitude pruning", paper="arxiv:1803.03635", year=2019,
                            authors="Frankle, Carbin; rewinding: Frankle, Dziugaite, Roy, Carbin",
                            source="The Lottery Ticket Hypothesis, section 1; rewinding: arxiv:1912.05671, section 3",
                            changes=frozenset({"nonzero"}), needs=frozenset({"fit"}),
                            forbids=frozenset({"quantized", "shared"}), gives=frozenset({"masked"})))  # fmt: skip
@dataclass(frozen=True)
class Lottery:
    """Train, mask the smallest weights, put the others back to where they began; again and again. Returns it untrained.

    It is given a fresh network, and returns it masked: (1 − rate)^rounds of the weights, at the values they had (or, with
    rewind, after this share of the plan's epochs); `train.finetune` then trains the ticket. end_rate: the last layer's
    rate as a share of the others'. scope: which weights are ranked together; the last layer is ranked by itself.
    control: "reinit" shuffles the values of each tensor, "shuffled" its mask, to compare a ticket with. Norms and
    biases go back too. Costs `rounds` trainings.

    Differs from the paper: the new initial values are the old ones in another order, which is a new draw where a tensor's
    values are drawn alike; with rewind it is not.
    """

    rate: float = knob(0.2, low=0.01, high=0.9)
    rounds: int = knob(5, low=1, high=50)
    end_rate: float = knob(0.5, low=0.0, high=1.0, search=False)
    rewind: float = knob(0.0, low=0.0, high=0.9)
    scope: str = knob("layer", among=SCOPES)
    control: str = knob("ticket", among=CONTROLS, search=False)
    plan: Plan = Plan()
    loss: Loss = CrossEntropy()
    habits: tuple[Habit, ...] = ()

    def apply(self, net: Net, work: Work) -> Net:
        """Return a copy of `net` with the masks that training found and the values it began with."""
        start = net.copy()
        names = maskable(start, work.skip)
        if self.rewind:
            self._fit(start, self.rewind * self.plan.epochs, work)
        ticket = start.copy()
        for at in range(1, self.rounds + 1):
            trained = ticket.copy()
            self._fit(trained, self.plan.epochs, work)
            for name, stays in self._stays(trained, names, at).items():
                mask_(ticket, name, stays)
        for name in names:
            if not mask_of(ticket, name).any():
                work.skip(name, "the layer has collapsed: none of its weights stays; fewer rounds, or a lower rate")
        return ticket if self.control == "ticket" else controlled(ticket, self.control, work.seed)

    def _fit(self, net: Net, epochs: float, work: Work) -> None:
        plan = dataclasses.replace(self.plan, epochs=epochs)
        work.use("fit")(net, loss=self.loss, habits=self.habits, plan=plan)

    def _stays(self, trained: Net, names: list[str], at: int) -> dict[str, Tensor]:
        """Return what stays after `at` rounds: of all but the last layer, and of the last."""
        sizes = {name: trained.slot(name)().detach().abs() for name in names}
        ranked = below_all(sizes, {name: mask_of(trained, name) for name in names})
        found: dict[str, Tensor] = {}
        for some, rate in ((names[:-1], self.rate), (names[-1:], self.rate * self.end_rate)):
            part = {name: ranked[name] for name in some}
            found |= Granularity().stays(part, 1 - (1 - rate) ** at, self.scope)
        return found
