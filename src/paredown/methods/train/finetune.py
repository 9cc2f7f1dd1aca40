"""Training as a step."""

from dataclasses import dataclass
from typing import Any

from paredown.core.catalog import Card, part
from paredown.core.kinds import Habit, Loss
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.methods.loss.cross_entropy import CrossEntropy


@part("train.finetune", Card(title="Train the network as it is", needs={"fit"}, forbids={"quantized"}, year=0,
                             source="stochastic gradient descent with AdamW (arxiv:1711.05101)"))  # fmt: skip
@dataclass(frozen=True)
class Finetune:
    """Train all that can be trained: a fresh network from scratch, a pruned or shared one to mend it.

    loss: a loss part. habits: habit parts, in order. plan: epochs, learning rate, batch, schedule and so on.
    """

    loss: Loss = CrossEntropy()
    habits: tuple[Habit, ...] = ()
    plan: Plan = Plan()

    def apply(self, net: Any, work: Work) -> Any:
        """Return a trained copy of `net`."""
        trained = net.copy()
        work.use("fit")(trained, loss=self.loss, habits=self.habits, plan=self.plan)
        return trained
