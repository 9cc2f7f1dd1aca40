"""What a search knows: trials in order, at which effort, and what came of them."""

from dataclasses import dataclass, field
from typing import Any

from paredown.core.candidate import Result
from paredown.core.goal import Goal
from paredown.core.metric import Metric


@dataclass(frozen=True)
class Trial:
    """One trial: its number, rung (0 is the cheapest), effort, settings, candidate id, and result once there is one."""

    number: int
    rung: int
    effort: float
    settings: dict[str, Any]
    candidate: str
    result: Result | None = None

    @property
    def good(self) -> bool:
        """Whether the trial has an outcome."""
        return self.result is not None and self.result.failed is None and self.result.val is not None


@dataclass
class History:
    """The goal, the metric, and all trials so far."""

    goal: Goal
    metric: Metric
    test_n: int | None = None
    trials: list[Trial] = field(default_factory=list)

    def rung(self, rung: int) -> list[Trial]:
        """Return the trials of one rung that have an outcome."""
        return [t for t in self.trials if t.rung == rung and t.good]

    def quality(self, trial: Trial) -> float:
        """Return the validation value, higher is better."""
        assert trial.result is not None and trial.result.val is not None
        return trial.result.val.value if self.metric.higher_is_better else -trial.result.val.value

    def floor(self) -> float:
        """Return the floor in the same sense as `quality`."""
        return self.goal.floor if self.metric.higher_is_better else -self.goal.floor

    def amount(self, trial: Trial) -> float:
        """Return what is minimised."""
        assert trial.result is not None
        return trial.result.amount(self.goal.minimize)

    def excess(self, trial: Trial) -> list[float]:
        """Return, for each hard limit, by what share it is exceeded (0 or less: kept)."""
        assert trial.result is not None
        return [trial.result.amount(what) / size - 1 for what, size in self.goal.limits.items()]

    def fits(self, trial: Trial) -> bool:
        """Whether all hard limits are kept."""
        return all(excess <= 0 for excess in self.excess(trial))
