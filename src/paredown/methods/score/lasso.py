"""Channels by when an L1 penalty drops them from the next layer's output."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import lars_path_gram
from torch import Tensor

from paredown.core.catalog import Card, part
from paredown.core.knob import knob
from paredown.core.work import Work
from paredown.graph.contributions import contributions
from paredown.graph.groups import Group, filters
from paredown.graph.importance import refused
from paredown.graph.net import Net


def leaves_at(rows: Tensor, norms: Tensor | None = None) -> Tensor:
    """Return for each channel the largest λ at which its β is not zero, as a share of the λ at which all are.

    rows: what channel j adds to output i; y_i is their sum over j. norms: what each column is divided by for Z (default:
    nothing). β(λ) = argmin ½ ‖y − Z β‖² + λ ‖β‖₁, followed by least angles (Efron et al. 2004), exactly. A channel that
    never enters has 0.
    """
    z = (rows.double() if norms is None else rows.double() / norms).numpy()
    z = z * _distinct(rows.double()).numpy()
    second, crossed = z.T @ z, z.T @ rows.double().sum(1).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # channels that others add up to stay out
        alphas, _, path = lars_path_gram(crossed, second, n_samples=len(z), method="lasso")
    if not len(alphas) or alphas[0] <= 0:
        return torch.zeros(z.shape[1], dtype=torch.float64)
    inside = path != 0
    entered = np.where(inside.any(1), np.maximum(inside.argmax(1) - 1, 0), len(alphas))
    return torch.from_numpy(np.append(alphas / alphas[0], 0.0)[entered])


def _distinct(rows: Tensor) -> Tensor:
    """Return False for each column that is a multiple of another one which is longer, or as long and stands before it."""
    sizes = rows.norm(dim=0)
    unit = rows / torch.where(sizes > 0, sizes, 1.0)
    order = sizes.argsort(descending=True, stable=True)
    alike = (unit.T @ unit).abs()[order][:, order] > 1 - 1e-9
    out = torch.ones(len(sizes), dtype=torch.bool)
    out[order] = ~alike.tril(-1).any(1)
    return out


@part("score.lasso", Card(title="Channel selection by LASSO", paper="arxiv:1707.06168", year=2017,
                          authors="He, Zhang, Sun",
                          source="Channel Pruning for Accelerating Very Deep Neural Networks, section 3.1",
                          needs=frozenset({"calib"})))  # fmt: skip
@dataclass(frozen=True)
class Lasso:
    """The penalty λ at which a channel leaves min_β ‖Y − Σ β_i X_i W_iᵀ‖² + λ ‖β‖₁, as a share of the largest: 0 goes first.

    images, places, outputs: samples of each class, places of each one's output, and random output channels at each
    place that are looked at. Each W_i is scaled to ‖W_i‖ = 1 first, as in the paper. The second half of the method, W by
    least squares, is `prune.channels` with repair. Units that no convolution or linear layer mixes stay, and are noted.

    Differs from the paper: the whole path of λ at once, in place of a search for the λ that leaves c' channels; some
    random output channels, not all; W is refit once, not in turns with β; all layers are ranked before any is pruned.
    """

    images: int = knob(10, low=1, high=1000, search=False)
    places: int = knob(10, low=1, high=1000, search=False)
    outputs: int = knob(8, low=1, high=1000, search=False)

    def importance(self, net: Net, group: Group, work: Work) -> Tensor:
        """Return the relative λ at which each unit of `group` leaves, 0 to 1; needs the calibration split."""
        return self.importances(net, [group], work)[0]

    def importances(self, net: Net, groups: Sequence[Group], work: Work) -> list[Tensor]:
        """Return the relative λ at which each unit of each group leaves, from one pass."""
        sizes = (self.images, self.places, self.outputs)
        found = []
        for group, rows in zip(groups, contributions(net, groups, work.use("calib"), sizes, work.seed), strict=True):
            if rows is None:
                found.append(refused(group, work, "no layer mixes its channels, so score.lasso cannot rank them"))
                continue
            norms = torch.stack([w.detach().double().norm() for w in filters(net, group, group.readers)]).cpu()
            found.append(leaves_at(rows, torch.where(norms > 0, norms, 1.0)))
        return found
