"""How much a channel's mean activation varies."""

import math

import pytest
import torch

from contracts.nets import small_mlp
from contracts.score import ScoreContract
from paredown.core.work import Work
from paredown.graph.groups import groups
from paredown.methods.score.entropy import Entropy, entropy


class TestEntropy(ScoreContract):
    def part(self) -> Entropy:
        return Entropy()


def test_constant_and_uniform() -> None:
    """A-S4-11: a constant channel has 0; one that fills its 100 bins alike log 100."""
    rows = torch.stack([torch.full((500,), 3.7), torch.linspace(-2, 5, 500), torch.zeros(500)])
    constant, uniform, zero = entropy(rows).tolist()
    assert constant == zero == 0 and uniform == pytest.approx(math.log(100), abs=1e-3)


def test_against_the_formula() -> None:
    """Five values in four bins of [0, 4]: counts 2, 1, 0, 2."""
    found = float(entropy(torch.tensor([[0.0, 0.5, 1.5, 3.5, 4.0]]), 4)[0])
    assert found == pytest.approx(-(2 * 0.4 * math.log(0.4) + 0.2 * math.log(0.2)))


def test_scale_and_shift_do_not_matter() -> None:
    x = torch.randn(3, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(entropy(x), entropy(8 * x + 0.5), rtol=0.02, atol=0)


def test_a_channel_that_says_the_same_of_every_sample_is_lowest() -> None:
    """Large weights do not help it: it is constant, positive, and read by the next layer."""
    net = small_mlp()
    net.slot("0.weight").value.data[7], net.slot("0.bias").value.data[7] = 0.0, 100.0
    group = groups(net)[0]
    x = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    found = Entropy().importance(net, group, Work({"calib": (x, torch.zeros(64).long())}))
    assert found[7] == 0 and (found > 0).sum() >= 25
    active = torch.nn.functional.relu(torch.nn.functional.linear(x, net.slot("0.weight")(), net.slot("0.bias")()))
    torch.testing.assert_close(found, entropy(active.detach().double().T))
