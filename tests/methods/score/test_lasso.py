"""The penalty at which a channel drops out of the next layer's output."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso as Reference

from contracts.nets import small_mlp
from contracts.score import ScoreContract
from paredown.core.work import Work
from paredown.graph.groups import groups
from paredown.methods.score.lasso import Lasso, leaves_at


class TestLasso(ScoreContract):
    def part(self) -> Lasso:
        return Lasso()


def rows(count: int = 6, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(300, count, generator=draw).double() * torch.linspace(0.5, 2, count)


def test_the_path_is_that_of_coordinate_descent() -> None:
    """At λ between two channels' values, scikit-learn's other solver has exactly those of larger value."""
    z = rows() @ (torch.eye(6) + 0.3 * torch.rand(6, 6, generator=torch.Generator().manual_seed(1))).double()
    found = leaves_at(z)
    y = z.sum(1)
    largest = float((z.T @ y).abs().max()) / len(z)
    order = found.sort().values
    assert order[-1] == 1 and (order.diff() > 1e-6).all()
    for low, high in zip(order[:-1].tolist(), order[1:].tolist(), strict=True):
        share = (low + high) / 2
        beta = (
            Reference(alpha=share * largest, fit_intercept=False, tol=1e-10, max_iter=100_000)
            .fit(z.numpy(), y.numpy())
            .coef_
        )
        assert np.array_equal(beta != 0, (found > share).numpy())


def test_a_planted_redundant_channel_is_zero_first() -> None:
    """A-S4-10: channel 2 is a tenth of channel 4, so all it adds can be had there; it leaves at the smallest λ."""
    for seed in range(3):
        z = rows(seed=seed)
        z[:, 2] = 0.1 * z[:, 4]
        found = leaves_at(z)
        assert int(found.argmin()) == 2 and found[2] == pytest.approx(0, abs=1e-9)
    z[:, 2] = 0
    assert leaves_at(z)[2] == 0 and leaves_at(torch.zeros(5, 3)).tolist() == [0, 0, 0]


def test_a_network_s_redundant_channel_is_zero_first() -> None:
    """Unit 3 has unit 9's filter, and is read by a fifth of its weights: large filters, but nothing of its own."""
    net = small_mlp()
    with torch.no_grad():
        net.slot("0.weight").value[3], net.slot("0.bias").value[3] = net.slot("0.weight").value[9], 0.5
        net.slot("0.bias").value[9] = 0.5
        net.slot("2.weight").value[:, 3] = 0.2 * net.slot("2.weight").value[:, 9]
    x = torch.rand(200, 64, generator=torch.Generator().manual_seed(0))
    found = Lasso().importance(net, groups(net)[0], Work({"calib": (x, torch.arange(200) % 10)}))
    assert (found == 0).sum() <= 5 and found[3] == 0
    assert found[9] > found.median()
