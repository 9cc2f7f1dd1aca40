"""The scale of the norm behind a channel."""

import torch
from torch import nn

from contracts.nets import small_conv, small_mlp
from contracts.score import ScoreContract
from contracts.step import params
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.groups import groups
from paredown.graph.net import Net
from paredown.methods.prune.channels import Channels
from paredown.methods.score.bn_scale import BnScale


class TestBnScale(ScoreContract):
    def part(self) -> BnScale:
        return BnScale()


def scaled(*gammas: list[float]) -> Net:
    """Return 1×1 convolutions, each with a norm of these scales and a ReLU, before a linear layer; weights of all sizes."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    before = 3
    for number, gamma in enumerate(gammas):
        conv, norm = nn.Conv2d(before, len(gamma), 1, bias=False), nn.BatchNorm2d(len(gamma))
        conv.weight.data *= 100.0**number
        norm.weight.data, before = torch.tensor(gamma), len(gamma)
        layers += [conv, norm, nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 2))
    return capture(model.eval(), torch.rand(2, 3, 4, 4))


def test_it_is_the_size_of_gamma() -> None:
    net = scaled([0.5, -2.0, 0.0], [1.0, -0.25])
    first, second = (BnScale().importance(net, g, Work()) for g in groups(net)[:2])
    assert first.tolist() == [0.5, 2.0, 0.0] and second.tolist() == [1.0, 0.25]


def test_a_global_ratio_is_a_percentile_of_gamma_itself() -> None:
    """A-S4-04: the count is exact, and the scores are not balanced by group: all that go come from the small ones."""
    net = scaled([0.1, 0.2, 0.3, 0.4, 0.15, 0.25], [5.0, 6.0, 7.0, 8.0])
    for ratio, left in ((0.1, (5, 4)), (0.3, (3, 4)), (0.5, (1, 4))):
        thin = Channels(ratio, BnScale(), "global").apply(net, Work())
        assert (thin.slot("0.weight")().shape[0], thin.slot("3.weight")().shape[0]) == left
    kept = Channels(0.3, BnScale(), "global").apply(net, Work()).slot("1.weight")()
    torch.testing.assert_close(kept.detach(), torch.tensor([0.3, 0.4, 0.25]))


def test_a_whole_layer_never_goes() -> None:
    """A-S4-04: one channel stays; the next lowest of the other layers goes in its place, so the count is still exact."""
    net = scaled([0.1, 0.2, 0.3], [5.0, 6.0, 7.0, 8.0, 9.0])
    thin = Channels(0.5, BnScale(), "global").apply(net, Work())
    assert (thin.slot("0.weight")().shape[0], thin.slot("3.weight")().shape[0]) == (1, 3)


def test_equal_scales_go_to_an_exact_count() -> None:
    thin = Channels(0.5, BnScale(), "global").apply(scaled([1.0] * 6, [1.0] * 4), Work())
    assert thin.slot("0.weight")().shape[0] + thin.slot("3.weight")().shape[0] == 5


def test_channels_without_a_norm_stay_and_are_noted() -> None:
    """The group `wide` has no norm: it stays, does not count, and the ratio is of those that can be ranked."""
    net, work = small_conv(), Work()
    for scope in ("uniform", "global"):
        thin = Channels(0.5, BnScale(), scope).apply(net, work)
        assert thin.slot("wide.weight")().shape[0] == 12 and thin.slot("stem.weight")().shape[0] == 4
    assert {n.layer for n in work.notes if n.step == "score.bn_scale"} == {"wide.weight"}
    mlp = small_mlp()
    assert params(Channels(0.5, BnScale()).apply(mlp, work)) == params(mlp)
