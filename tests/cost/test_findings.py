"""What is said of where the costs are."""

import torch
from torch import nn

from paredown.cost.count import layers
from paredown.cost.findings import findings
from paredown.cost.memory import peak_bytes, timeline
from paredown.graph.capture import capture
from paredown.graph.slots import Masked


def told(net: object) -> dict[str, str]:
    rows, moments = layers(net), timeline(net, inplace="pointwise")
    return {(f.resource, f.name): f.text for f in findings(rows, moments, peak_bytes(net, inplace="depthwise"))}


def test_the_layer_with_most_of_the_bits_and_the_tensor_that_sets_the_peak() -> None:
    net = capture(
        nn.Sequential(nn.Linear(10, 200), nn.ReLU(), nn.Linear(200, 300), nn.Linear(300, 2)), torch.rand(2, 10)
    )
    said = told(net)
    share = (200 * 300 + 300) / (11 * 200 + 60_300 + 602)
    assert said["stored_bits", "2"].startswith(f"2 holds {100 * share:.0f} % of the stored bits")
    assert said["ram_bytes", "linear_1"].startswith(
        "memory peaks at 2,000 bytes while linear_1 runs, set by linear_1 (60 %)"
    )


def test_several_layers_together_depthwise_norms_and_zeros() -> None:
    body = [nn.Conv2d(1, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 1, 1)]
    net = capture(nn.Sequential(*body), torch.rand(2, 1, 32, 32))
    name, _ = next(net.weighted())
    weight = net.slot(name)().detach()
    net.set_slot(name, Masked(weight, torch.zeros_like(weight)))
    said = told(net)
    assert "in place would lower the memory peak" in said["ram_bytes", "depthwise"]
    assert said["params", "batch_norm"].startswith("1 batch norms with 16 parameters")
    assert "of the parameters are zero" in said["params", "zeros"]
    even = capture(nn.Sequential(*(nn.Linear(16, 16) for _ in range(5))), torch.rand(2, 16))
    assert told(even)["stored_bits", "0"].endswith("together hold 60 % of the stored bits")


def test_shares_are_in_order_and_an_empty_network_says_nothing_wrong() -> None:
    net = capture(nn.Sequential(nn.Flatten()), torch.rand(2, 3))
    assert findings(layers(net), timeline(net), peak_bytes(net))[0].resource == "ram_bytes"
    rows = layers(capture(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), torch.rand(2, 4)))
    shares = [f.share for f in findings(rows, (), 0)]
    assert shares == sorted(shares, reverse=True)
