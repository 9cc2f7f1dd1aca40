"""Removing a weight and changing the rest to make up for it."""

import itertools

import pytest
import torch
from torch import Tensor

from contracts.nets import inputs_for, small_conv
from contracts.step import StepContract
from paredown.core.work import Work
from paredown.graph.masks import mask_of
from paredown.methods.prune.obs import Obs, eliminated, pruned, saliency
from paredown.methods.prune.weights import Weights


class TestObs(StepContract):
    def part(self) -> Obs:
        return Obs(0.6)


def quadratic(n: int, rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return (W, H) with H far from diagonal."""
    draw = torch.Generator().manual_seed(seed)
    mixed = torch.randn(n, n, generator=draw).double()
    x = mixed @ torch.randn(n, 4 * n, generator=draw).double()
    return torch.randn(rows, n, generator=draw).double(), x @ x.T / (4 * n) + 0.01 * torch.eye(n).double()


def error(rows: Tensor, left: Tensor, second: Tensor) -> Tensor:
    """Return ½ δᵀ H δ of each row."""
    return 0.5 * ((left - rows) @ second * (left - rows)).sum(1)


def least(row: Tensor, second: Tensor, kept: tuple[int, ...]) -> float:
    """Return the smallest ½ δᵀ H δ with only `kept` not zero, by solving for them."""
    at = list(kept)
    left = torch.zeros_like(row)
    if at:
        left[at] = torch.linalg.solve(second[at][:, at], (second @ row)[at])
    return float(error(row[None], left[None], second)[0])


def test_on_a_quadratic_its_saliency_is_the_rise_of_the_error_at_the_best_repair() -> None:
    (rows, second), n = quadratic(7, 1), 7
    found = saliency(rows, torch.linalg.inv(second)[None])[0]
    for q in range(n):
        assert float(found[q]) == pytest.approx(least(rows[0], second, tuple(set(range(n)) - {q})), rel=1e-9)


def test_one_removal_is_the_best_of_all_and_what_is_left_is_the_best_repair() -> None:
    rows, second = quadratic(7, 5)
    left, stays, rises = eliminated(rows, second, torch.full((5,), 3), torch.zeros_like(rows, dtype=torch.bool))
    assert (stays.sum(1) == 4).all() and torch.equal(left != 0, stays)
    torch.testing.assert_close(rises.sum(1), error(rows, left, second))
    for row, one, kept, first in zip(rows, left, stays, rises[:, 0], strict=True):
        best = min(least(row, second, some) for some in itertools.combinations(range(7), 6))
        assert float(first) == pytest.approx(best, rel=1e-9)
        at = tuple(kept.nonzero().flatten().tolist())
        assert float(error(row[None], one[None], second)[0]) == pytest.approx(least(row, second, at), rel=1e-9)


def test_what_is_zero_already_goes_first_and_rows_share_the_removals() -> None:
    rows, second = quadratic(8, 4)
    gone = torch.rand(4, 8, generator=torch.Generator().manual_seed(1)) < 0.3
    rows = rows * ~gone
    rows[0] *= 0.01
    left, stays = pruned(rows, second, 16, gone)
    assert int((~stays).sum()) == 16 and not (stays & gone).any() and torch.equal(left != 0, stays)
    assert int(stays[0].sum()) < int(stays[1:].sum(1).min())


@pytest.mark.parametrize("seed", range(3))
def test_it_keeps_the_outputs_of_a_layer_better_than_removing_by_size(seed: int) -> None:
    rows, second = quadratic(24, 16, seed)
    left, _ = pruned(rows, second, rows.numel() // 2, torch.zeros_like(rows, dtype=torch.bool))
    size = rows.abs()
    by_size = rows * (size > size.flatten().kthvalue(rows.numel() // 2).values)
    assert int((left == 0).sum()) == rows.numel() // 2 == int((by_size == 0).sum())
    assert float(error(rows, left, second).sum()) < 0.3 * float(error(rows, by_size, second).sum())


def test_a_network_keeps_its_outputs_better_and_its_masks_stay() -> None:
    net = small_conv().eval()
    (x,) = inputs_for(net, 64)
    work = Work({"calib": (x, torch.zeros(64).long())})
    surgeon, by_size = Obs(0.5).apply(net, work).eval(), Weights(0.5).apply(net, work).eval()
    with torch.no_grad():
        offs = [float((out(x) - net(x)).square().mean()) for out in (surgeon, by_size)]
    assert offs[0] < 0.5 * offs[1]
    again = Obs(0.7).apply(by_size, work)
    assert not any((mask_of(again, name) & ~mask_of(by_size, name)).any() for name, _ in net.weighted())
