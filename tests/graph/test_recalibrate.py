"""Recalibrated norms have the statistics of what they read, each after the ones before it."""

import torch
from torch import nn

from contracts.nets import small_conv, small_mlp
from contracts.step import same
from paredown.graph.capture import capture
from paredown.graph.recalibrate import keeping, recalibrate_


def test_the_network_then_computes_what_it_does_with_the_batchs_own_statistics() -> None:
    net = small_conv()
    for name in ("stem.weight", "deep.weight"):
        net.slot(name).value.data.mul_(3.0)
    x = torch.rand(64, 1, 8, 8)
    old = net.eval()(x)
    wanted = net.copy().train()(x)
    recalibrate_(net, x)
    assert same(net(x), wanted, 1e-5) and not same(old, wanted, 1e-2)
    assert len(keeping(net)) == 2 and not net.training


def test_dropout_is_not_in_the_way_and_nets_without_norms_stay() -> None:
    model = nn.Sequential(nn.Dropout(0.9), nn.Linear(8, 6), nn.BatchNorm1d(6, affine=False)).eval()
    net, x = capture(model, torch.rand(2, 8)), torch.rand(50, 8)
    recalibrate_(net, x)
    made = net(x)
    assert made.mean(0).abs().max() < 1e-5 and (made.var(0, unbiased=False) - 1).abs().max() < 1e-2
    plain = small_mlp()
    before = {k: v.clone() for k, v in plain.state_dict().items()}
    recalibrate_(plain, torch.rand(4, 64))
    assert all(torch.equal(v, plain.state_dict()[k]) for k, v in before.items())
