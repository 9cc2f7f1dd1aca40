"""BNN+: SignSwish and the pull, held to their formulae (A-S0-14, part E 11), and to what the pull is for."""

import pytest
import torch

from contracts.digits_task import accuracy, digits
from contracts.nets import inputs_for, small_mlp
from contracts.trained_step import TrainedStepContract, deep_mlp, samples, trainer
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.net import Net
from paredown.graph.signs import read_signs_, settle_signs_
from paredown.methods.quantize.binary_plus import (
    INPUTS,
    BinaryPlus,
    BinaryPlusTraining,
    Steepness,
    pull,
    sign_swish,
    sign_swish_slope,
)

SHORT = Plan(epochs=2, batch=16)


class TestBinaryPlus(TrainedStepContract):
    flips = 0.02

    def part(self) -> BinaryPlusTraining:
        return BinaryPlusTraining(plan=SHORT)

    def settings(self) -> list[BinaryPlusTraining]:
        return [BinaryPlusTraining(10.0, 1e-4, 2, False, False, plan=Plan(epochs=3))]


class TestWeightsAlone(TrainedStepContract):
    def part(self) -> BinaryPlusTraining:
        return BinaryPlusTraining(binary_inputs=False, real_ends=False, pull=1e-2, power=2, plan=SHORT)


class TestLearnedSteepnessAndMedians(TrainedStepContract):
    flips = 0.02

    def part(self) -> BinaryPlusTraining:
        return BinaryPlusTraining(scale="median", learn_steepness=True, real_ends=False, plan=SHORT)


POINTS = torch.arange(-3000, 3001, dtype=torch.float64) / 1000


@pytest.mark.parametrize("steepness", [1.0, 5.0, 10.0])
def test_the_slope_is_the_derivative(steepness: float) -> None:
    step = 1e-6
    rise = sign_swish(POINTS + step, steepness) - sign_swish(POINTS - step, steepness)
    assert (rise / (2 * step) - sign_swish_slope(POINTS, steepness)).abs().max() < 1e-7


def test_the_shape_of_sign_swish() -> None:
    value = sign_swish(POINTS, 5.0)
    assert float(value[3000]) == 0 and float(value.max()) == pytest.approx(1.19968, abs=1e-5)
    assert torch.equal(value.sign(), POINTS.sign())
    torch.testing.assert_close(value, -value.flip(0))
    away = POINTS.abs() > 0.05
    assert (sign_swish(POINTS, 500.0) - POINTS.sign())[away].abs().max() < 1e-8
    assert torch.isfinite(sign_swish_slope(torch.tensor([-1e6, 1e6]), 50.0)).all()


@pytest.mark.parametrize("power", [1, 2])
def test_the_pull_is_least_exactly_at_the_scale(power: int) -> None:
    scale = torch.tensor(0.3, dtype=torch.float64)
    found = torch.stack([pull(w, scale, power) for w in POINTS])
    assert POINTS[found.argsort()[:2]].abs().tolist() == pytest.approx([0.3, 0.3])
    assert float(pull(torch.tensor([-0.3, 0.3], dtype=torch.float64), scale, power)) == pytest.approx(0)
    assert float(pull(torch.tensor([0.5, 0.0], dtype=torch.float64), scale, power)) == pytest.approx(
        0.2**power + 0.3**power
    )


def test_the_gradients_of_weights_and_scales() -> None:
    slot = BinaryPlus(torch.tensor([[0.5, -1.5], [0.25, -0.25]]), 5.0)
    upstream = torch.tensor([[1.0, 2.0], [4.0, 8.0]])
    out = slot()
    out.backward(upstream)
    assert out.tolist() == [[1.0, -1.0], [0.25, -0.25]]
    assert slot.scale.grad.tolist() == [[1 - 2.0], [4 - 8.0]]
    slope = sign_swish_slope(slot.value.detach(), 5.0)
    torch.testing.assert_close(slot.value.grad, upstream * slope * torch.tensor([[1.0], [0.25]]))


@pytest.mark.parametrize("steepness", [1.5, 5.0, 10.0])
def test_the_gradient_of_a_learned_steepness_is_the_difference_quotient(steepness: float) -> None:
    """dL/db = Σ a · dSS_b/db · upstream, with the signs themselves forwards; b = exp of what is trained."""
    weight, upstream = torch.randn(3, 40).double() / 3, torch.randn(3, 40).double()
    slot = BinaryPlus(weight, Steepness(steepness)).double()
    slot().backward(upstream)
    scale, tiny = slot.used().detach(), 1e-6
    rise = sign_swish(weight, steepness * (1 + tiny)) - sign_swish(weight, steepness * (1 - tiny))
    assert float(slot.steepness.log.grad) == pytest.approx(
        float((upstream * scale * rise).sum() / (2 * tiny)), rel=1e-5
    )
    assert torch.equal(slot(), scale * torch.where(weight >= 0, 1.0, -1.0))
    assert float(Steepness(50.0)().detach()) == pytest.approx(50)


@pytest.mark.parametrize(("kind", "power"), [("median", 1), ("mean", 2)])
def test_a_taken_scale_is_where_the_pull_is_least(kind: str, power: int) -> None:
    """R1 of a filter is least at the median of |w|, R2 at the mean: no scale 1 % off is better."""
    weight = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    slot = BinaryPlus(weight, 5.0, kind)
    best = slot.found(kind)
    assert best.shape == (4, 1, 1) and not dict(slot.named_parameters()).keys() - {"value"}
    for row, scale in zip(weight, best.flatten(), strict=True):
        assert all(pull(row, scale, power) <= pull(row, scale * (1 + off), power) for off in (-0.01, 0.01))
    assert torch.allclose(slot.held().step, best, rtol=1 / 16)
    with torch.no_grad():
        slot.value.mul_(4)
    assert torch.equal(slot.found(kind), 4 * best), "it follows the weights"


def test_steepness_is_learned_for_weights_and_inputs() -> None:
    net, seen = small_mlp(), []
    part = BinaryPlusTraining(learn_steepness=True, plan=Plan(epochs=10, batch=16))
    held = part.apply(net, Work({"fit": trainer(samples(net), 0, seen)}))
    found = [float(slot()) for slot in seen[0].modules() if isinstance(slot, Steepness)]
    assert len(found) == 2 and all(b != 5 and 1 <= b <= 50 for b in found)
    assert INPUTS in seen[0].slot_names() and INPUTS not in held.slot_names()


def test_the_sign_of_an_input_has_the_slope_of_sign_swish_and_settles_into_plain_signs() -> None:
    net, (x,) = small_mlp().eval(), inputs_for(small_mlp(), 64)
    plain, smooth = net.copy(), net.copy()
    read_signs_(plain, ["2.weight"], False, lambda layer, why: pytest.fail(why))
    sources = read_signs_(smooth, ["2.weight"], False, lambda layer, why: pytest.fail(why), 5.0)
    assert torch.equal(smooth(x), plain(x))
    smooth(x).sum().backward()
    plain(x).sum().backward()
    assert not torch.equal(smooth.slot("0.weight").value.grad, plain.slot("0.weight").value.grad)
    bias, hidden = smooth.slot("0.bias").value.grad, net.slot("0.weight")() @ x.T + net.slot("0.bias")()[:, None]
    after = net.copy()
    read_signs_(after, ["2.weight"], False, lambda layer, why: None)
    middle = after.slot("2.weight")() @ torch.where(hidden > 0, 1.0, -1.0) + after.slot("2.bias")()[:, None]
    back = net.slot("2.weight")().T @ ((middle > 0) * (net.slot("4.weight")().T @ torch.ones(10, 64)))
    torch.testing.assert_close(bias, (back * sign_swish_slope(hidden, 5.0)).sum(1), rtol=1e-3, atol=1e-4)
    settle_signs_(smooth, sources)
    assert smooth.spec == plain.spec and torch.equal(smooth(x), plain(x))


def spread(net: Net) -> float:
    """Return how far |w| lies from its scale, relative to the scale."""
    slot = net.slot("3.weight")
    return float(((slot.used() - slot.value.abs()) / slot.used()).std())


def test_digits_and_the_pull_narrows_the_weights() -> None:
    """64-256-256-10, the middle layer binary times binary, three seeds; asserted: 94 %, and |w| nearer to a."""
    for seed in range(3):
        train, test = digits(seed)
        spreads = {}
        for rate in (0.0, 1e-3):
            seen: list = []
            part = BinaryPlusTraining(pull=rate, plan=Plan(epochs=10, lr=5e-3))
            held = part.apply(deep_mlp(seed), Work({"fit": trainer(train, seed, seen)}))
            assert accuracy(held, test) >= 94, (seed, rate, accuracy(held, test))
            spreads[rate] = spread(seen[0])
        assert spreads[1e-3] < 0.9 * spreads[0.0], (seed, spreads)


def test_scales_are_trained() -> None:
    net, seen = small_mlp(), []
    held = BinaryPlusTraining(plan=Plan(epochs=10, batch=16)).apply(net, Work({"fit": trainer(samples(net), 0, seen)}))
    start = BinaryPlus(net.slot("2.weight")(), 5.0).scale
    assert not torch.equal(start, seen[0].slot("2.weight").scale)
    assert held.slot("2.weight").step.shape == (16, 1) and held.slot("2.weight").bits == 1


@pytest.mark.parametrize(
    "wrong", [{"steepness": 0.0}, {"scale": "max"}, {"pull": -1.0}, {"power": 3}, {"binary_inputs": 5}]
)
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        BinaryPlusTraining(**wrong)
