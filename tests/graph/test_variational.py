"""The rank of planted signals in noise of unknown size."""

import numpy as np
import pytest
import torch

from paredown.graph.variational import free_energy, noise_variance, variational_rank


@pytest.mark.parametrize("shape", [(60, 90), (120, 40), (80, 80)])
@pytest.mark.parametrize("rank", [0, 1, 4, 10])
def test_planted_ranks_are_found_whatever_the_noises_scale(shape: tuple[int, int], rank: int) -> None:
    for seed, scale in ((0, 1.0), (1, 1e-4), (2, 300.0)):
        draw = torch.Generator().manual_seed(seed)
        u = torch.linalg.qr(torch.randn(shape[0], max(1, rank), generator=draw))[0]
        v = torch.linalg.qr(torch.randn(shape[1], max(1, rank), generator=draw))[0]
        signal = (u * torch.linspace(40, 80, max(1, rank))) @ v.T if rank else 0.0
        matrix = scale * (signal + torch.randn(shape, generator=draw))
        assert variational_rank(matrix) == rank
        assert variational_rank(matrix.T) == rank


def test_signals_below_the_noise_are_noise() -> None:
    """At √(M σ² x̲) a component disappears: one well below it is not counted, one well above it is."""
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(50, 100, generator=draw).double()
    u, s, v = torch.linalg.svd(noise, full_matrices=False)
    for size, found in ((0.5, 0), (2.0, 1)):
        assert variational_rank(noise + size * s[0] * torch.outer(u[:, -1], v[-1])) == found


def test_the_variance_is_the_noises_and_the_free_energy_is_least_there() -> None:
    draw = torch.Generator().manual_seed(0)
    matrix = 3.0 * torch.randn(80, 120, generator=draw) + 100 * torch.outer(torch.ones(80), torch.ones(120)) / 10
    values = np.linalg.svd(matrix.double().numpy(), compute_uv=False)
    variance = noise_variance(values, (80, 120))
    assert variance == pytest.approx(9.0, rel=0.1)
    least = free_energy(variance, values, (80, 120))
    assert all(free_energy(f * variance, values, (80, 120)) >= least - 1e-6 for f in (0.5, 0.8, 0.95, 1.05, 1.3, 3.0))


def test_matrices_without_noise_and_of_zeros() -> None:
    draw = torch.Generator().manual_seed(0)
    exact = torch.randn(30, 3, generator=draw).double() @ torch.randn(3, 40, generator=draw).double()
    assert variational_rank(exact) == 3
    assert variational_rank(torch.zeros(5, 7)) == 0 and variational_rank(torch.ones(1, 1)) <= 1
