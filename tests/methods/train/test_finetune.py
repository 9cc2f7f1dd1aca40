"""Training as a step: everything it is given reaches the loop, and what is masked stays masked."""

import copy
from typing import Any

import pytest
import torch

from contracts.nets import inputs_for, small_conv, small_mlp
from contracts.step import StepContract
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.core.recipe import Recipe
from paredown.core.work import Work
from paredown.graph.net import Net
from paredown.graph.slots import Codebook, Masked
from paredown.methods.habit.centroids import Centroids
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.loss.soften import Soften
from paredown.methods.quantize.uniform import Uniform
from paredown.methods.train.finetune import Finetune
from paredown.train.data import Data
from paredown.train.fit import fit


def services(seed: int = 0) -> dict[str, Any]:
    def train(net: Net, loss: Any, habits: Any, plan: Plan) -> Any:
        (x,) = inputs_for(net, 32)
        return fit(net, Data(x, torch.arange(32) % 10), loss, habits, plan, seed)

    return {"fit": train}


class TestFinetune(StepContract):
    def part(self) -> Finetune:
        return Finetune(plan=Plan(epochs=3, batch=16))

    def settings(self) -> list[Finetune]:
        return [Finetune(), Finetune(Soften(2.0), (Centroids(),), Plan(epochs=1, ema=0.5, schedule="linear"))]

    def work(self, seed: int = 0) -> Work:
        work = super().work(seed)
        return Work({**work.services, **services(seed)}, seed)


def test_it_hands_the_loop_what_it_was_given() -> None:
    seen: list[Any] = []
    part = Finetune(Soften(3.0), (Centroids(),), Plan(epochs=7))
    out = part.apply(small_mlp(), Work({"fit": lambda *args, **settings: seen.append((args, settings))}))
    ((args, settings),) = seen
    assert args == (out,) and settings == {"loss": Soften(3.0), "habits": (Centroids(),), "plan": Plan(epochs=7)}


def loss_of(net: Net) -> float:
    (x,) = inputs_for(net, 32)
    return float(CrossEntropy().of(net.eval()(x), torch.arange(32) % 10))


@pytest.mark.parametrize(("make", "share"), [(small_conv, 0.97), (small_mlp, 0.8)])
def test_the_loss_falls(make: Any, share: float) -> None:
    net = make()
    trained = Finetune(plan=Plan(epochs=30, lr=1e-2, batch=32)).apply(net, Work(services()))
    assert loss_of(trained) < share * loss_of(net)


def test_masks_and_codes_stay_while_values_move() -> None:
    net = small_mlp()
    first, second, _ = (name for name, _ in net.weighted())
    weight = net.slot(first)().detach()
    net.set_slot(first, Masked(weight, weight > 0))
    codes = torch.randint(0, 4, net.slot(second)().shape)
    net.set_slot(second, Codebook(codes, torch.tensor([-0.3, 0.0, 0.1, 0.4])))
    before = copy.deepcopy(net.state_dict())
    trained = Finetune(habits=(Centroids(),), plan=Plan(epochs=5, batch=16)).apply(net, Work(services()))
    assert torch.equal(trained.slot(first)() != 0, weight > 0) and not torch.equal(
        trained.slot(first)(), net.slot(first)()
    )
    assert torch.equal(trained.slot(second).codes, codes.to(torch.uint8))
    centroids = trained.slot(second).centroids.tolist()
    assert centroids[1] == 0 and centroids[0] != pytest.approx(-0.3, abs=1e-6)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_it_cannot_follow_quantization() -> None:
    with pytest.raises(BadInput, match="quantized"):
        Recipe((Uniform(), Finetune())).check()
    Recipe((Finetune(), Uniform())).check()


def test_without_the_service_it_says_so() -> None:
    with pytest.raises(LookupError, match="fit"):
        Finetune().apply(small_mlp(), Work().scoped("train.finetune", {"fit"}))
