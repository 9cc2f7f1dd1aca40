"""What is tried, and what came of it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from paredown.core.artifact import Artifact
from paredown.core.metric import Quality
from paredown.core.recipe import Recipe


@dataclass(frozen=True)
class Candidate:
    """A model (`{"model": id or path, **settings}`), a recipe for it, a seed, and what identifies the data."""

    spec: Mapping[str, Any]
    recipe: Recipe
    seed: int
    data: str

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits of the sha256 over everything that the result depends on."""
        return _digest(self.to_json())

    def prefix_ids(self) -> list[str]:
        """Return an id for the state after each step: work up to there is shared by all candidates that have it."""
        return [_digest({**self.to_json(), "recipe": prefix.to_json()}) for prefix in self.recipe.prefixes()]

    def to_json(self) -> dict[str, Any]:
        """Return the candidate as JSON."""
        return {
            "spec": dict(self.spec),
            "recipe": self.recipe.to_json(),
            "seed": self.seed,
            "data": self.data,
            "code": REVISION,
        }

    @staticmethod
    def of_json(data: dict[str, Any]) -> "Candidate":
        """Return the candidate that `to_json` wrote."""
        return Candidate(data["spec"], Recipe.of_json(data["recipe"]), data["seed"], data["data"])


REVISION = "1"
"""Raised whenever the same recipe would give another result."""


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Result:
    """A candidate's outcome: its first target's file, its quality on validation in that file's runtime, its counted cost.

    `failed` says in one line why there is no outcome; then the numbers mean nothing. `steps` is the story: for each step
    the validation value and the file's bytes after it, and the seconds it took. Counted, modelled and measured costs stand
    apart: `cost` holds counts, `modelled` {name: {"value", "model", "version"}}, `measured` what a clock said.
    """

    id: str
    file_bytes: int = 0
    val: Quality | None = None
    test: Quality | None = None
    artifacts: tuple[Artifact, ...] = ()
    cost: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Mapping[str, Any], ...] = ()
    layers: tuple[Mapping[str, Any], ...] = ()
    seconds: float = 0.0
    failed: str | None = None
    modelled: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def amount(self, what: str) -> float:
        """Return the cost called `what`. Raises KeyError."""
        if what == "file_bytes":
            return float(self.file_bytes)
        if what in self.modelled:
            return float(self.modelled[what]["value"])
        return float(self.measured[what]) if what in self.measured else float(self.cost[what])

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON."""
        return {
            **vars(self), "schema": "paredown/result/1",
            "val": self.val.to_json() if self.val else None, "test": self.test.to_json() if self.test else None,
            "artifacts": [a.to_json() for a in self.artifacts], "cost": dict(self.cost), "measured": dict(self.measured),
            "modelled": {what: dict(estimate) for what, estimate in self.modelled.items()},
            "steps": [dict(s) for s in self.steps], "layers": [dict(row) for row in self.layers],
        }  # fmt: skip

    @staticmethod
    def of_json(data: dict[str, Any]) -> "Result":
        """Return the result that `to_json` wrote."""
        known = {k: data[k] for k in Result.__dataclass_fields__ if k in data}
        for key in ("val", "test"):
            known[key] = Quality.of_json(data[key]) if data.get(key) else None
        known["artifacts"] = tuple(Artifact.of_json(a) for a in data.get("artifacts", ()))
        known["steps"], known["layers"] = tuple(data.get("steps", ())), tuple(data.get("layers", ()))
        return Result(**known)
