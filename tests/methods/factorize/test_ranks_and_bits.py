"""Ranks and widths together: never worse than one width and one energy for all, at as many bits."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from contracts.digits_task import accuracy, digits, mlp
from contracts.nets import small_conv, small_mlp
from contracts.pooled_digits import pictures, pooled
from contracts.step import StepContract
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.low_rank import as_matrix, output_error, root
from paredown.graph.moments import gathered
from paredown.graph.net import Net
from paredown.graph.slots import Grid
from paredown.graph.widths import held
from paredown.methods.factorize.ranks_and_bits import RanksAndBits, choices, fewest, nearest, rounded_factors
from paredown.methods.factorize.svd import Svd
from paredown.targets.onnx import Onnx
from paredown.targets.packed import Packed


class TestRanksAndBits(StepContract):
    def part(self) -> RanksAndBits:
        return RanksAndBits(12.0)

    def settings(self) -> list[Any]:
        return [RanksAndBits(), RanksAndBits(0.0, 0.2, energies=(0.9,), widths=(1, 4), bias_bits=0)]


def on(net: Net, seed: int) -> Work:
    """Return the calibration samples of the digits in the shape that a network wants."""
    x = (pictures if len(net.spec.inputs[0][1]) > 1 else digits)(seed)[0].x[:512]
    return Work({"calib": (x, None)})


def stored(net: Net) -> int:
    """Return the bits of all codes and steps of weights."""
    grids = {name: net.slot(name) for name, _ in net.weighted()}
    return sum(grid.stored_bits() for grid in grids.values())


def roots(net: Net, x: Tensor) -> dict[str, Tensor]:
    """Return C^{1/2} of what each layer is given."""
    return {name: root(gathered(net, [node], x)[node.name][0], 1e-6) for name, node in net.weighted()}


def harm(net: Net, out: Net, halves: dict[str, Tensor]) -> float:
    """Return the sum over layers of ‖(W − Ŵ) C^{1/2}‖² / ‖W C^{1/2}‖², read off the weights that are stored."""
    total = 0.0
    for name, half in halves.items():
        whole = as_matrix(net.slot(name)().detach())
        parts = [name.replace("weight", f"{p}.weight") for p in ("second", "first")]
        if name in out.slot_names():
            made = as_matrix(out.slot(name)().detach())
        else:
            made = as_matrix(out.slot(parts[0])().detach()) @ as_matrix(out.slot(parts[1])().detach())
        total += output_error(whole - made, half) / output_error(whole, half)
    return total


def test_the_second_factor_makes_up_for_the_first_ones_rounding() -> None:
    torch.manual_seed(0)
    matrix, x = torch.randn(20, 30), torch.randn(30, 100).double()
    half = root(x @ x.T / 100)
    basis = torch.linalg.svd(matrix.double() @ half)[0][:, :8]
    left, right = rounded_factors(matrix, basis, half, 8)
    assert left.codes.shape == (20, 8) and right.codes.shape == (8, 30) and left.bits == right.bits == 8
    exact = basis @ basis.T @ matrix.double()
    assert output_error(left() @ right() - exact, half) < 1e-3 * output_error(exact, half)
    coarse = rounded_factors(matrix, basis, half, 2)
    alone = basis @ coarse[1]().double()
    refit = torch.linalg.lstsq((coarse[1]().double() @ half).T, (matrix.double() @ half).T).solution.T
    assert output_error(matrix - refit @ coarse[1]().double(), half) < output_error(matrix - alone, half)


def test_no_pairs_are_better_within_the_bits_or_smaller_within_the_error() -> None:
    """Every combination, enumerated."""
    torch.manual_seed(0)
    draws = [torch.randn(12, 3) @ torch.randn(3, 16) + 0.1 * torch.randn(12, 16), torch.randn(10, 12)]
    table = [choices(w, torch.eye(w.shape[1]).double(), (0.5, 0.9, 0.99), (2, 4, 8)) for w in draws]
    pairs = [(a.bits + b.bits, a.error + b.error) for a, b in itertools.product(*table)]
    for most in (1500, 2500, 4000):
        got = nearest(table, most)
        assert sum(c.bits for c in got) <= most
        assert sum(c.error for c in got) <= min(e for b, e in pairs if b <= most) * (1 + 1e-4) + 1e-9
    for error in (0.05, 0.2, 0.7):
        got = fewest(table, error)
        assert sum(c.error for c in got) <= error
        assert sum(c.bits for c in got) <= min(b for b, e in pairs if e <= error) * (1 + 1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_on_digits_no_single_width_and_energy_is_better_at_as_many_bits(seed: int) -> None:
    """Held to every single (energy, width): with the step's own factors, and with those of the plain decomposition."""
    for net in (mlp(seed), pooled(seed)):
        work = on(net, seed)
        x, table = work.use("calib")[0], list(RanksAndBits().table(net, work).values())
        halves = roots(net, x)
        for energy, width in itertools.product((0.8, 0.95, 0.99), (3, 6)):
            ones = [choices(net.slot(n)().detach(), half, (energy,), (width,))[-1] for n, half in halves.items()]
            mine = nearest(table, sum(c.bits for c in ones))
            assert sum(c.error for c in mine) <= sum(c.error for c in ones) + 1e-9
            for fit in ("max", "mse"):
                plain = Svd("energy", energy).apply(net, Work())
                for name, _ in list(plain.weighted()):
                    plain.set_slot(name, held(plain.slot(name)(), [width], fit))
                assert sum(c.error for c in nearest(table, stored(plain))) <= harm(net, plain, halves) + 1e-9


def test_what_is_stored_has_the_error_and_the_bits_that_were_chosen(tmp_path: Path) -> None:
    net, test = mlp(0), digits(0)[1]
    work = on(net, 0)
    out = RanksAndBits(3.0).apply(net, work).eval()
    size = sum(net.slot(name)().numel() for name, _ in net.weighted())
    chosen = nearest(list(RanksAndBits().table(net, work).values()), 3.0 * size)
    assert stored(out) == sum(c.bits for c in chosen) <= 3 * size
    assert harm(net, out, roots(net, work.use("calib")[0])) == pytest.approx(sum(c.error for c in chosen), rel=1e-3)
    assert accuracy(out, test) >= accuracy(net, test) - 2
    for target in (Packed(), Onnx()):
        got = target.load(Path(target.write(freeze(out), tmp_path).path))(test.x.numpy())
        assert np.allclose(got, out(test.x).detach().numpy(), atol=1e-4)
    few = RanksAndBits(0.0, 0.1).apply(net, work)
    assert harm(net, few, roots(net, work.use("calib")[0])) <= 0.1 * (1 + 1e-4)


def test_what_cannot_be_split_is_rounded_whole_and_budgets_out_of_reach_are_named() -> None:
    net = small_conv().eval()
    x = torch.rand(32, 1, 8, 8)
    work = Work({"calib": (x, None)})
    out = RanksAndBits(10.0).apply(net, work)
    assert isinstance(out.slot("deep.weight"), Grid)
    assert {n.layer for n in work.notes if "rounded whole" in n.text} == {"deep.weight"}
    torch.manual_seed(0)
    other = capture(
        nn.Sequential(nn.ConvTranspose1d(1, 4, 3), nn.Flatten(), nn.Linear(40, 40)), torch.rand(1, 1, 8)
    ).eval()
    RanksAndBits(6.0).apply(other, Work({"calib": (torch.rand(8, 1, 8), None)}))
    with pytest.raises(BadInput, match="least possible is"):
        RanksAndBits(0.01).apply(small_mlp(), Work({"calib": (torch.rand(8, 64), None)}))
    for wrong in ({"mean_bits": 0.0}, {"max_error": 1.0}, {"energies": (1.5,)}, {"widths": (9,)}):
        with pytest.raises(BadInput):
            RanksAndBits(**wrong)
