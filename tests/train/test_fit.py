"""The loop: to the bit the same after an interruption, best or averaged weights at the end, and clear refusals."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contracts.nets import small_mlp
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.graph.capture import capture
from paredown.graph.net import Net
from paredown.graph.slots import Codebook, Grid, LearnedStep, Masked
from paredown.methods.habit.centroids import Centroids
from paredown.methods.habit.coded_size import CodedSize
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.loss.soften import Soften
from paredown.methods.quantize.learned_step import first_step
from paredown.methods.quantize.uniform import Uniform
from paredown.train.data import Data
from paredown.train.fit import Extras, Stopped, fit
from paredown.train.schedule import factor


def data(n: int = 70) -> Data:
    """Return pictures whose label is where they are bright."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 4
    x = 0.3 * torch.rand((n, 1, 8, 8), generator=draw)
    for at, label in enumerate(y.tolist()):
        x[at, :, 4 * (label // 2) : 4 * (label // 2) + 4, 4 * (label % 2) : 4 * (label % 2) + 4] += 0.5
    return Data(x, y, ("shift", "rotate", "noise", "flip"))


def network(seed: int = 0) -> Net:
    """Return a network with everything that has a state: norms, dropout, a mask, a codebook, learned steps."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = nn.Sequential(
            nn.Conv2d(1, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(216, 8),
            nn.ReLU(),
            nn.Linear(8, 8),
            nn.ReLU(),
            nn.Linear(8, 4),
        )
        net = capture(module, torch.rand(2, 1, 8, 8))
        weight = net.slot("0.weight")().detach()
        net.set_slot("0.weight", Masked(weight, weight > -0.1))
        net.set_slot("7.weight", Codebook(torch.randint(0, 5, (8, 8)), torch.tensor([-0.3, -0.1, 0.0, 0.2, 0.3])))
        value = net.slot("5.weight")().detach()
        net.set_slot("5.weight", LearnedStep(value, 4, first_step(value, 4)))
    return net


HABITS = (CodedSize(60.0), Centroids())
PLAN = Plan(epochs=9, lr=1e-2, batch=16, augment=0.8, ema=0.9, weight_decay=0.01)


class Kill:
    """A watch that stops the training when it is called for the n-th time."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, progress: float) -> None:
        self.left -= 1
        if self.left < 0:
            raise Stopped


def equal(a: nn.Module, b: nn.Module) -> bool:
    mine, its = a.state_dict(), b.state_dict()
    return mine.keys() == its.keys() and all(torch.equal(v, its[k]) for k, v in mine.items())


def through(tmp_path: Path, plan: Plan, deaths: list[int], **settings: Any) -> tuple[Net, dict[str, float]]:
    """Return the network and result of a training that is killed again and again, each time in a fresh process."""
    for death in deaths:
        torch.manual_seed(death)  # whatever the process's generator was at
        extras = Extras(watch=Kill(death), checkpoint=tmp_path / "fit.pt", checkpoint_epochs=2, **settings)
        with pytest.raises(Stopped):
            fit(network(seed=death + 1), data(), CrossEntropy(), HABITS, plan, 3, extras)
    net = network(seed=99) if (tmp_path / "fit.pt").exists() else network()
    return net, fit(
        net,
        data(),
        CrossEntropy(),
        HABITS,
        plan,
        3,
        Extras(checkpoint=tmp_path / "fit.pt", checkpoint_epochs=2, **settings),
    )


@pytest.mark.parametrize(
    "plan",
    [PLAN, replace(PLAN, ema=0.0, schedule="onecycle"), replace(PLAN, epochs=7.6)],
    ids=["ema", "no ema", "part"],
)
def test_an_interrupted_training_ends_the_same_to_the_bit(plan: Plan, tmp_path: Path) -> None:
    whole = network()
    wanted = fit(whole, data(), CrossEntropy(), HABITS, plan, 3)
    calls = round(plan.epochs * 4) // 16
    assert calls >= 1
    first = network()  # dies before the first checkpoint's end; its weights are given up
    with pytest.raises(Stopped):
        fit(
            first,
            data(),
            CrossEntropy(),
            HABITS,
            plan,
            3,
            Extras(watch=Kill(0), checkpoint=tmp_path / "fit.pt", checkpoint_epochs=2),
        )
    assert (tmp_path / "fit.pt").exists()
    again, found = through(tmp_path, plan, [0, calls - 1])
    assert equal(again, whole) and found == wanted
    assert not list(tmp_path.iterdir())  # nothing is left behind


@pytest.mark.parametrize("patience", [2, 30])
def test_early_stopping_survives_an_interruption(patience: int, tmp_path: Path) -> None:
    def val(net: nn.Module) -> float:
        with torch.no_grad():
            return float((net(data().x).argmax(1) == data().y).float().mean())

    plan = replace(PLAN, epochs=12, patience=patience)
    whole = network()
    wanted = fit(whole, data(), CrossEntropy(), HABITS, plan, 3, Extras(val=val))
    with pytest.raises(Stopped):
        fit(
            network(),
            data(),
            CrossEntropy(),
            HABITS,
            plan,
            3,
            Extras(val=val, watch=Kill(0), checkpoint=tmp_path / "fit.pt", checkpoint_epochs=2),
        )
    again, found = through(tmp_path, plan, [], val=val)
    assert equal(again, whole) and found == wanted


def test_the_same_seed_gives_the_same_and_another_another() -> None:
    nets = []
    for seed in (1, 1, 2):
        torch.manual_seed(100 + len(nets))
        nets.append(network())
        fit(nets[-1], data(), CrossEntropy(), HABITS, PLAN, seed)
    assert equal(nets[0], nets[1]) and not equal(nets[0], nets[2])


def test_it_learns_and_leaves_the_network_in_eval_mode() -> None:
    net = small_net()
    found = fit(net, data(200), CrossEntropy(), plan=Plan(epochs=15, lr=2e-2, batch=20))
    assert not net.training and found["steps"] == 150 and found["epochs"] == 15 and found["loss"] < 0.3
    assert (net(data(200).x).argmax(1) == data(200).y).float().mean() > 0.95


def small_net(seed: int = 0) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return capture(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4)), torch.rand(2, 1, 8, 8)
        )


def test_patience_keeps_the_best_epoch_and_stops() -> None:
    values = iter([0.1, 0.5, 0.4, 0.3, 0.2, 0.9])
    states = []

    def val(net: nn.Module) -> float:
        states.append({k: v.clone() for k, v in net.state_dict().items()})
        assert not net.training
        return next(values)

    net = small_net()
    found = fit(net, data(64), CrossEntropy(), plan=Plan(epochs=30, batch=16, patience=3), extras=Extras(val=val))
    assert len(states) == 5 and found["epochs"] == 5
    assert all(torch.equal(v, states[1][k]) for k, v in net.state_dict().items())
    assert not all(torch.equal(v, states[4][k]) for k, v in net.state_dict().items())


def test_the_average_is_exponential() -> None:
    """a ← d a + (1 − d) w, with d = min(ema, (1 + n) / (10 + n)) at step n; the first average is the first weights."""
    seen: list[dict[str, Tensor]] = []

    class Look:
        def start(self, net: Net) -> dict:
            return {}

        def step(self, net: Net, state: dict, t: float) -> dict:
            seen.append({k: v.detach().clone() for k, v in net.named_parameters()})
            return state

    net = small_net()
    fit(net, data(64), CrossEntropy(), (Look(),), Plan(epochs=5, batch=16, ema=0.6, lr=1e-2))
    assert len(seen) == 20
    for name, parameter in net.named_parameters():
        average = seen[0][name].clone()
        for n, weights in enumerate(seen[1:], 2):
            decay = min(0.6, (1 + n) / (10 + n))
            average = decay * average + (1 - decay) * weights[name]
        torch.testing.assert_close(parameter.detach(), average, rtol=1e-4, atol=1e-6)
        assert not torch.equal(parameter, seen[-1][name])


def test_validation_sees_the_averaged_weights() -> None:
    states = []

    def val(net: nn.Module) -> float:
        states.append({k: v.clone() for k, v in net.state_dict().items()})
        return float(len(states))

    net = small_net()
    fit(
        net,
        data(64),
        CrossEntropy(),
        plan=Plan(epochs=3, batch=16, ema=0.9, patience=9, lr=1e-2),
        extras=Extras(val=val),
    )
    other = small_net()
    fit(other, data(64), CrossEntropy(), plan=Plan(epochs=3, batch=16, ema=0.9, lr=1e-2))
    assert all(torch.equal(v, states[-1][k]) for k, v in net.state_dict().items()) and equal(net, other)


def test_the_rate_follows_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []
    step = torch.optim.AdamW.step

    def spy(self: torch.optim.AdamW, *args: Any, **settings: Any) -> Any:
        rates.append({group["lr"] for group in self.param_groups})
        return step(self, *args, **settings)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    fit(small_net(), data(64), CrossEntropy(), plan=Plan(epochs=2, batch=16, lr=0.01, warmup=0.2))
    assert rates == [{0.01 * factor("cosine", i / 8, 0.2)} for i in range(8)]


def test_weight_decay_spares_vectors() -> None:
    class Nothing:
        def of(self, student: Tensor, target: Tensor, teacher: Tensor | None) -> Tensor:
            return 0 * student.sum()

    net = small_net()
    before = {k: v.clone() for k, v in net.named_parameters()}
    fit(
        net,
        data(64),
        Nothing(),
        plan=Plan(epochs=1, batch=64, lr=0.1, schedule="constant", warmup=0.0, weight_decay=0.5),
    )
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name] * (0.95 if parameter.dim() > 1 else 1.0))


def test_a_teacher_gives_its_scores_and_is_left_alone() -> None:
    teacher, seen = small_net(5).eval(), []

    class Look(CrossEntropy):
        def of(self, student: Tensor, target: Tensor, taught: Tensor | None = None) -> Tensor:
            assert taught is not None and not taught.requires_grad
            seen.append(taught)
            return Soften(share=1.0).of(student, target, taught)

    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    net = small_net()
    found = fit(net, data(64), Look(), plan=Plan(epochs=40, batch=16, lr=2e-2), extras=Extras(teacher=teacher))
    assert len(seen) == 160 and all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert (net(data().x).argmax(1) == teacher(data().x).argmax(1)).float().mean() > 0.8 and found["loss"] < 0.2


def test_progress_is_told_and_a_stop_is_obeyed() -> None:
    told: list[float] = []
    fit(small_net(), data(64), CrossEntropy(), plan=Plan(epochs=20, batch=16), extras=Extras(watch=told.append))
    assert told == sorted(told) and len(told) == 5 and told[-1] == 1
    with pytest.raises(Stopped):
        fit(small_net(), data(64), CrossEntropy(), plan=Plan(epochs=20, batch=16), extras=Extras(watch=Kill(2)))


def test_habits_act_in_order_and_finish() -> None:
    calls: list[Any] = []

    class Note:
        def __init__(self, name: str) -> None:
            self.name = name

        def start(self, net: Net) -> dict:
            return {"n": 0}

        def penalty(self, net: Net, state: dict) -> Tensor:
            return torch.zeros(())

        def step(self, net: Net, state: dict, t: float) -> dict:
            calls.append((self.name, state["n"], t))
            return {"n": state["n"] + 1}

        def finish(self, net: Net, state: dict) -> None:
            calls.append((self.name, "end", state["n"]))

    fit(small_net(), data(32), CrossEntropy(), (Note("a"), Note("b")), Plan(epochs=1, batch=16))
    assert calls == [("a", 0, 0.5), ("b", 0, 0.5), ("a", 1, 1.0), ("b", 1, 1.0), ("a", "end", 2), ("b", "end", 2)]


@pytest.mark.parametrize("bad", ["rate", "data"])
def test_a_training_that_diverges_names_the_rate(bad: str) -> None:
    class Steep(CrossEntropy):
        def of(self, student: Tensor, target: Tensor, teacher: Tensor | None = None) -> Tensor:
            return -student.square().mean().exp()

    given = data(64) if bad == "rate" else Data(data(64).x * float("nan"), data(64).y)
    with pytest.raises(BadInput, match=r"diverged in epoch \d+.*lower lr=0\.5") as error:
        fit(small_net(), given, Steep() if bad == "rate" else CrossEntropy(), plan=Plan(epochs=50, batch=16, lr=0.5))
    assert "\n" not in str(error.value)


def test_nothing_to_train_is_said() -> None:
    from paredown.core.work import Work

    net = Uniform(bias_bits=8).apply(small_mlp(), Work())
    assert all(isinstance(net.slot(n), Grid) for n in net.slot_names())
    with pytest.raises(BadInput, match="nothing left to train"):
        fit(net, Data(torch.rand(8, 64), torch.arange(8)), CrossEntropy())


def test_bfloat16_trains_float32_weights() -> None:
    net = small_net()
    found = fit(net, data(200), CrossEntropy(), plan=Plan(epochs=10, lr=2e-2, batch=20, precision="bfloat16"))
    assert {p.dtype for p in net.parameters()} == {torch.float32} and found["loss"] < 0.5
    mixed = network()
    fit(mixed, data(), CrossEntropy(), HABITS, replace(PLAN, epochs=1, precision="bfloat16"))
    assert all(torch.isfinite(p).all() for p in mixed.parameters())


def test_a_part_of_an_epoch_and_a_batch_larger_than_the_data() -> None:
    assert fit(small_net(), data(64), CrossEntropy(), plan=Plan(epochs=0.5, batch=16))["steps"] == 2
    assert fit(small_net(), data(10), CrossEntropy(), plan=Plan(epochs=3, batch=512))["steps"] == 3


def test_a_plan_outside_its_ranges_is_refused() -> None:
    for wrong in (
        {"epochs": 0},
        {"lr": 2.0},
        {"batch": 0},
        {"schedule": "step"},
        {"ema": 1.0},
        {"precision": "float8"},
        {"lr": "big"},
    ):
        with pytest.raises(BadInput, match=next(iter(wrong))):
            Plan(**wrong)


@pytest.mark.parametrize(
    ("capability", "last"), [("AVX512", True), ("AVX512_VNNI", True), ("AVX2", False), ("DEFAULT", False)]
)
def test_convolutions_train_channels_last_where_it_is_safe_and_are_left_as_they_were(
    capability: str, last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    seen = []

    class Look:
        def start(self, net: nn.Module) -> dict:
            return {}

        def step(self, net: Any, state: dict, t: float) -> dict:
            seen.append(net[1].weight.stride()[1] == 1)
            return state

    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(32, 4))
    fit(net, data(), CrossEntropy(), (Look(),), Plan(epochs=1, batch=16))
    assert seen and all(found == last for found in seen)
    assert all(p.is_contiguous() for p in net.parameters())
