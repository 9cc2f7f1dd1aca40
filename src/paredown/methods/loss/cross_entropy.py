"""Cross-entropy with label smoothing."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob


@part("loss.cross_entropy", Card(title="Cross-entropy with label smoothing", paper="arxiv:1512.00567", year=2016,
                                 authors="Szegedy, Vanhoucke, Ioffe, Shlens, Wojna",
                                 source="Rethinking the Inception Architecture for Computer Vision, section 7"))  # fmt: skip
@dataclass(frozen=True)
class CrossEntropy:
    """Mean cross-entropy against labels mixed with the uniform distribution.

    smoothing: the uniform distribution's share, 0 to 0.5.
    """

    smoothing: float = knob(0.0, low=0.0, high=0.5)

    def of(self, student: Tensor, target: Tensor, teacher: Tensor | None = None) -> Tensor:
        """Return the scalar loss of scores (n × classes) against labels (n). The teacher is not looked at."""
        return torch.nn.functional.cross_entropy(student, target, label_smoothing=self.smoothing)
