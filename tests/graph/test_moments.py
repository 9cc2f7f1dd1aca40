"""Moments of what a layer's weights are multiplied with."""

import torch

from contracts.nets import inputs_for, small_conv
from paredown.graph.moments import columns, crossed, value_at
from paredown.graph.ops import WEIGHTED


def test_windows_times_weights_are_what_the_layer_makes() -> None:
    """Plain, depthwise, pointwise convolutions and a linear layer."""
    net = small_conv().eval()
    (x,) = inputs_for(net, 5)
    for node in [node for node in net.spec.nodes if node.op in WEIGHTED]:
        weight = net.slot(str(node.slot("weight")))()
        laid = columns(node, value_at(net, x, str(node.args["input"])), tuple(weight.shape[2:]))
        made = torch.stack([w @ c for w, c in zip(weight.flatten(1).chunk(len(laid)), laid, strict=True)]).flatten(0, 1)
        wanted = value_at(net, x, node.name)
        if node.args.get("bias") is not None:
            shape = (1, -1, *[1] * (wanted.dim() - 2))
            wanted = wanted - net.slot(str(node.slot("bias")))().view(shape)
        torch.testing.assert_close(made, wanted.transpose(0, 1).flatten(1), atol=1e-5, rtol=1e-5)


def test_crossed_moments_are_means_over_all_windows_however_they_are_batched() -> None:
    net = small_conv().eval()
    node = next(node for node in net.spec.nodes if node.slot("weight") == "wide.weight")
    x, other = torch.rand(2, 100, 8, 8, 8)
    laid, others = (columns(node, some, (3, 3)).double() for some in (x, other))
    wanted = laid @ others.transpose(1, 2) / laid.shape[2]
    torch.testing.assert_close(crossed(node, x, other, (3, 3)), wanted)
    assert torch.equal(crossed(node, x, x, (3, 3)), crossed(node, x, x, (3, 3)).transpose(1, 2))
