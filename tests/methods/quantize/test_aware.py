"""Quantization-aware training with folded norms, held to the whitepaper's section 3.2.2 (A-S0-15) by hand."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.digits_task import accuracy, digits, mlp
from contracts.nets import inputs_for, small_conv
from contracts.trained_step import TrainedStepContract, samples, trainer
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.net import Net
from paredown.graph.slots import Free, Grid, LearnedStep
from paredown.methods.edit.fold_batchnorm import FoldBatchnorm
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.quantize.aware import FROZEN, Aware, AwareSteps, Norm, QuantizationAware, followers, rounded
from paredown.methods.quantize.uniform import Uniform
from paredown.train.data import Data
from paredown.train.fit import fit

SHORT = Plan(epochs=2, batch=16)


class TestAware(TrainedStepContract):
    def part(self) -> QuantizationAware:
        return QuantizationAware(plan=SHORT)

    def settings(self) -> list[QuantizationAware]:
        return [QuantizationAware(2, 8, plan=Plan(epochs=3))]

    def test_what_is_held_is_what_training_computed(self) -> None:
        """The norms are gone, so outputs are compared: equal up to float rounding."""
        for net in self.nets().values():
            learning, out = self.trained(net)
            (x,) = inputs_for(net, 64)
            torch.testing.assert_close(out(x), learning(x), rtol=1e-4, atol=1e-5)
            assert all(isinstance(out.slot(name), Grid) for name, _ in out.weighted())
            assert not [node for node in out.spec.nodes if node.op == "batch_norm"]


class TestFrozenWithLearnedSteps(TestAware):
    def part(self) -> QuantizationAware:
        return QuantizationAware(plan=SHORT, freeze_at=0.5, steps="learned")


class TestWithActivations(TrainedStepContract):
    """What differs in a file is by one level: a value on the border between two."""

    flips = 0.1

    def part(self) -> QuantizationAware:
        return QuantizationAware(bits=8, activation_bits=8, plan=SHORT)

    def test_what_is_held_is_what_training_computed(self) -> None:
        """The learned steps of activations are shortened to four significant bits when they are held."""
        for net in self.nets().values():
            learning, out = self.trained(net)
            (x,) = inputs_for(net, 64)
            assert (out(x) - learning(x)).abs().mean() < 0.1 * learning(x).abs().mean()


def test_a_training_step_has_the_papers_correction() -> None:
    """y = Q(W γ/σ) x · σ/σ_B + β − γ μ_B/σ_B, with the long-term σ and the batch's μ_B and σ_B."""
    net, (x,) = small_conv(), inputs_for(small_conv(), 32)
    with torch.no_grad():
        net.slot("n1.weight").value.copy_(torch.linspace(-1, 2, 8))
        net.slot("n1.bias").value.copy_(torch.linspace(-1, 1, 8))
    gain, bias, weight = (net.slot(name)().detach() for name in ("n1.weight", "n1.bias", "stem.weight"))
    norm = followers(net)["stem.weight"]
    sigma = torch.sqrt(net.slot(norm.args["running_var"])().clone() + norm.args["eps"])
    seen: dict[str, Tensor] = {}

    def train(learning: Net, **_: Any) -> None:
        learning.train().run(x, watch=lambda node, value: seen.update({node.name: value.detach()}))

    QuantizationAware(bits=3).apply(net, Work({"fit": train}))
    codes, step = rounded(weight * (gain / sigma).view(-1, 1, 1, 1), 3)
    raw = F.conv2d(x, weight=codes * step, padding=1)
    plain = raw * (sigma / gain).view(-1, 1, 1)
    mean, spread = plain.mean((0, 2, 3)), torch.sqrt(plain.var((0, 2, 3), unbiased=False) + norm.args["eps"])
    wanted = raw * (sigma / spread).view(-1, 1, 1) + (bias - gain * mean / spread).view(-1, 1, 1)
    torch.testing.assert_close(seen[norm.name], wanted, rtol=1e-3, atol=1e-4)


class Watch:
    """A habit that keeps what `see(net, t)` returns after each step."""

    def __init__(self, see: Any) -> None:
        self.see, self.seen = see, []

    def start(self, net: Net) -> dict:
        return {}

    def step(self, net: Net, state: dict, t: float) -> dict:
        self.seen.append((t, self.see(net, t)))
        return state


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_once_the_norms_are_frozen_training_and_inference_agree(at: float) -> None:
    net, (x,) = small_conv(), inputs_for(small_conv(), 32)
    stem = net.spec.node(followers(net)["stem.weight"].name).args["running_mean"]

    def see(learning: Net, t: float) -> tuple[bool, Tensor]:
        other, mean = learning.copy(), learning.slot(stem)().clone()
        return torch.equal(other.train()(x), other.eval()(x)), mean

    watch = Watch(see)
    part = QuantizationAware(plan=Plan(epochs=5, batch=16), freeze_at=at, habits=(watch,))
    held = part.apply(net, Work({"fit": trainer(samples(net))}))
    assert [same for _, (same, _) in watch.seen] == [at < 1 and t >= at for t, _ in watch.seen]
    before, after = ([mean for t, (_, mean) in watch.seen if late == (t >= at)] for late in (False, True))
    assert all(torch.equal(mean, after[0]) for mean in after) and (at == 0 or not torch.equal(before[0], after[0]))
    assert held.spec == QuantizationAware(plan=SHORT).apply(net, Work({"fit": trainer(samples(net))})).spec
    assert FROZEN not in held.slot_names()


def test_learned_steps_have_the_gradients_of_lsq() -> None:
    """Without a norm the slot is LSQ's, filter by filter; with one it is that of W s, divided by s."""
    value, upstream = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)
    gain, variance = Free(torch.tensor([1.0, -2.0, 0.5, 3.0])), Free(torch.tensor([1.0, 4.0, 0.25, 2.0]))
    for norm in (None, Norm(gain, variance, 1e-5)):
        slot = AwareSteps(value, 3, norm)
        factor = slot.factor()
        wanted = LearnedStep(value * factor, 3, slot.log_step.detach().exp())
        assert slot.log_step.shape == (4, 1, 1, 1) and torch.equal(slot(), wanted() / factor)
        assert torch.equal(slot.held()(), wanted.held()())
        slot().backward(upstream)
        (wanted() / factor).backward(upstream)
        torch.testing.assert_close(slot.value.grad, wanted.value.grad * factor)
        torch.testing.assert_close(slot.log_step.grad, wanted.log_step.grad)


def test_gradients_go_straight_through() -> None:
    slot, upstream = Aware(torch.randn(4, 3, 2, 2), 3), torch.randn(4, 3, 2, 2)
    slot().backward(upstream)
    assert torch.equal(slot.value.grad, upstream)
    assert len(slot().detach()[0].unique()) <= 7


def test_a_norm_that_cannot_be_folded_is_noted_and_kept() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm, self.b = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.norm(torch.relu(self.a(x))))

    net = capture(Odd().eval(), torch.rand(2, 6))
    work = Work({"fit": trainer(samples(net))})
    held = QuantizationAware(plan=SHORT).apply(net, work)
    assert [(note.layer, "not folded" in note.text) for note in work.notes] == [("norm", True)]
    assert sum(node.op == "batch_norm" for node in held.spec.nodes) == 1
    assert isinstance(held.slot("norm.weight"), Free) and isinstance(held.slot("a.weight"), Grid)


def pictures(data: Data) -> Data:
    return Data(data.x.view(-1, 1, 8, 8), data.y)


def convolutional(seed: int) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = (
            nn.Conv2d(1, 12, 3, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
            nn.Conv2d(12, 12, 3, stride=2, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
            nn.Flatten(), nn.Linear(48, 10),
        )  # fmt: skip
        return capture(nn.Sequential(*layers).eval(), torch.rand(2, 1, 8, 8))


def test_few_bits_by_training_beat_few_bits_by_rounding_on_digits() -> None:
    """A convolutional network with norms, three seeds: 95.1, 90.2, 93.8 against 30.4, 69.6, 58.2 with weights of 2 bits by
    channel, and with 3 bits 98.0, 97.8, 96.4 of 97.6 in float. Asserted: 12 points more, and at most 3 points less.
    """
    for seed in range(3):
        train, test = (pictures(data) for data in digits(seed))
        net = convolutional(seed)
        fit(net, train, CrossEntropy(), plan=Plan(epochs=12, lr=1e-2), seed=seed)
        found = {}
        for bits, plan in ((2, Plan(epochs=16, lr=2e-2)), (3, Plan(epochs=8, lr=5e-3))):
            part = QuantizationAware(bits=bits, plan=plan)
            found[bits] = accuracy(part.apply(net, Work({"fit": trainer(train, seed)})), test)
        after = accuracy(Uniform(bits=2).apply(FoldBatchnorm().apply(net, Work()), Work()), test)
        assert found[2] >= after + 12 and found[3] >= accuracy(net, test) - 3, (seed, found, after)


def test_part_h_two_bits_of_a_multilayer_perceptron() -> None:
    """Part H: 96.0, 94.2, 94.2 against 52.7, 48.7, 41.3 by rounding; asserted: 25 points more, at most 4 below float."""
    for seed in range(3):
        train, test = digits(seed)
        aware = QuantizationAware(bits=2, plan=Plan(epochs=30)).apply(mlp(seed), Work({"fit": trainer(train, seed)}))
        after = Uniform(bits=2, granularity="tensor").apply(mlp(seed), Work())
        full, qat, ptq = (accuracy(n, test) for n in (mlp(seed), aware, after))
        assert qat >= ptq + 25 and qat >= full - 4, (seed, full, qat, ptq)


@pytest.mark.parametrize(
    "wrong", [{"bits": 1}, {"activation_bits": 6}, {"plan": 3}, {"freeze_at": 2}, {"steps": "all"}]
)
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        QuantizationAware(**wrong)
