"""A linear layer as cores: the cores' product is the weight, and the nodes compute with it."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from contracts.digits_task import digits, mlp
from contracts.nets import small_mlp
from contracts.step import StepContract, params, same
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.methods.factorize.tensor_train import (
    TensorTrain,
    composed,
    factors_of,
    modes_of,
    most_ranks,
    ranks_by_energy,
    ranks_by_share,
    rearranged,
    size,
    tensor_train,
)
from paredown.targets.onnx import Onnx
from paredown.targets.packed import Packed


class TestTensorTrain(StepContract):
    def part(self) -> TensorTrain:
        return TensorTrain("params", 0.4)

    def settings(self) -> list[Any]:
        return [TensorTrain(), TensorTrain("rank", rank=3, cores=2)]

    def nets(self) -> dict[str, Net]:
        return {"mlp": small_mlp()}


def off(whole: Tensor, ranks: list[int], cores: int = 3) -> float:
    """Return the relative error of a decomposition."""
    return float((whole - composed(tensor_train(whole, modes_of(*whole.shape, cores), ranks))).norm() / whole.norm())


def test_factors_are_as_even_as_can_be() -> None:
    """Of all factorisations none has a smaller sum."""
    for number, count in itertools.product((1, 7, 64, 100, 784, 360), (2, 3, 4)):
        found = factors_of(number, count)
        divisors = [d for d in range(1, number + 1) if number % d == 0]
        sums = [sum(c) for c in itertools.product(divisors, repeat=count) if math.prod(c) == number]
        assert math.prod(found) == number and sum(found) == min(sums) and list(found) == sorted(found)
    assert modes_of(100, 64, 3) == ((4, 5, 5), (4, 4, 4)) and modes_of(10, 7, 2) == ((2, 5), (7, 1))


@pytest.mark.parametrize("cores", [2, 3, 4])
def test_full_rank_is_exact_and_the_error_falls_with_rank(cores: int) -> None:
    torch.manual_seed(0)
    whole = torch.randn(24, 36)
    modes = modes_of(24, 36, cores)
    most = most_ranks(modes)
    assert off(whole, most, cores) < 1e-5
    errors = [off(whole, [min(r, m) for m in most], cores) for r in (1, 2, 4, 8, 16, 32)]
    assert errors == sorted(errors, reverse=True) and errors[0] < 1


def test_planted_ranks_are_met_exactly_and_the_energy_says_them() -> None:
    torch.manual_seed(0)
    modes = modes_of(24, 36, 3)
    ends = [1, 3, 2, 1]
    cores = [torch.randn(a, m, n, b) for a, m, n, b in zip(ends, *modes, ends[1:], strict=False)]
    whole = composed(cores)
    assert off(whole, [3, 2]) < 1e-5 and off(whole, [2, 2]) > 1e-2
    assert ranks_by_energy(whole, modes, 0.999999) == [3, 2]
    assert same(composed(tensor_train(whole, modes, [3, 2])), whole, 1e-5)


def test_each_entry_is_the_product_of_its_cores_slices() -> None:
    """Novikov et al.'s definition, entry by entry; and the size is the sum over cores."""
    torch.manual_seed(0)
    whole, modes = torch.randn(8, 12), ((2, 4), (4, 3))
    cores = tensor_train(whole, modes, [5])
    made = composed(cores)
    for (i1, i2), (j1, j2) in itertools.product(np.ndindex(2, 4), np.ndindex(4, 3)):
        assert float((cores[0][:, i1, j1] @ cores[1][:, i2, j2]).item()) == pytest.approx(
            float(made[4 * i1 + i2, 3 * j1 + j2]), abs=1e-5
        )
    assert sum(core.numel() for core in cores) == size(modes, [5]) == 2 * 4 * 5 + 4 * 3 * 5
    values = torch.linalg.svdvals(rearranged(whole, modes).double())
    assert float((whole - made).norm()) == pytest.approx(float(values[5:].square().sum().sqrt()), abs=1e-5)


def test_ranks_keep_the_energy_and_fill_the_share() -> None:
    torch.manual_seed(0)
    whole = torch.randn(64, 32) @ torch.diag(0.8 ** torch.arange(32)) @ torch.randn(32, 60)
    modes = modes_of(64, 60, 3)
    for keep in (0.5, 0.9, 0.99):
        assert off(whole, ranks_by_energy(whole, modes, keep)) ** 2 <= 1 - keep + 1e-6
    for share in (0.1, 0.3, 0.7):
        ranks = ranks_by_share(modes, share)
        more = [min(max(ranks) + 1, m) for m in most_ranks(modes)]
        assert size(modes, ranks) <= share * 64 * 60 < size(modes, more)


@pytest.mark.parametrize("cores", [2, 3, 5])
@pytest.mark.parametrize("bias", [False, True])
def test_the_nodes_compute_the_product(cores: int, bias: bool) -> None:
    """On two and on three dimensions, whatever the batch, and where two layers share the weight."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(24, 24, bias=bias)

        def forward(self, x: Tensor) -> Tensor:
            return self.one(self.one(x).relu())

    torch.manual_seed(0)
    for shape in ((24,), (7, 24), (2, 3, 24)):
        net = capture(Twice(), torch.rand(2, *shape)).eval()
        out = TensorTrain("rank", rank=4, cores=cores).apply(net, Work()).eval()
        parts = [out.slot(f"one.core{k}.weight")() for k in range(cores)]
        like, modes = net.copy(), modes_of(24, 24, cores)
        ends = [1, *[min(4, m) for m in most_ranks(modes)], 1]
        made = [
            p.detach().view(m, a, n, b).permute(1, 0, 2, 3)
            for p, a, m, n, b in zip(parts, ends, *modes, ends[1:], strict=False)
        ]
        like.slot("one.weight").value.data = composed(made)
        x = torch.rand(5, *shape)
        assert same(like(x), out(x), 1e-4) and not same(net(x), out(x), 1e-3)
        assert params(net) - params(out) == 24 * 24 - size(modes, ends[1:-1])


def test_what_does_not_gain_is_named_and_files_hold_the_rest(tmp_path: Path) -> None:
    net, x = mlp(0), digits(0)[1].x
    work = Work()
    out = TensorTrain("params", 0.5).apply(net, work).eval()
    assert "0.weight" not in out.slot_names() and params(out) < 0.6 * params(net)
    silent = Work()
    assert TensorTrain("energy", 0.999).apply(net, silent).spec == net.spec
    assert {note.layer for note in silent.notes} == {"0.weight", "2.weight"}
    conv = capture(nn.Sequential(nn.Conv1d(2, 3, 3)), torch.rand(1, 2, 8))
    TensorTrain().apply(conv, silent)
    assert "convolution" in silent.notes[-1].text
    for target in (Packed(), Onnx()):
        got = target.load(Path(target.write(freeze(out), tmp_path).path))(x.numpy())
        assert np.allclose(got, out(x).detach().numpy(), atol=1e-4)
