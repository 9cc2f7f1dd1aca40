"""Rate–distortion rounding: its choices are the cheapest there are, its bytes are what is asked for, and it beats rounding alone."""

import itertools

import pytest
import torch
from torch import nn

from contracts.nets import small_conv, small_mlp
from contracts.step import StepContract
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.code_length import level_bits
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.graph.slots import Grid
from paredown.methods.quantize.gptq import Gptq
from paredown.methods.quantize.rate_distortion import (
    HIGH,
    RateDistortion,
    choose,
    even_step,
    lengths,
    output_harms,
    prepared,
)
from paredown.targets.container import write


class TestRateDistortion(StepContract):
    def part(self) -> RateDistortion:
        return RateDistortion(bytes=300.0)

    def settings(self) -> list[RateDistortion]:
        return [RateDistortion(90.0, "tensor", 0.8, 0.1)]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_where_bits_cost_nothing_it_is_rounding_with_error_feedback() -> None:
    """Of uncorrelated inputs: nearest rounding."""
    rows, step = normal(1, 6, 9), torch.full((1, 6, 1), 0.3, dtype=torch.float64)
    ready = prepared(torch.diag(torch.rand(9) + 0.1)[None], 1e-9)
    codes = choose(rows, ready, torch.ones(1, 6, 1), step, 0.0, torch.zeros(2 * HIGH + 1))
    assert torch.equal(codes, (rows / 0.3).round())


def test_of_one_column_the_choice_is_the_best_of_all_codes() -> None:
    rows, step, harm = (
        normal(1, 40, 1) * 3,
        torch.full((1, 40, 1), 0.7, dtype=torch.float64),
        torch.rand(1, 40, 1).double(),
    )
    cost = torch.full((2 * HIGH + 1,), 4.0, dtype=torch.float64)
    cost[HIGH] = 1.0
    for rate in (0.01, 0.1, 0.5):
        codes = choose(rows, prepared(torch.full((1, 1, 1), 2.0), 0.0), harm, step, rate, cost)
        every = torch.arange(-HIGH, HIGH + 1, dtype=torch.float64)
        price = 2 * harm * (rows - every * step).square() + rate * cost
        assert torch.allclose(price.gather(2, (codes + HIGH).long()), price.amin(2, keepdim=True))


def test_two_columns_are_within_reach_of_the_best_pair() -> None:
    """Greedy: never better than enumeration, and on the mean close to it."""
    ratios = []
    for seed in range(20):
        mixing = normal(2, 2, seed=seed)
        second, row, step = mixing @ mixing.T + 0.3 * torch.eye(2), normal(1, 1, 2, seed=seed + 50) * 2, 0.8
        cost, rate = 1.0 + torch.arange(-HIGH, HIGH + 1).abs().double(), 0.15

        def price(codes: torch.Tensor) -> float:
            error = row[0, 0] - step * codes  # noqa: B023
            return float(error @ second @ error + rate * cost[(codes + HIGH).long()].sum())  # noqa: B023

        got = choose(row, prepared(second[None], 0.0), torch.ones(1, 1, 1), torch.full((1, 1, 1), step), rate, cost)[
            0, 0
        ]
        best = min(price(torch.tensor(pair).double()) for pair in itertools.product(range(-6, 7), repeat=2))
        assert price(got) >= best - 1e-9
        ratios.append(price(got) / best)
    assert sum(ratios) / len(ratios) < 1.1


def test_the_step_is_where_a_bit_is_worth_its_price() -> None:
    """Halving a fine step costs a bit and saves three quarters of h Δ²/12: at the even step both change equally."""
    rate, harm = 0.02, torch.tensor(3.0)
    step = even_step(rate, harm)
    price = lambda s: float(harm * s**2 / 12 - rate * torch.log2(s))  # noqa: E731
    assert price(step) < min(price(step * 1.01), price(step / 1.01))


def test_lengths_are_those_of_the_shares() -> None:
    codes = torch.tensor([0] * 800 + [1] * 100 + [-1] * 100)
    cost = lengths(codes)
    assert float(cost[HIGH]) == pytest.approx(0.34, abs=0.05) and float(cost[HIGH + 1]) == pytest.approx(2.9, abs=0.4)
    assert float(torch.exp2(-cost).sum()) == pytest.approx(1.0)


def test_the_harm_of_an_output_is_its_fisher_information() -> None:
    """Of a linear classifier: half the mean of p(1 − p), in closed form."""
    net = capture(nn.Linear(5, 4), torch.rand(2, 5)).eval()
    x = torch.rand(4000, 5, generator=torch.Generator().manual_seed(0)) * 3
    (node,) = [n for _, n in net.weighted()]
    p = net(x).softmax(1)
    wanted = (p * (1 - p)).mean(0).double() / 2
    assert torch.allclose(output_harms(net, x, [node.name], 0)[node.name], wanted.detach(), rtol=0.1, atol=0.004)


@pytest.mark.parametrize("step", ["channel", "tensor"])
def test_codes_take_the_bytes_that_were_asked_for(step: str) -> None:
    for wanted in (120.0, 300.0, 600.0):
        net = small_conv()
        draw = torch.Generator().manual_seed(0)
        calib = torch.rand((64, *net.spec.inputs[0][1]), generator=draw), torch.zeros(64)
        out = RateDistortion(wanted, step).apply(net, Work({"calib": calib}))
        grids = [slot for slot in out.slots.values() if isinstance(slot, Grid)]
        assert 0.85 * wanted <= sum(level_bits(g.codes.numpy()) for g in grids) / 8 <= wanted
        items = write(freeze(out))[1]
        assert items["weights"] + items.get("biases", 0) == pytest.approx(wanted, rel=0.17, abs=8)


def test_fewer_bytes_than_zeros_take_are_refused() -> None:
    net = small_mlp()
    with pytest.raises(BadInput, match="bytes=8 is less"):
        RateDistortion(8.0).apply(net, Work({"calib": (torch.rand(8, *net.spec.inputs[0][1]), torch.zeros(8))}))


def test_what_a_network_does_is_kept_with_fewer_bytes_than_by_equal_widths() -> None:
    """Scores stay nearer to the float network's than with GPTQ at 3 bits, in no more bytes; three networks."""
    for seed in range(3):
        torch.manual_seed(seed)
        module = nn.Sequential(
            *(nn.Sequential(nn.Linear(a, b, bias=False), nn.ReLU()) for a, b in ((30, 40), (40, 30))),
            nn.Linear(30, 6, bias=False),
        )
        for weight in module.parameters():  # peaked, as trained weights are
            weight.data = weight**3 / weight.abs().max() ** 2 * 3
        x = torch.rand(400, 30) @ torch.randn(30, 30)
        net: Net = capture(module, x[:2]).eval()
        work = Work({"calib": (x, torch.zeros(400))})
        other = Gptq(3).apply(net, work).eval()
        taken = sum(level_bits(slot.codes.numpy()) for slot in other.slots.values() if isinstance(slot, Grid)) / 8
        mine = RateDistortion(taken, "tensor").apply(net, work).eval()
        wanted = net(x).log_softmax(1)
        harm = lambda n: float((wanted.exp() * (wanted - n(x).log_softmax(1))).sum(1).mean())  # noqa: B023, E731
        assert harm(mine) < harm(other)
