"""What a model is asked to do: inputs, roles, classes and the metric."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from paredown.core.metric import Metric, metric_named

ROLES = ("train", "calib", "val", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """One role's samples: `x` (n × sample shape, uint8 or float32) and integer labels `y` (n)."""

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
class Task:
    """Data with roles, a metric, and what may be done to a sample without changing its label.

    A model sees `x * scale` as float32; `shape` is one sample's shape, (channels, height, width) or (features,).
    `moves` names the label-preserving changes that augmentation may use: "shift", "rotate", "zoom", "flip", "noise".
    `notes` says what was found while reading (duplicates across roles, imbalance, roles made here).
    """

    name: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    metric_name: str = "accuracy"
    scale: float = 1.0
    moves: tuple[str, ...] = ()
    licence: str = ""
    source: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def metric(self) -> Metric:
        """The metric that floors are stated in."""
        return metric_named(self.metric_name)

    def inputs(self, role: str) -> np.ndarray:
        """Return a role's samples as a model sees them: float32, scaled."""
        return self.splits[role].x.astype(np.float32) * np.float32(self.scale)

    def without(self, *roles: str) -> "Task":
        """Return the task with some roles out of reach; the search is given `task.without("test")`."""
        return replace(self, splits={k: v for k, v in self.splits.items() if k not in roles})

    @cached_property
    def digest(self) -> str:
        """The sha256 over every role's bytes: what a result's identity depends on."""
        hasher = hashlib.sha256(repr((self.shape, self.classes, self.scale, self.metric_name)).encode())
        for role in sorted(self.splits):
            split = self.splits[role]
            hasher.update(role.encode())
            hasher.update(np.ascontiguousarray(split.x).view(np.uint8).data)
            hasher.update(np.ascontiguousarray(split.y).view(np.uint8).data)
        return hasher.hexdigest()
