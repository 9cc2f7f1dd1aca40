"""Training with masks that move."""

from dataclasses import dataclass, field

from paredown.core.catalog import Card, part
from paredown.core.kinds import Habit, Loss, Saliency, Structure
from paredown.core.knob import knob
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.latent import hold_
from paredown.graph.masks import SCOPES, Moving, below_all, mask_of, maskable
from paredown.graph.net import Net
from paredown.methods.habit.rigl import RigL
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.saliency.magnitude import Magnitude
from paredown.methods.structure.granularity import Granularity


@part("prune.dynamic", Card(title="Training with masks that move", paper="arxiv:1911.11134", year=2020,
                            authors="Evci, Gale, Menick, Castro, Elsen",
                            source="Rigging the Lottery, section 3; the habit says which rule moves the masks",
                            changes=frozenset({"nonzero"}), needs=frozenset({"fit"}),
                            forbids=frozenset({"quantized", "shared"}), gives=frozenset({"masked"})))  # fmt: skip
@dataclass(frozen=True)
class Dynamic:
    """Mask weights, train while a habit moves the masks, then hold them.

    habit: what moves the masks: `habit.rigl`, `habit.set`, `habit.gradual` (sparsity=0 to begin dense) or `habit.sr_ste`
    (with `structure.n_m`). sparsity, saliency, structure, scope: the masks that training begins with, as in
    `prune.weights`; what was masked before is where it begins too. Saliencies that look at data are given the services that
    this step has. Habits alone do not do: while masks move, gradients must reach masked weights (`graph.masks.Moving`).
    """

    sparsity: float = knob(0.8, low=0.0, high=0.999)
    habit: Habit = field(default_factory=RigL)
    saliency: Saliency = field(default_factory=Magnitude)
    structure: Structure = field(default_factory=Granularity)
    scope: str = knob("layer", among=SCOPES)
    loss: Loss = CrossEntropy()
    habits: tuple[Habit, ...] = ()
    plan: Plan = Plan()

    def apply(self, net: Net, work: Work) -> Net:
        """Return a trained copy of `net` with the masks that the habit left."""
        learning = net.copy()
        names = maskable(learning, work.skip)
        part_name, card = type(self.saliency).part_name, type(self.saliency).card  # type: ignore[attr-defined]
        found = self.saliency.saliencies(learning, names, work.scoped(part_name, card.needs))
        masks = {name: mask_of(learning, name) for name in names}
        for name, stays in self.structure.stays(below_all(found, masks), self.sparsity, self.scope).items():
            learning.set_slot(name, Moving(learning.slot(name).value, stays & masks[name]))
        work.use("fit")(learning, loss=self.loss, habits=(self.habit, *self.habits), plan=self.plan)
        return hold_(learning)
