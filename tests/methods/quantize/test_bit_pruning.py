"""BitPruning: the checks of A-S0-20."""

import math

import pytest
import torch

from contracts.digits_task import accuracy, digits, mlp
from contracts.nets import small_conv
from contracts.trained_step import TrainedStepContract, samples, trainer
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.count import count, layers
from paredown.graph.net import Net
from paredown.graph.slots import Grid
from paredown.methods.quantize.bit_pruning import BitLength, BitPruning, levels, mixed
from paredown.methods.quantize.uniform import grid

SHORT = Plan(epochs=4, batch=16)


class TestBitPruning(TrainedStepContract):
    def part(self) -> BitPruning:
        return BitPruning(plan=SHORT)

    def settings(self) -> list[BitPruning]:
        return [BitPruning(0.5, "macs", 6, 0.25, plan=Plan(epochs=3))]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", range(1, 10))
def test_levels_are_the_grid_of_the_whole_range(bits: int) -> None:
    value = draw(20, 30)
    codes, step = levels(value, bits)
    if bits == 1:
        assert set(codes.unique().tolist()) == {-1, 1} and float(step) == float(value.abs().max())
    else:
        wanted, size = grid(value, bits, per_channel=False)
        assert torch.equal(codes, wanted.float()) and float(step) == pytest.approx(float(size))
        assert (codes * step - value).abs().max() <= step / 2 * (1 + 1e-5)


@pytest.mark.parametrize("bits", range(2, 9))
def test_a_mixture_is_continuous_at_whole_lengths_and_linear_between(bits: int) -> None:
    value = draw(20, 30).double()
    at, above, below = (mixed(value, torch.tensor(bits + off, dtype=torch.float64)) for off in (0, 1e-9, -1e-9))
    assert torch.equal(at, torch.mul(*levels(value, bits)))
    assert (above - at).abs().max() < 1e-8 and (below - at).abs().max() < 1e-8
    low, high = (torch.mul(*levels(value, n)) for n in (bits, bits + 1))
    torch.testing.assert_close(mixed(value, torch.tensor(bits + 0.25, dtype=torch.float64)), 0.75 * low + 0.25 * high)


def test_the_slope_in_bits_is_the_difference_of_the_two() -> None:
    value, upstream = draw(20, 30).requires_grad_(), draw(20, 30, seed=1)
    bits = torch.tensor(3.4, requires_grad=True)
    mixed(value, bits).backward(upstream)
    low, high = (torch.mul(*levels(value.detach(), n)) for n in (3, 4))
    assert float(bits.grad) == pytest.approx(float((upstream * (high - low)).sum()), rel=1e-4)
    assert torch.equal(value.grad, upstream)


def lengths(net: Net, rate: float, seed: int, weigh: str = "layers") -> tuple[list[int], float]:
    train, test = digits(seed)
    part = BitPruning(rate, weigh, plan=Plan(epochs=16))
    held = part.apply(net, Work({"fit": trainer(train, seed)}))
    return [held.slot(name).bits for name, _ in held.weighted()], accuracy(held, test)


def test_a_higher_price_gives_fewer_bits_on_digits() -> None:
    """Mean length over both layers, three seeds; at a rate of 0.1 at most 3 points below float."""
    for seed in range(3):
        found = {rate: lengths(mlp(seed), rate, seed) for rate in (0.0, 0.1, 3.0)}
        bits = {rate: sum(widths) / 2 for rate, (widths, _) in found.items()}
        assert bits[0.0] >= 7 and bits[0.0] > bits[0.1] >= bits[3.0], (seed, found)
        assert bits[0.1] <= 5 and found[0.1][1] >= accuracy(mlp(seed), digits(seed)[1]) - 3, (seed, found)


def test_lengths_are_settled_rounded_up_and_held_as_integers() -> None:
    net, found = small_conv(), []

    class Watch:
        def start(self, net: Net) -> dict:
            return {}

        def step(self, net: Net, state: dict, t: float) -> dict:
            found.append((t, {n: float(net.slot(n).used()) for n, _ in net.weighted()}))
            return state

    part = BitPruning(0.3, tune=0.25, habits=(Watch(),), plan=Plan(epochs=12, batch=16, lr=1e-2))
    held = part.apply(net, Work({"fit": trainer(samples(net))}))
    last = max(t for t, _ in found if t < 0.75)
    before, after = dict(found)[last], [widths for t, widths in found if t >= 0.75]
    for name, _ in net.weighted():
        assert isinstance(held.slot(name), Grid)
        assert {widths[name] for widths in after} == {held.slot(name).bits} and not before[name].is_integer()
        assert -0.3 < held.slot(name).bits - before[name] < 1.3, "one more step, then up to the next whole number"
    assert count(held).bits < count(net).bits / 3


def test_a_settled_length_is_exact_and_gets_no_gradient() -> None:
    for start in (2.2, 3.0, 7.9):
        slot = BitLength(draw(20, 30), start)
        slot.settle_()
        slot().square().sum().backward()
        assert float(slot.used()) == math.ceil(start) and slot.length.grad is None
        assert torch.equal(slot(), slot.held()())


@pytest.mark.parametrize("weigh", ["layers", "weights", "macs"])
def test_what_a_length_is_averaged_over(weigh: str) -> None:
    net = small_conv()
    shares = BitPruning(weigh=weigh).shares(net)
    rows = {row.slot: row for row in layers(net)}
    assert sum(shares.values()) == pytest.approx(1) and len(shares) == 5
    wide, deep = shares["wide.weight"], shares["deep.weight"]
    wanted = {
        "layers": 1.0,
        "weights": 12 * 8 * 9 / (8 * 9),
        "macs": rows["wide.weight"].macs / rows["deep.weight"].macs,
    }
    assert wide / deep == pytest.approx(wanted[weigh])


@pytest.mark.parametrize("wrong", [{"rate": -1.0}, {"weigh": "all"}, {"start": 9}, {"tune": 0.0}])
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        BitPruning(**wrong)
