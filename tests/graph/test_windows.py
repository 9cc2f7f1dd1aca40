"""Windows laid out as columns: a product with the weight is the layer."""

import pytest
import torch
from torch import nn

from paredown.graph.capture import capture
from paredown.graph.windows import at_places, outputs, some_places, windows

LAYERS = {
    "conv": (nn.Conv2d(4, 6, 3, padding=1, stride=2, bias=False), (4, 9, 7)),
    "grouped": (nn.Conv2d(4, 6, (3, 1), groups=2, dilation=(2, 1), bias=False), (4, 9, 7)),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4, bias=False), (4, 6, 6)),
    "same": (nn.Conv2d(3, 5, (2, 4), padding="same", bias=False), (3, 6, 5)),
    "valid": (nn.Conv2d(3, 5, 2, padding="valid", bias=False), (3, 6, 5)),
    "conv1d": (nn.Conv1d(4, 6, 3, padding=2, stride=2, dilation=2, groups=2, bias=False), (4, 11)),
    "same1d": (nn.Conv1d(4, 6, 4, padding="same", bias=False), (4, 11)),
    "linear": (nn.Linear(5, 3, bias=False), (5,)),
    "tokens": (nn.Linear(5, 3, bias=False), (7, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_product_is_the_layer(name: str) -> None:
    layer, shape = LAYERS[name]
    net = capture(layer.eval(), torch.rand(2, *shape))
    node, x = net.spec.nodes[-1], torch.rand(3, *shape)
    weight, groups = net.slot("weight")().detach(), int(node.args.get("groups", 1))
    laid = windows(node, x, tuple(weight.shape[2:]))
    rows = weight.reshape(groups, -1, laid.shape[2] * laid.shape[3])
    made = torch.einsum("goi,ngip->ngop", rows, laid.flatten(2, 3)).flatten(1, 2)
    torch.testing.assert_close(made, outputs(node, net(x)))


def test_places_are_different_and_the_same_for_what_belongs_together() -> None:
    draw = torch.Generator().manual_seed(0)
    places = some_places(5, 30, 8, draw)
    assert places.shape == (5, 8) and all(len(set(row)) == 8 for row in places.tolist())
    assert len({tuple(row) for row in places.tolist()}) == 5 and int(places.max()) < 30
    assert some_places(2, 3, 8, draw).tolist() == [[0, 1, 2]] * 2
    x = torch.rand(5, 2, 4, 30)
    assert torch.equal(at_places(x, places)[3, 1, 2], x[3, 1, 2][places[3]])
