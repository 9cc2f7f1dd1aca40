"""Knowledge distillation with softened scores."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T² · KL(softmax(teacher / T) ‖ softmax(student / T)), averaged over the batch."""
    soft = torch.nn.functional.log_softmax(teacher / temperature, dim=1)
    mine = torch.nn.functional.log_softmax(student / temperature, dim=1)
    return temperature**2 * torch.nn.functional.kl_div(mine, soft, reduction="batchmean", log_target=True)


@part("loss.soften", Card(title="Distilling the knowledge in a neural network", paper="arxiv:1503.02531", year=2015,
                          authors="Hinton, Vinyals, Dean",
                          source="Distilling the Knowledge in a Neural Network, section 2"))  # fmt: skip
@dataclass(frozen=True)
class Soften:
    """(1 − share) · cross-entropy + share · T² · KL between softened scores. Without a teacher: cross-entropy alone.

    temperature: T, 1 to 20. share: weight of the teacher, 0 to 1. smoothing: label smoothing of the hard part. teacher: "self",
    the network as it was before the step that has this loss, or a model of the zoo, which is trained first, once.
    """

    temperature: float = knob(4.0, low=1.0, high=20.0)
    share: float = knob(0.7, low=0.0, high=1.0)
    smoothing: float = knob(0.0, low=0.0, high=0.5)
    teacher: str = "self"

    def of(self, student: Tensor, target: Tensor, teacher: Tensor | None = None) -> Tensor:
        """Return the scalar loss of scores (n × classes) against labels (n) and the teacher's scores."""
        hard = torch.nn.functional.cross_entropy(student, target, label_smoothing=self.smoothing)
        if teacher is None:
            return hard
        return (1 - self.share) * hard + self.share * distillation(student, teacher, self.temperature)
