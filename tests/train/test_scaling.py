"""Mixed precision: A-S3-16 and part E 17, the scale's state machine, and a training in 16-bit floats."""

import math
from pathlib import Path

import pytest
import torch

from contracts.digits_task import accuracy, digits
from contracts.nets import inputs_for, small_mlp
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.train import fit as loop
from paredown.train.data import Data
from paredown.train.fit import Extras, Stopped, fit
from paredown.train.scaling import FIRST_SCALE, next_scale, unscale_


def half(value: float) -> float:
    return float(torch.tensor(value).half())


def test_what_16_bits_lose() -> None:
    assert half(2.0**-27) == 0 and half(2.0**-27 * 1024) == 2.0**-17
    assert half(1 + 2.0**-12) == 1 and float(torch.tensor(1 + 2.0**-12)) > 1, "which is why float32 weights are kept"


def test_a_small_gradient_survives_a_scaled_loss() -> None:
    for scale, wanted in ((1.0, 0.0), (1024.0, 2.0**-27)):
        weight = torch.zeros(1, requires_grad=True)
        (weight.half() * 2.0**-13 * (2.0**-14 * scale)).float().sum().backward()
        assert unscale_([weight.grad], scale) and float(weight.grad) == wanted


def test_the_scale_is_halved_at_an_overflow_and_doubled_after_good_steps() -> None:
    scale, good, seen = 8.0, 0, []
    for finite in [True, True, True, False, True, False, True, True, True]:
        scale, good = next_scale(scale, good, finite, patience=3)
        seen.append((scale, good))
    assert seen == [(8, 1), (8, 2), (16, 0), (8, 0), (8, 1), (4, 0), (4, 1), (4, 2), (8, 0)]
    assert next_scale(1.0, 5, False) == (1.0, 0)
    assert next_scale(2.0**24, 1999, True) == (2.0**24, 0) and next_scale(4.0, 1999, True) == (8.0, 0)
    assert next_scale(4.0, 1998, True) == (4.0, 1999)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_one_bad_gradient_is_seen(bad: float) -> None:
    gradients = [torch.tensor([2.0, 4.0]), torch.tensor([[8.0]])]
    assert unscale_(gradients, 2.0) and [g.tolist() for g in gradients] == [[1, 2], [[4]]]
    gradients[0][1] = bad
    assert not unscale_(gradients, 2.0)
    assert unscale_([], 2.0)


def data() -> Data:
    return Data(inputs_for(small_mlp(), 32)[0], torch.arange(32) % 10)


def test_an_overflow_skips_the_step_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    net, scales = small_mlp(), []
    before = {k: v.clone() for k, v in net.state_dict().items()}

    def told(scale: float, good: int, finite: bool) -> tuple[float, int]:
        scales.append((scale, finite))
        return next_scale(scale, good, finite)

    monkeypatch.setattr(loop, "next_scale", told)

    class Huge(CrossEntropy):
        def of(self, student: torch.Tensor, target: torch.Tensor, teacher: object = None) -> torch.Tensor:
            return super().of(student, target) * 1e36

    done = fit(net, data(), Huge(), plan=Plan(epochs=1, batch=16, precision="float16"))
    assert done["steps"] == 2 and scales == [(2.0**15, False), (2.0**14, False)]
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_digits_in_16_bits_train_as_well_as_in_32(precision: str) -> None:
    """Three seeds; asserted: at most 1 point below float32. The weights stay float32."""
    for seed in range(3):
        train, test = digits(seed)
        found = {}
        for kind in ("float32", precision):
            net = small_mlp()
            fit(net, train, CrossEntropy(), plan=Plan(epochs=20, precision=kind), seed=seed)
            assert all(p.dtype == torch.float32 for p in net.parameters())
            found[kind] = accuracy(net, test)
        assert found[precision] >= found["float32"] - 1, (seed, found)


def test_the_scale_is_resumed(tmp_path: Path) -> None:
    """Overflows at the beginning leave a scale that a training taken up has to know."""
    plan, file = Plan(epochs=40, batch=16, precision="float16"), tmp_path / "training"

    class Large(CrossEntropy):
        def of(self, student: torch.Tensor, target: torch.Tensor, teacher: object = None) -> torch.Tensor:
            return super().of(student, target) * 2.0**11

    def stop(progress: float) -> None:
        if progress >= 0.5:
            raise Stopped

    whole, halves, again = small_mlp(), small_mlp(), small_mlp()
    fit(whole, data(), Large(), plan=plan)
    with pytest.raises(Stopped):
        fit(halves, data(), Large(), plan=plan, extras=Extras(watch=stop, checkpoint=file, checkpoint_epochs=10))
    state = torch.load(file, weights_only=True)["state"]
    assert 1 < state["loss_scale"] < FIRST_SCALE and state["good_steps"] > 0
    fit(again, data(), Large(), plan=plan, extras=Extras(checkpoint=file))
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in whole.state_dict().items())


def test_other_precisions_are_refused() -> None:
    with pytest.raises(BadInput, match="precision"):
        Plan(precision="float8")
