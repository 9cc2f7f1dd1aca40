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
from paredown.graph.activations import CONSTANT
from paredown.graph.net import Net
from paredown.graph.slots import Grid
from paredown.methods.quantize.bit_pruning import BitLength, BitPruning, InputLength, levels, mixed, mixed_range
from paredown.methods.quantize.uniform import grid

SHORT = Plan(epochs=4, batch=16)


class TestBitPruning(TrainedStepContract):
    def part(self) -> BitPruning:
        return BitPruning(plan=SHORT)

    def settings(self) -> list[BitPruning]:
        return [BitPruning(0.5, "macs", 6, 0.25, plan=Plan(epochs=3))]


class TestWithActivations(TrainedStepContract):
    """What differs in a file is by one level: a value on the border between two."""

    flips = 0.1

    def part(self) -> BitPruning:
        return BitPruning(0.3, activations=True, plan=SHORT)


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


@pytest.mark.parametrize("bits", range(1, 9))
def test_inputs_are_rounded_to_the_levels_of_a_range(bits: int) -> None:
    """2^n levels, zero among them, no value of the range further than one from its own, ends and the slope as for weights."""
    value = draw(20, 30).double() + 0.5
    low, high = float(value.min()), float(value.max())
    length, upstream = torch.tensor(bits + 0.3, dtype=torch.float64, requires_grad=True), draw(20, 30, seed=1).double()
    whole, next_one = (mixed_range(value, torch.tensor(float(n)), (low, high)) for n in (bits, bits + 1))
    step = (high - low) / (2**bits - 1)
    assert len(whole.unique()) <= 2**bits and not mixed_range(torch.zeros(1), length, (low, high)).any()
    assert (whole - value).abs().max() <= step * (1 + 1e-9)
    leaf = value.clone().requires_grad_()
    made = mixed_range(leaf, length, (low, high))
    torch.testing.assert_close(made, 0.7 * whole + 0.3 * next_one)
    made.backward(upstream)
    assert float(length.grad) == pytest.approx(float((upstream * (next_one - whole)).sum()), rel=1e-6, abs=1e-9)
    assert torch.equal(leaf.grad, upstream)
    outside = torch.tensor([low - 1, high + 1, high / 2], dtype=torch.float64, requires_grad=True)
    mixed_range(outside, length.detach(), (low, high)).sum().backward()
    assert outside.grad.tolist() == [0, 0, 1]


def test_the_range_of_an_input_is_the_batchs_until_its_length_is_settled() -> None:
    module, first, second = InputLength(4, torch.device("cpu")), draw(64, 8), 3 * draw(64, 8, seed=1)
    assert torch.equal(module.eval()(first), first), "nothing is known yet"
    module.train()
    for x in (first, second):
        found = float(x.min()), float(x.max())
        assert torch.equal(module(x), mixed_range(x, torch.tensor(4.0), found))
    ends = [0.95 * float(a) + 0.05 * float(b) for a, b in zip(first.aminmax(), second.aminmax(), strict=True)]
    assert module.range() == pytest.approx(ends)
    module.length.settle_()
    trained = module(second)
    assert torch.equal(trained, module.eval()(second)) and torch.equal(
        trained, mixed_range(second, torch.tensor(4.0), module.range())
    )


def test_lengths_of_inputs_fall_with_the_price_too_on_digits() -> None:
    """Means of both kinds of length after four epochs, three seeds: 8 without a price, at a rate of 0.1 at most 6."""
    for seed in range(3):
        train, test = digits(seed)
        found = {}
        for rate, epochs in ((0.0, 1), (0.1, 4)):
            part = BitPruning(rate, activations=True, plan=Plan(epochs=epochs, lr=6e-3))
            held = part.apply(mlp(seed), Work({"fit": trainer(train, seed)})).eval()
            inputs = [(n.args["quant_max"] + 1).bit_length() - 1 for n in held.spec.nodes if n.op == CONSTANT]
            weights = [held.slot(name).bits for name, _ in held.weighted()]
            assert len(inputs) == len(weights) == 2
            assert set(count(held).macs_by_bits) == {f"w{w}a{a}" for w, a in zip(weights, inputs, strict=True)}
            found[rate] = sum(inputs) / 2, sum(weights) / 2, accuracy(held, test)
        for kind in (0, 1):
            assert found[0.0][kind] >= 7 and found[0.1][kind] <= 6, (seed, found)
        assert found[0.1][2] >= accuracy(mlp(seed), test) - 3, (seed, found)


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
            found.append((t, {n: float(net.slot(n).length()) for n, _ in net.weighted()}))
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
        slot.length.settle_()
        slot().square().sum().backward()
        assert float(slot.length()) == math.ceil(start) and slot.length.value.grad is None
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


@pytest.mark.parametrize("weigh", ["layers", "weights", "macs"])
def test_what_the_lengths_of_inputs_weigh(weigh: str) -> None:
    """λ of layers: 1 over twice their number; by footprint the values of one sample; MACs of all layers that read it."""
    net = small_conv()
    shares = BitPruning(weigh=weigh, activations=True).shares(net)
    rows, nodes = {row.slot: row for row in layers(net)}, {str(w): node for w, node in net.weighted()}
    assert sum(shares.values()) == pytest.approx(1) and len(shares) == 10
    wide, stem = (shares[f"{nodes[name].args['input']}_quantized"] for name in ("wide.weight", "stem.weight"))
    if weigh == "layers":
        assert set(shares.values()) == {0.1}
    elif weigh == "weights":
        assert wide / stem == pytest.approx(8) and wide / shares["wide.weight"] == pytest.approx(8 * 64 / (12 * 8 * 9))
    else:
        assert wide / stem == pytest.approx(rows["wide.weight"].macs / rows["stem.weight"].macs)


@pytest.mark.parametrize("wrong", [{"activations": 1.5}, {"rate": -1.0}, {"weigh": "all"}, {"start": 9}, {"tune": 0.0}])
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        BitPruning(**wrong)
