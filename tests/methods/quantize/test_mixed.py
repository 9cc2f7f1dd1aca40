"""Widths chosen by integer programming: what is asked is what the network holds, computes and takes in a file."""

import itertools

import pytest
import torch
from torch import nn

from contracts.digits_task import accuracy
from contracts.nets import small_conv
from contracts.pooled_digits import pictures, pooled
from contracts.step import StepContract
from contracts.trained_step import TrainedStepContract, samples
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.cost.count import count
from paredown.graph.capture import capture
from paredown.graph.fold import fold_batchnorm
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.graph.slots import LearnedStep
from paredown.graph.widths import held
from paredown.methods.habit.coded_size import CodedSize
from paredown.methods.quantize.mixed import Limits, Mixed, MixedStep, memory_budget, operation_budget, trials_of, tried
from paredown.methods.sensitivity.divergence import Divergence
from paredown.methods.sensitivity.fisher import Fisher
from paredown.targets.container import write


class TestMixed(StepContract):
    def part(self) -> Mixed:
        return Mixed(3.0, sensitivity=Divergence(16), widths=(0, 2, 4, 8))

    def settings(self) -> list[Mixed]:
        return [Mixed(0, "channel", Fisher(), "trained", 0, (0, 2, 8), (4, 8), Limits(bops=10**9, coded=True))]


class TestChannels(StepContract):
    def part(self) -> Mixed:
        return Mixed(2.5, "channel", Fisher(samples=16), activation_widths=(4, 8))


class TestTrained(TrainedStepContract):
    def part(self) -> Mixed:
        return Mixed(2.5, "channel", Fisher(samples=16), "trained", 6, (0, 1, 2, 4), plan=Plan(epochs=2, batch=16))


def calibrated(net: Net) -> Work:
    data = samples(net, 64)
    return Work({"calib": (data.x, net.eval()(data.x).argmax(1).detach())})


def folded() -> Net:
    return fold_batchnorm(small_conv())[0].eval()


def mean_bits(net: Net) -> float:
    slots = [net.slot(name) for name, _ in net.weighted()]
    return sum(slot.code_bits() for slot in slots) / sum(slot.codes.numel() for slot in slots)


@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_the_mean_width_is_met_and_more_bits_harm_less(granularity: str) -> None:
    net = folded()
    part = Fisher(samples=16)
    step, work = Mixed(8.0, granularity, part), calibrated(net)
    trials = trials_of(net, step, work)
    harms = step.sensitivity.harms(trials, work)
    sums = []
    for bits in (1.5, 2.5, 4.0):
        asked = Mixed(bits, granularity, part)
        chosen = asked.choose(trials, work)
        sums.append(sum(row[w.index(b)] for row, w, b in zip(harms, trials.widths, chosen, strict=True)))
        assert bits - 1.2 < mean_bits(asked.apply(net, work)) <= bits
    assert sums[0] > sums[1] > sums[2]


def test_one_width_meets_its_own_mean_whatever_the_sizes_are() -> None:
    """Shares of these sizes times 3, 6 and 7 bits add up to more in floats."""
    sizes = (13, 13, 8, 8, 2)
    layers = [nn.Linear(inside, outside, bias=False) for inside, outside in itertools.pairwise(sizes)]
    net = capture(nn.Sequential(*layers), torch.rand(2, 13))
    work = Work({"calib": (torch.rand(8, 13), torch.zeros(8, dtype=torch.long))})
    for bits in (3, 6, 7):
        out = Mixed(float(bits), widths=(bits,)).apply(net, work)
        assert {out.slot(name).bits for name, _ in out.weighted()} == {bits}


def test_what_is_tried_is_what_is_held() -> None:
    net = folded()
    step = Mixed(2.5, "channel", Divergence(), bias_bits=0, activation_widths=(4, 8))
    work = calibrated(net)
    trials = trials_of(net, step, work)
    out, shown = step.apply(net, work).eval(), tried(trials, step.choose(trials, work))
    x = work.use("calib")[0]
    torch.testing.assert_close(out(x), shown(x))


def test_a_channel_of_no_bits_is_zero_and_its_weights_are_not_in_the_file() -> None:
    net = folded()
    with torch.no_grad():
        net.slot("fc.weight").value[:, 5] = 0  # nobody reads channel 5 of "wide"
    out = Mixed(2.0, "channel", Divergence()).apply(net, calibrated(net))
    wide = out.slot("wide.weight")
    assert int(wide.widths[5]) == 0 and not wide.codes[5].any() and wide.codes.any()


def test_bit_operations_and_memory_are_what_the_network_then_counts() -> None:
    """An exact hit: what the program thinks a choice costs is `cost.count`'s number; asked for, it is kept."""
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 4, 3, stride=2), nn.ReLU(), nn.Flatten()]
    net = capture(nn.Sequential(*layers, nn.Linear(36, 10)), torch.rand(2, 1, 8, 8))
    work = calibrated(net)
    wide, narrow = (count(Mixed(8.0, activation_widths=(a,), widths=(8,)).apply(net, work)) for a in (8, 2))
    assert narrow.ram_bytes < wide.ram_bytes
    for granularity, share in (("layer", 0.15), ("channel", 0.4)):
        limits = Limits(bops=int(share * wide.bops), ram_bytes=(narrow.ram_bytes + wide.ram_bytes) // 2)
        step = Mixed(0.0, granularity, Fisher(samples=16), activation_widths=(2, 4, 8), limits=limits)
        trials = trials_of(net, step, work)
        chosen = step.choose(trials, work)
        found = count(step.apply(net, work))
        at = [w.index(b) for w, b in zip(trials.widths, chosen, strict=True)]
        assert operation_budget(trials, 1).cost(at) == found.bops <= limits.bops
        assert memory_budget(trials, 1).cost(at) == found.ram_bytes <= limits.ram_bytes
        assert found.bops > 0.5 * limits.bops


def test_weight_bytes_plain_and_as_coded_are_near_the_file() -> None:
    net = capture(nn.Sequential(nn.Linear(64, 120), nn.ReLU(), nn.Linear(120, 10)), torch.rand(2, 64))
    for coded in (False, True):
        limits = Limits(weight_bytes=2500, coded=coded)
        out = Mixed(0.0, sensitivity=Divergence(), limits=limits).apply(net, calibrated(net))
        stored = sum(out.slot(name).code_bits() for name, _ in out.weighted()) / 8
        packed = write(freeze(out))[1]["weights"]
        assert stored <= 2500 or coded
        assert packed <= 2500 * 1.1
        assert not coded or stored > 1.05 * packed, "the widths may be larger where the codes are not spread evenly"


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Mixed(1.5, widths=(2, 4)), r"bits \(1.5 a weight\) cannot be met; the least possible is"),
        (Mixed(0, widths=(2,), limits=Limits(weight_bytes=9)), "9 bytes of weights cannot be met; the least possible is "),
        (Mixed(0, limits=Limits(ram_bytes=99)), "99 bytes of memory cannot be met; the least possible is "),
        (Mixed(0, widths=(2,), limits=Limits(bops=99)), "99 bit operations cannot be met; the least possible is "),
    ],
)  # fmt: skip
def test_a_budget_that_cannot_be_met_is_refused_in_one_line(step: Mixed, message: str) -> None:
    net = folded()
    with pytest.raises(BadInput, match=message) as caught:
        step.apply(net, calibrated(net))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [{"widths": ()}, {"widths": (2, 9)}, {"widths": (2, 2)}, {"widths": (2.5,)}, {"activation_widths": (1,)},
              {"mean_bits": 0.0}, {"rounding": "up"}, {"granularity": "tensor"}],
)  # fmt: skip
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Mixed(**wrong)


def test_a_learned_channel_has_lsqs_gradients_and_holds_what_it_computes() -> None:
    weight, widths = torch.randn((5, 8), generator=torch.Generator().manual_seed(0)), [0, 1, 2, 3, 8]
    slot = MixedStep(weight, held(weight, widths).step, widths)
    upstream = torch.randn((5, 8), generator=torch.Generator().manual_seed(1))
    slot().backward(upstream)
    assert torch.equal(slot(), slot.held()()) and slot.held().widths.tolist() == widths
    assert not slot.value.grad[0].any() and not slot()[0].any()
    for c, bits in ((3, 3), (4, 8)):
        one = LearnedStep(weight[c], bits, slot.log_step.detach().exp()[c, 0])
        one().backward(upstream[c])
        torch.testing.assert_close(slot()[c], one())
        torch.testing.assert_close(slot.value.grad[c], one.value.grad)
        torch.testing.assert_close(slot.log_step.grad[c, 0], one.log_step.grad)


@pytest.mark.parametrize(("granularity", "margin"), [("layer", 10), ("channel", 20)])
def test_mixed_widths_beat_two_bits_everywhere_at_fewer_bits(granularity: str, margin: float) -> None:
    """Rounded after training, three seeds, 1.9 bits on average."""
    for seed in range(3):
        net, (train, test) = pooled(seed), pictures(seed)
        work = Work({"calib": (train.x[:256], train.y[:256])})
        uniform = Mixed(2.0, widths=(2,)).apply(net, work)
        out = Mixed(1.9, granularity, Fisher(), widths=(1, 2, 3, 4, 6, 8)).apply(net, work)
        assert count(out).bits < count(uniform).bits
        gained = accuracy(out, test) - accuracy(uniform, test)
        assert gained > margin, (seed, gained)


def test_a_habit_for_learned_steps_sees_learned_channels() -> None:
    net = folded()
    weight = net.slot("wide.weight")().detach()
    widths = [0, 1, 2, 3, 4, 8] * 2
    slot = MixedStep(weight, held(weight, widths).step, widths)
    net.set_slot("wide.weight", slot)
    habit = CodedSize(100.0)
    habit.penalty(net, habit.start(net)).backward()
    moved = slot.log_step.grad.flatten()
    assert moved[[2, 3, 4, 5]].all() and not slot.value.grad[0].any() and slot.value.grad[3].any()
