"""The size of a weight."""

import torch

from contracts.nets import small_mlp
from contracts.saliency import SaliencyContract
from paredown.core.work import Work
from paredown.methods.saliency.magnitude import Magnitude


class TestMagnitude(SaliencyContract):
    def part(self) -> Magnitude:
        return Magnitude()


def test_it_is_the_absolute_value_and_asks_for_nothing() -> None:
    net = small_mlp()
    found = Magnitude().saliencies(net, ["0.weight"], Work().scoped("saliency.magnitude", ()))
    assert torch.equal(found["0.weight"], net.slot("0.weight")().abs())
