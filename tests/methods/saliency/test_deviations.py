"""Sizes in standard deviations: one multiple of each layer's own is the threshold of all."""

import torch

from contracts.nets import small_mlp
from contracts.saliency import SaliencyContract
from paredown.core.work import Work
from paredown.graph.masks import mask_of
from paredown.graph.net import Net
from paredown.methods.prune.weights import Weights
from paredown.methods.saliency.deviations import Deviations, in_deviations
from paredown.methods.saliency.magnitude import Magnitude


class TestDeviations(SaliencyContract):
    def part(self) -> Deviations:
        return Deviations()


def uneven() -> Net:
    """Return the multilayer perceptron with its second layer a hundred times smaller, and a heavy tail in its third."""
    net = small_mlp()
    with torch.no_grad():
        net.slot("2.weight").value.mul_(0.01)
        net.slot("4.weight").value.pow_(3)
    return net


def test_there_is_one_multiple_of_sigma_for_all_layers() -> None:
    """A-S3-13: what goes is |w| < q σ of its layer; the tail loses more than its share."""
    net = uneven()
    out = Weights(0.6, Deviations(), scope="global").apply(net, Work())
    below, above, gone = [], [], {}
    for name, _ in net.weighted():
        weight, stays = net.slot(name)().detach(), mask_of(out, name)
        sizes = weight.abs() / weight.std(correction=0)
        below.append(float(sizes[~stays].max()))
        above.append(float(sizes[stays].min()))
        gone[name] = float((~stays).float().mean())
    assert max(below) <= min(above)
    assert gone["4.weight"] > gone["0.weight"] + 0.05 and abs(gone["0.weight"] - gone["2.weight"]) < 0.05


def test_scaling_a_layer_changes_nothing_where_sizes_alone_empty_it() -> None:
    masks = {}
    for part in (Deviations(), Magnitude()):
        for net in (small_mlp(), uneven()):
            out = Weights(0.5, part, scope="global").apply(net, Work())
            masks.setdefault(type(part).__name__, []).append(mask_of(out, "2.weight").float().mean())
    assert abs(masks["Deviations"][0] - masks["Deviations"][1]) < 0.1
    assert masks["Magnitude"][0] > 0.4 and masks["Magnitude"][1] == 0


def test_what_is_masked_does_not_count_and_constants_are_left_as_they_are() -> None:
    weight = torch.tensor([1.0, -3.0, 0.0, 0.0])
    stays = torch.tensor([True, True, False, False])
    assert in_deviations(weight, stays).tolist() == [0.5, 1.5, 0.0, 0.0]
    assert in_deviations(torch.full((3,), 2.0), torch.ones(3, dtype=torch.bool)).tolist() == [2.0] * 3
    assert not in_deviations(torch.zeros(3), torch.zeros(3, dtype=torch.bool)).any()
