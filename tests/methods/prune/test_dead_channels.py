"""Channels that masks emptied go, and the network computes the same; what would change it stays and is said."""

import torch
from torch import nn

from contracts.nets import inputs_for, small_conv, small_mlp
from contracts.step import StepContract, macs, params, same
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.groups import groups
from paredown.graph.masks import mask_
from paredown.graph.net import Net
from paredown.methods.prune.dead_channels import DeadChannels, unconnected
from paredown.methods.prune.weights import Weights


def emptied() -> Net:
    """Return the multilayer perceptron of which nothing reads units 3 and 7, and nothing makes unit 9."""
    net = small_mlp()
    read, made = torch.ones(16, 32, dtype=torch.bool), torch.ones(32, 64, dtype=torch.bool)
    read[:, [3, 7]], made[9] = False, False
    mask_(net, "2.weight", read)
    mask_(net, "0.weight", made)
    net.slot("0.bias").value.data[9] = -1.0
    return net


def unread() -> Net:
    """Return the convolutional network of which nothing reads channel 5 of the last convolution."""
    net = small_conv()
    mask = torch.ones(10, 12, dtype=torch.bool)
    mask[:, 5] = False
    mask_(net, "fc.weight", mask)
    return net


class TestDeadChannels(StepContract):
    keeps_function = True

    def part(self) -> DeadChannels:
        return DeadChannels()

    def nets(self) -> dict[str, Net]:
        return {"conv": unread(), "mlp": emptied()}


def test_neurons_without_inputs_or_outputs_go_and_nothing_changes() -> None:
    """A-S3-13. Unit 9 has a negative bias and no weights: the ReLU makes zero of it."""
    net = emptied().eval()
    assert unconnected(net, groups(net)[0]).nonzero().flatten().tolist() == [3, 7, 9]
    out = DeadChannels().apply(net, Work()).eval()
    x = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    assert out.slot("0.weight")().shape == (29, 64) and out.slot("2.weight")().shape == (16, 29)
    assert same(net(x), out(x), 1e-6) and macs(net) - macs(out) == 3 * (64 + 16)


def test_a_constant_that_a_bias_makes_stays_and_is_said_and_the_others_go() -> None:
    net, work = emptied(), Work()
    net.slot("0.bias").value.data[9] = 1.0
    out = DeadChannels().apply(net, work)
    assert out.slot("0.weight")().shape[0] == 30 and same(
        net.eval()(*inputs_for(net)), out.eval()(*inputs_for(net)), 1e-6
    )
    assert {n.layer: n.text.split(":")[0] for n in work.notes}["0.weight"] == "1 empty channels stay"


def test_a_norm_over_channels_keeps_what_nothing_reads() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))
        model[3].weight.data[:, 2] = 0
        net, work = capture(model.eval(), torch.rand(2, 6)), Work()
    out = DeadChannels().apply(net, work)
    assert params(out) == params(net) and any("stay" in note.text for note in work.notes if note.layer == "0.weight")


def test_after_fine_grained_pruning_a_smaller_network_is_left() -> None:
    """At 97 % of every layer some units have lost all their weights; one stays of each layer whatever goes."""
    sparse = Weights(0.97).apply(small_mlp(), Work()).eval()
    out = DeadChannels().apply(sparse, Work()).eval()
    (x,) = inputs_for(sparse, 40)
    assert params(out) < 0.8 * params(sparse) and same(sparse(x), out(x), 1e-5)
    bare = small_mlp()
    mask_(bare, "2.weight", torch.zeros(16, 32, dtype=torch.bool))
    least = DeadChannels().apply(bare, Work()).eval()
    assert min(least.slot(f"{at}.weight")().shape[0] for at in (0, 2)) >= 1 and same(bare.eval()(x), least(x), 1e-6)
