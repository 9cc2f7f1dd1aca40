"""How often an activation is zero."""

import torch
from torch import nn

from contracts.nets import small_conv
from contracts.score import ScoreContract
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.groups import groups
from paredown.graph.importance import importances
from paredown.graph.net import Net
from paredown.methods.prune.channels import Channels
from paredown.methods.score.apoz import Apoz, too_often, zeros


class TestApoz(ScoreContract):
    def part(self) -> Apoz:
        return Apoz()


def lecture() -> torch.Tensor:
    """Return a batch of 2 with 3 channels of 4×4, with 11, 12 and 14 zeros of 32 (A-S4-09)."""
    draw = torch.Generator().manual_seed(0)
    maps = torch.ones(3, 32)
    for channel, count in enumerate((11, 12, 14)):
        maps[channel, torch.randperm(32, generator=draw)[:count]] = 0
    return maps.view(3, 2, 4, 4).transpose(0, 1)


def test_the_lecture_s_example() -> None:
    apoz = zeros(lecture().transpose(0, 1))
    assert (apoz * 32).tolist() == [11, 12, 14]
    assert too_often(apoz).tolist() == [False, False, True], "mean .385 + deviation .039 < 14/32"


def pointwise(weight: torch.Tensor, *after: nn.Module) -> Net:
    """Return a 1×1 convolution with this (output × input) weight, what comes after it, and a linear layer of two classes."""
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False)
    layer.weight.data = weight[:, :, None, None].clone()
    torch.manual_seed(0)
    model = nn.Sequential(layer, *after, nn.Flatten(), nn.Linear(weight.shape[0] * 16, 2))
    return capture(model.eval(), torch.rand(2, weight.shape[1], 4, 4))


def test_the_network_s_zeros_are_those_of_the_lecture() -> None:
    """An identity layer and a ReLU show the maps as they are; the third channel goes first."""
    net, maps = pointwise(torch.eye(3), nn.ReLU()), lecture()
    work = Work({"calib": (maps, torch.zeros(2, dtype=torch.long))})
    found = Apoz().importance(net, groups(net)[0], work)
    torch.testing.assert_close(found, 1 - torch.tensor([11, 12, 14]).double() / 32)
    kept = Channels(0.34, Apoz()).apply(net, work).slot("0.weight")()
    assert torch.equal(kept.detach().flatten(1), torch.eye(3)[:2])


def test_it_looks_behind_the_nonlinearity_not_behind_the_pooling() -> None:
    """Maxima over 2×2 windows have fewer zeros than the activation; the norm before the ReLU moves them."""
    norm = nn.BatchNorm2d(2)
    norm.bias.data = torch.tensor([-0.5, -0.9])
    layer = nn.Conv2d(2, 2, 1, bias=False)
    layer.weight.data = torch.eye(2)[:, :, None, None]
    model = nn.Sequential(layer, norm, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2))
    net = capture(model.eval(), torch.rand(2, 2, 4, 4))
    x = torch.rand(200, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    found = Apoz().importance(net, groups(net)[0], Work({"calib": (x, torch.zeros(200, dtype=torch.long))}))
    wanted = torch.stack(
        [(x[:, 0] / (1 + 1e-5) ** 0.5 > 0.5).double().mean(), (x[:, 1] / (1 + 1e-5) ** 0.5 > 0.9).double().mean()]
    )
    torch.testing.assert_close(found, wanted)


def test_channels_that_pass_no_relu_stay_and_are_noted() -> None:
    net, work = pointwise(torch.rand(4, 3), nn.Tanh()), Work({"calib": (torch.rand(4, 3, 4, 4), torch.zeros(4).long())})
    assert torch.isinf(Apoz().importance(net, groups(net)[0], work)).all()
    assert {note.layer for note in work.notes} == {"0.weight"}


def test_one_pass_serves_all_groups() -> None:
    net = small_conv()
    passes = []
    run = net.run
    work = TestApoz().work()
    found = [group for group in groups(net) if len(group)]
    net.run = lambda *a, **k: (passes.append(len(a[0])), run(*a, **k))[1]
    importances(Apoz(), net, found, work)
    assert sum(n for n in passes if n > 1) == len(work.use("calib")[0]) and len(found) > 1
