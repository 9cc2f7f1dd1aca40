"""An order of chance."""

import torch

from contracts.nets import small_mlp
from contracts.saliency import SaliencyContract
from paredown.core.work import Work
from paredown.methods.saliency.random_weights import RandomWeights


class TestRandomWeights(SaliencyContract):
    def part(self) -> RandomWeights:
        return RandomWeights()


def test_the_seed_decides_and_the_weights_do_not() -> None:
    net = small_mlp()
    first, again, other = (RandomWeights().saliencies(net, ["0.weight"], Work(seed=s))["0.weight"] for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    size = net.slot("0.weight")().detach().abs()
    assert abs(float(torch.corrcoef(torch.stack([first.flatten(), size.flatten()]))[0, 1])) < 0.06
    assert abs(float(first.mean()) - 0.5) < 0.02 and abs(float(first.std()) - 12**-0.5) < 0.02
