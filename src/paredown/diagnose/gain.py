"""What a change of the network gives, from the scores before and after on the same samples."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from paredown.core.diagnosis import Gain


def log_probabilities(scores: np.ndarray) -> np.ndarray:
    """Return log softmax of scores [n, classes], in float64; scores that are not finite count as −10³⁰."""
    scores = np.where(np.isfinite(scores), scores, -1e30).astype(np.float64)
    shifted = scores - scores.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def divergence(reference: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean over samples of KL(p ‖ q) in nats: p, q are the softmax of the reference's scores and of `scores`."""
    p, q = log_probabilities(reference), log_probabilities(scores)
    return max(0.0, float((np.exp(p) * (p - q)).sum(1).mean()))


def paired(mended: int, broken: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return an interval of the difference of two shares on the same n samples (Bonett & Price 2012, eq. 3).

    mended, broken: samples that only the second, only the first gets right. One is added to each before the normal
    approximation, so that few changes, or none, do not give an interval of no width.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    more, less = (mended + 1) / (n + 2), (broken + 1) / (n + 2)
    half = z * math.sqrt((more + less - (more - less) ** 2) / (n + 2))
    return max(-1.0, more - less - half), min(1.0, more - less + half)


@dataclass(frozen=True, eq=False)
class Judge:
    """Compares networks by their scores: labels [n] and the float network's scores [n, classes]."""

    labels: np.ndarray
    reference: np.ndarray

    def right(self, scores: np.ndarray) -> np.ndarray:
        """Return which samples are answered as labelled."""
        found: np.ndarray = log_probabilities(scores).argmax(1) == self.labels
        return found

    def accuracy(self, scores: np.ndarray) -> float:
        """Return the share of samples answered as labelled."""
        return float(self.right(scores).mean())

    def loss(self, scores: np.ndarray) -> float:
        """Return the mean cross entropy in nats."""
        return -float(log_probabilities(scores)[np.arange(len(self.labels)), self.labels].mean())

    def divergence(self, scores: np.ndarray) -> float:
        """Return the divergence from the float network's answers, in nats."""
        return divergence(self.reference, scores)

    def gain(self, before: np.ndarray, after: np.ndarray) -> Gain:
        """Return what going from the scores `before` to `after` gives."""
        was, now = self.right(before), self.right(after)
        mended, broken, n = int((now & ~was).sum()), int((was & ~now).sum()), len(self.labels)
        low, high = paired(mended, broken, n)
        far = self.divergence(before)
        nearer = self.divergence(after) - far
        share = -nearer / far if far > 0 else 0.0
        return Gain(
            (mended - broken) / n, low, high, n, mended, broken, self.loss(after) - self.loss(before), nearer, share
        )
