"""Metrics over scores, with intervals.

Every metric takes logits (n × classes, float) and labels (n, integer) and returns one number. Accuracy has Wilson's
score interval (Wilson 1927, eq. 5 as in Agresti & Coull 1998); the others a percentile bootstrap with a fixed seed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from paredown.core.errors import BadInput


@dataclass(frozen=True)
class Quality:
    """A metric's value on one split, with an interval at `confidence` and the number of samples behind it."""

    metric: str
    split: str
    value: float
    low: float
    high: float
    n: int
    confidence: float = 0.95
    seeds: int = 1

    def to_json(self) -> dict[str, object]:
        """Return the fields as a JSON object."""
        return dict(vars(self))

    @staticmethod
    def of_json(data: dict) -> "Quality":
        """Return the Quality that `to_json` wrote."""
        return Quality(**{k: data[k] for k in Quality.__dataclass_fields__ if k in data})


@dataclass(frozen=True)
class Metric:
    """A metric's name, its function and whether higher is better."""

    name: str
    function: Callable[[np.ndarray, np.ndarray], float]
    higher_is_better: bool = True
    low: float = 0.0
    high: float = 1.0

    def reached(self, value: float, floor: float) -> bool:
        """Return whether `value` is at least as good as `floor` in this metric's direction."""
        return value >= floor if self.higher_is_better else value <= floor

    def check_floor(self, floor: float) -> float:
        """Return `floor` as a float, or raise BadInput naming the range this metric can take."""
        if isinstance(floor, bool) or not isinstance(floor, int | float) or not math.isfinite(floor):
            raise BadInput(f"floor {floor!r} is not a number; give {self.low:g} to {self.high:g} for {self.name}")
        if not self.low <= floor <= self.high:
            hint = f"; did you mean {floor / 100:g}?" if self.high == 1.0 and 1 < floor <= 100 else ""
            raise BadInput(f"floor {floor:g} is outside {self.low:g} to {self.high:g} for {self.name}{hint}")
        return float(floor)


def _probabilities(scores: np.ndarray) -> np.ndarray:
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of samples whose highest score is the label's."""
    return float((scores.argmax(axis=1) == labels).mean())


def macro_f1(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the unweighted mean over classes of the F1 score."""
    return float(f1_score(labels, scores.argmax(axis=1), average="macro", zero_division=0))


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the area under the ROC curve; one class against the rest, averaged, when there are more than two."""
    probabilities = _probabilities(scores.astype(np.float64))
    if probabilities.shape[1] == 2:
        return float(roc_auc_score(labels, probabilities[:, 1]))
    return float(roc_auc_score(labels, probabilities, multi_class="ovr", labels=np.arange(scores.shape[1])))


def mean_log_loss(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative log-likelihood of the label under softmax(scores), in nats."""
    return float(log_loss(labels, _probabilities(scores.astype(np.float64)), labels=np.arange(scores.shape[1])))


METRICS = {
    m.name: m
    for m in (
        Metric("accuracy", accuracy),
        Metric("macro_f1", macro_f1),
        Metric("auc", auc),
        Metric("log_loss", mean_log_loss, higher_is_better=False, high=100.0),
    )
}


def metric_named(name: str) -> Metric:
    """Return the metric called `name`, or raise BadInput listing those there are."""
    if name not in METRICS:
        raise BadInput(f"metric {name!r} is unknown; allowed: {', '.join(METRICS)}")
    return METRICS[name]


def wilson(value: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's two-sided score interval for a proportion `value` observed on `n` samples."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def quality(metric: Metric, split: str, scores: np.ndarray, labels: np.ndarray, confidence: float = 0.95) -> Quality:
    """Return the metric on (scores, labels) with its interval. A NaN or +inf score makes its sample count as wrong."""
    scores = _wrong_where_broken(scores, labels)
    value, n = metric.function(scores, labels), len(labels)
    if metric.name == "accuracy":
        low, high = wilson(value, n, confidence)
    else:
        low, high = _bootstrap(metric, scores, labels, confidence)
    return Quality(metric.name, split, value, low, high, n, confidence)


def _wrong_where_broken(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    # All-NaN scores would else count as right wherever the label is class 0.
    scores = np.where(np.isneginf(scores), -1e30, scores.astype(np.float64))
    broken = ~np.isfinite(scores).all(axis=1)
    scores[broken] = 0.0
    scores[broken, labels[broken]] = -1e30
    return scores


def _bootstrap(metric: Metric, scores: np.ndarray, labels: np.ndarray, confidence: float) -> tuple[float, float]:
    draw = np.random.default_rng(0)
    values = []
    for _ in range(200):
        pick = draw.integers(0, len(labels), len(labels))
        if len(np.unique(labels[pick])) == len(np.unique(labels)):
            values.append(metric.function(scores[pick], labels[pick]))
    if not values:
        return metric.low, metric.high
    tail = (1 - confidence) / 2
    return float(np.quantile(values, tail)), float(np.quantile(values, 1 - tail))
