"""The rank of a noisy matrix, by empirical variational Bayesian matrix factorisation, in closed form."""

import math

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

GRID = 64
"""Variances that are tried, evenly on a logarithmic scale, before the best of them is refined."""

ROUNDING = 1e-9
"""Singular values below this share of the largest are taken for it: what rounding leaves is no Gaussian noise."""


def _tau(x: np.ndarray, alpha: float) -> np.ndarray:
    """Return τ(x; α) = ½ (x − (1 + α) + √((x − (1 + α))² − 4 α))."""
    shifted = x - (1 + alpha)
    return 0.5 * (shifted + np.sqrt(np.maximum(shifted**2 - 4 * alpha, 0)))


def free_energy(variance: float, values: np.ndarray, shape: tuple[int, int]) -> float:
    """Return the free energy, up to constants and scale, of noise of that variance.

    values: the singular values of an L×M matrix, L ≤ M. Σ ψ₁ over those above the threshold, ψ₀ over the others, with
    x = γ² / (M σ²), ψ₀(x) = x − ln x, ψ₁(x) = x − τ + ln((τ + 1) / x) + α ln(τ / α + 1).
    """
    (low, high), tiny = shape, np.finfo(float).tiny
    alpha = low / high
    bound = _threshold(alpha)
    x = np.maximum(values**2 / (high * variance), tiny)
    large, small = x[x > bound], x[x <= bound]
    tau = _tau(large, alpha)
    signal = large - tau + np.log((tau + 1) / large) + alpha * np.log(tau / alpha + 1)
    return float((small - np.log(small)).sum() + signal.sum())


def _threshold(alpha: float) -> float:
    """Return x̲ = (1 + τ̲)(1 + α / τ̲), τ̲ ≈ 2.5129 √α: the least x whose component is not zero."""
    tau = 2.5129 * math.sqrt(alpha)
    return (1 + tau) * (1 + alpha / tau)


def noise_variance(values: np.ndarray, shape: tuple[int, int]) -> float:
    """Return the variance of least free energy between its analytic bounds; singular values fall."""
    low, high = shape
    bound = _threshold(low / high)
    most = min(math.ceil(low / (1 + low / high)) - 1, low - 1)
    upper = float((values**2).sum()) / (low * high)
    lower = max(float(values[most]) ** 2 / (high * bound), float((values[most:] ** 2).mean()) / high)
    if not 0 < lower < upper:
        return max(lower, upper)
    tried = np.geomspace(lower, upper, GRID)
    at = int(np.argmin([free_energy(v, values, shape) for v in tried]))
    ends = tried[max(0, at - 1)], tried[min(GRID - 1, at + 1)]
    return float(minimize_scalar(free_energy, bounds=ends, args=(values, shape), method="bounded").x)


def variational_rank(matrix: Tensor) -> int:
    """Return the rank of a matrix of signal and Gaussian noise, the noise's variance unknown; 0 where all is noise.

    The global analytic solution of empirical VB matrix factorisation (Nakajima, Sugiyama, Babacan & Tomioka, Global Analytic
    Solution of Fully-observed Variational Bayesian Matrix Factorization, JMLR 14, 2013): the components
    with γ² > M σ² x̲, at the variance σ² of least free energy.
    """
    values = torch.linalg.svdvals(matrix.detach().double()).cpu().numpy()
    low, high = sorted(matrix.shape)
    if low == 0 or values[0] <= 0:
        return 0
    values = np.maximum(values / values[0], ROUNDING)
    variance = noise_variance(values, (low, high))
    return int((values**2 > high * variance * _threshold(low / high)).sum())
