"""A convolution as a depthwise and a 1×1 one: exact where it was one, nearer with every kernel more, as cheap as is said."""

from pathlib import Path

import pytest
import torch
from converted import SETTINGS, held_to_files, held_to_what_cannot_be_converted, one, put, regained

from contracts.nets import inputs_for, small_conv
from contracts.pooled_digits import pooled
from contracts.step import StepContract, macs, params, same
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.graph.net import Net
from paredown.methods.factorize.separable import Separable, separated, size, together


class TestSeparable(StepContract):
    def part(self) -> Separable:
        return Separable()

    def settings(self) -> list[Separable]:
        return [Separable(3, True)]

    def nets(self) -> dict[str, Net]:
        return {"conv": small_conv()}


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def parts(out: Net) -> tuple[torch.Tensor, torch.Tensor]:
    return out.slot("0.depth.weight")().detach(), out.slot("0.point.weight")().detach()


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_convolution_made_of_separable_ones_is_found_again(settings: dict, multiplier: int) -> None:
    net = one(16, 20, **settings)
    planted = together(
        drawn(16 * multiplier, 1, *net.slot("0.weight")().shape[2:]), drawn(20, 16 * multiplier), multiplier
    )
    net, work = put(net, planted), Work()
    out = Separable(multiplier, True).apply(net, work).eval()
    (x,) = inputs_for(net)
    assert not work.notes and len(out.spec.nodes) == 2 and same(net(x), out(x), 1e-5)
    assert same(together(*parts(out), multiplier), planted, 1e-5)


def test_the_two_layers_are_the_convolution_of_their_product_whatever_it_was() -> None:
    for dims in (1, 2, 3):
        net = one(6, 8, dims, kernel_size=3, padding=1)
        out = Separable(first=True).apply(net, Work()).eval()
        (x,) = inputs_for(net)
        assert same(put(net, together(*parts(out), 1))(x), out(x), 1e-5)


def test_the_error_falls_with_the_multiplier_and_is_what_is_left_out() -> None:
    whole = drawn(12, 5, 3, 3)
    values = torch.linalg.svdvals(whole.transpose(0, 1).flatten(2).double())
    errors = [float((whole - together(*separated(whole, m), m)).square().sum()) for m in range(1, 10)]
    left = [float(values[:, m:].square().sum()) for m in range(1, 10)]
    assert errors == pytest.approx(left, rel=1e-4, abs=1e-6) and errors == sorted(errors, reverse=True)
    assert errors[0] > 1 and errors[-1] < 1e-8


@pytest.mark.parametrize(("into", "out", "kernel"), [(16, 32, 3), (8, 24, 5), (32, 64, 3)])
def test_cost_ratio(into: int, out: int, kernel: int) -> None:
    """Howard et al. 2017, section 3.1: 1/N + 1/Dk²."""
    net = one(into, out, kernel_size=kernel, padding=kernel // 2, bias=False)
    made = Separable(first=True).apply(net, Work())
    assert macs(made) / macs(net) == pytest.approx(1 / out + 1 / kernel**2, rel=1e-12)
    assert params(made) / params(net) == pytest.approx(1 / out + 1 / kernel**2, rel=1e-12)
    assert size((out, into, kernel, kernel), 1) == params(made)


def test_what_saves_nothing_and_what_cannot_be_is_left_alone() -> None:
    work = Work()
    net = one(4, 4, kernel_size=3)
    assert Separable(3, True).apply(net, work).spec == net.spec and "fewer" in work.notes[0].text
    held_to_what_cannot_be_converted(Separable(), {})
    with pytest.raises(BadInput, match="multiplier"):
        Separable(0)


def test_files_hold_it_and_it_trains_on(tmp_path: Path) -> None:
    """Measured over three seeds: 98.7 % whole, 18 fitted, 93.6 after 10 epochs of training."""
    held_to_files(Separable().apply(pooled(0), Work()), tmp_path)
    whole, before, after = regained(Separable())
    assert after > before + 40 and after > whole - 8
