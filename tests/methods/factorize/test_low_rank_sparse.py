"""Low rank and sparse together: planted parts are found, and no single part is better on a mixed matrix."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from contracts.digits_task import accuracy, digits, mlp
from contracts.pooled_digits import pictures, pooled
from contracts.step import StepContract, nonzero, same
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.low_rank import truncated
from paredown.graph.slots import Masked
from paredown.methods.factorize.low_rank_sparse import LowRankSparse, bilateral, error_of, low_rank_sparse
from paredown.methods.prune.obs import pruned
from paredown.targets.onnx import Onnx
from paredown.targets.packed import Packed


class TestLowRankSparse(StepContract):
    def part(self) -> LowRankSparse:
        return LowRankSparse(0.4, (0.5,))

    def settings(self) -> list[Any]:
        return [LowRankSparse(), LowRankSparse(0.2, (0.0, 1.0), asymmetric=False)]


def correlated(size: int, seed: int = 0) -> Tensor:
    """Return a second moment whose inputs depend on each other."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(size, size, generator=draw).double() @ torch.randn(size, 4 * size, generator=draw).double()
    return x @ x.T / (4 * size) / size


def mixed(seed: int, shape: tuple[int, int] = (40, 50), rank: int = 3, count: int = 100) -> tuple[Tensor, Tensor]:
    """Return (a matrix of that rank, a sparse one with large entries)."""
    draw = torch.Generator().manual_seed(seed)
    low = torch.randn(shape[0], rank, generator=draw).double() @ torch.randn(rank, shape[1], generator=draw).double()
    sparse = torch.zeros(shape).double().flatten()
    at = torch.randperm(sparse.numel(), generator=draw)[:count]
    sparse[at] = 10 * torch.randn(count, generator=draw).double().sign() * (1 + torch.rand(count, generator=draw))
    return low, sparse.view(shape)


@pytest.mark.parametrize("white", [True, False])
def test_planted_parts_are_found(white: bool) -> None:
    for seed in range(5):
        low, sparse = mixed(seed)
        second = torch.eye(50).double() if white else torch.eye(50).double() + correlated(50, seed)
        parts = low_rank_sparse(low + sparse, second, 3, 100, 300)
        assert (parts.left @ parts.right - low).norm() <= 1e-3 * low.norm(), (seed, parts.errors[-1])
        assert (parts.sparse - sparse).norm() <= 1e-3 * sparse.norm()


def test_the_error_never_grows_and_is_that_of_the_parts() -> None:
    for seed in range(4):
        low, sparse = mixed(seed)
        noisy = low + sparse + torch.randn(40, 50, generator=torch.Generator().manual_seed(seed)).double()
        for second in (torch.eye(50).double(), correlated(50, seed)):
            for rank, count in ((0, 80), (5, 0), (4, 150), (10, 20)):
                parts = low_rank_sparse(noisy, second, rank, count)
                errors = parts.errors
                assert all(b <= a * (1 + 1e-9) for a, b in itertools.pairwise(errors))
                assert parts.left.shape == (40, rank) and int((parts.sparse != 0).sum()) <= count
                left = noisy - parts.left @ parts.right - parts.sparse
                assert errors[-1] == pytest.approx(error_of(left, second), rel=1e-6, abs=1e-9)


def test_at_as_many_weights_both_are_better_than_either() -> None:
    for seed in range(4):
        low, sparse = mixed(seed)
        whole = low + sparse + 0.3 * torch.randn(40, 50, generator=torch.Generator().manual_seed(seed)).double()
        for second in (torch.eye(50).double(), correlated(50, seed)):
            most = 5 * 90
            both = low_rank_sparse(whole, second, 3, most - 3 * 90).errors[-1]
            assert both <= low_rank_sparse(whole, second, 5, 0).errors[-1]
            assert both <= low_rank_sparse(whole, second, 0, most).errors[-1]


def test_rank_zero_is_pruning() -> None:
    """By magnitude where inputs are white; by w² C_jj where C is diagonal; else about as good as optimal brain surgery."""
    draw = torch.Generator().manual_seed(0)
    matrix = torch.randn(20, 30, generator=draw).double()
    cut = matrix.abs().flatten().sort(descending=True).values[199]
    assert torch.equal(low_rank_sparse(matrix, torch.eye(30), 0, 200).sparse, matrix * (matrix.abs() >= cut))
    scales = torch.rand(30, generator=draw).double() * 5 + 0.1
    salient = matrix.square() * scales
    cut = salient.flatten().sort(descending=True).values[199]
    assert same(low_rank_sparse(matrix, torch.diag(scales), 0, 200).sparse, matrix * (salient >= cut), 1e-12)
    second = correlated(30)
    mine = low_rank_sparse(matrix, second, 0, 200).errors[-1]
    plain = error_of(matrix - matrix * (matrix.abs() >= matrix.abs().flatten().sort().values[400]), second)
    surgeon = pruned(matrix, second, 400, torch.zeros(20, 30, dtype=torch.bool))[0]
    assert mine < plain and mine <= 1.15 * error_of(matrix - surgeon, second)


def test_no_sparse_part_is_the_nearest_of_the_rank() -> None:
    """Without singular value decomposition, and to what one gives; two updates do not need the inverse either."""
    torch.manual_seed(0)
    matrix = torch.randn(20, 30).double() @ torch.diag(0.8 ** torch.arange(30)).double()
    parts = low_rank_sparse(matrix, torch.eye(30), 5, 0, 200)
    left, right = truncated(matrix, 5)
    assert same(parts.left @ parts.right, left @ right, 1e-4)
    basis, made = bilateral(matrix, correlated(30), torch.randn(5, 30).double())
    assert same(basis.T @ basis, torch.eye(5).double(), 1e-9) and same(made, basis.T @ matrix, 1e-12)


def test_on_digits_the_best_share_is_no_worse_than_any(tmp_path: Path) -> None:
    net, (train, test) = mlp(0), digits(0)
    work = Work({"calib": (train.x[:512], None)})
    step = LowRankSparse(0.15, asymmetric=False)
    outs = {share: LowRankSparse(0.15, (share,), asymmetric=False).apply(net, work).eval() for share in (0.0, 0.3, 1.0)}
    best = step.apply(net, work).eval()
    assert nonzero(best) <= 0.15 * 7400 + 110 and accuracy(best, test) >= 90
    first = net.spec.nodes[0].name
    with torch.no_grad():
        errors = {
            key: float((_at(out, first, train.x[:512]) - _at(net, first, train.x[:512])).square().sum())
            for key, out in [*outs.items(), ("best", best)]
        }
        assert errors["best"] <= min(errors.values()) * (1 + 1e-3)
    for target in (Packed(), Onnx()):
        for out in (best, outs[0.3]):
            got = target.load(Path(target.write(freeze(out), tmp_path).path))(test.x.numpy())
            assert np.allclose(got, out(test.x).detach().numpy(), atol=1e-4)


def _at(net: Any, name: str, x: Tensor) -> Tensor:
    seen = {}
    net.run(x, watch=lambda node, value: seen.__setitem__(node.name, value) if node.name == name else None)
    return seen[name]


def test_layers_that_know_what_those_before_them_lost_make_up_for_it() -> None:
    """Asymmetric data: the scores of a network of four layers come nearer to the original's, by far."""
    net, x = pooled(0), pictures(0)[0].x[:128]
    off = {}
    for asymmetric in (False, True):
        out = LowRankSparse(0.3, (0.0, 0.5), asymmetric, sweeps=5).apply(net, Work({"calib": (x, None)})).eval()
        with torch.no_grad():
            off[asymmetric] = float((out(x) - net(x)).square().mean())
    assert off[True] < 0.7 * off[False]


def test_convolutions_become_branches_that_add(tmp_path: Path) -> None:
    net, x = pooled(0), pictures(0)[1].x
    out = LowRankSparse(0.4, (0.5,)).apply(net, Work({"calib": (pictures(0)[0].x[:128], None)})).eval()
    name = [name for name, _ in net.weighted()][2]
    first, second, sparse = (out.slot(name.replace("weight", f"{p}.weight")) for p in ("first", "second", "sparse"))
    assert isinstance(sparse, Masked) and sparse().shape == net.slot(name)().shape and out.forms() == {"masked"}
    assert first().numel() + second().numel() + int(sparse.mask.sum()) <= 0.4 * sparse().numel()
    like = net.copy()
    like.slot(name).value.data = (second().flatten(1) @ first().flatten(1)).view_as(sparse()) + sparse()
    like.rewire(like.spec)
    node = dict(net.weighted())[name].name
    with torch.no_grad():
        given = _at(out, str(net.spec.node(node).args["input"]), x)
        weight, bias = like.slot(name)(), net.slot(name.replace("weight", "bias"))()
        assert same(torch.conv2d(given, weight, bias, padding=1), _at(out, node, x), 1e-4)
    for target in (Packed(), Onnx()):
        got = target.load(Path(target.write(freeze(out), tmp_path).path))(x.numpy())
        assert np.allclose(got, out(x).detach().numpy(), atol=1e-4)


def test_what_is_left_alone_is_named() -> None:
    torch.manual_seed(0)
    net = capture(
        nn.Sequential(nn.Conv1d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(24, 20)), torch.rand(1, 4, 8)
    ).eval()
    work = Work({"calib": (torch.rand(8, 4, 8), None)})
    LowRankSparse().apply(net, work)
    assert {n.layer: n.text.split()[1] for n in work.notes} == {"0.weight": "grouped"}
    with pytest.raises(BadInput, match="shares"):
        LowRankSparse(shares=(2.0,))
