"""Where the channels of a group show on data."""

import torch
from torch import nn

from contracts.nets import small_conv, small_mlp
from paredown.graph.capture import capture
from paredown.graph.contributions import contributions, per_class
from paredown.graph.features import Place, by_unit, read, scales, shown, watch
from paredown.graph.groups import groups


def test_values_after_nonlinearities_and_what_mixes_channels() -> None:
    net = small_conv()
    found = [group for group in groups(net) if len(group)]
    names = {node.name: node for node in net.spec.nodes}
    after, before = shown(net, found), read(net, found)
    assert [[names[p.value].op for p in own] for own in after] == [["relu", "relu"], ["relu"]]
    assert [[str(node.args["weight"]) for node, _ in own] for own in before] == [
        ["point.weight", "wide.weight"], ["fc.weight"],
    ], "the depthwise layer mixes nothing"  # fmt: skip
    assert scales(net) == ["n1.weight", "n2.weight"]


def test_units_follow_channels_through_flattening_and_concatenation() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.fc = nn.Conv2d(1, 3, 1), nn.Conv2d(1, 2, 1), nn.Linear(20, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(torch.cat([self.a(x).relu(), self.b(x).relu()], 1).flatten(1))

    net = capture(Two().eval(), torch.rand(2, 1, 2, 2))
    found = groups(net)[:2]
    (_, first), (_, second) = (own[0] for own in read(net, found))
    assert first.value == second.value and first.dim == 1
    assert first.units.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [-1] * 8
    assert second.units.tolist() == [-1] * 12 + [0] * 4 + [1] * 4
    values = torch.arange(20.0)
    assert by_unit([first], [values], 3).tolist() == [1.5, 5.5, 9.5]
    assert by_unit([first, first], [values, values + 2], 3).tolist() == [2.5, 6.5, 10.5]


def test_watching_leaves_the_network_in_its_mode_and_shows_every_sample() -> None:
    net, seen = small_mlp().train(), []
    place = shown(net, groups(net)[:1])[0][0]
    watch(net, torch.rand(150, 64), [place], lambda p, v: seen.append(place.by_channel(v).shape))
    assert net.training and [tuple(s) for s in seen] == [(32, 64, 1), (32, 64, 1), (32, 22, 1)]
    assert Place("x", 2, torch.zeros(4)).by_channel(torch.rand(3, 5, 4)).shape == (4, 3, 5)


def test_contributions_add_up_to_outputs_of_the_next_layer() -> None:
    """Without a bias each row's sum is one output of the reader, up to the one factor for all rows."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3, bias=False), nn.Flatten(), nn.Linear(64, 3))
    net = capture(model.eval(), torch.rand(2, 2, 8, 8))
    x, y = torch.rand(30, 2, 8, 8), torch.arange(30) % 3
    rows = contributions(net, groups(net)[:1], (x, y), (2, 5, 1), 0)[0]
    assert rows is not None and rows.shape == (2 * 3 * 5, 6)
    made = model[:3](x).detach().flatten().double()
    sums = rows.sum(1)
    factor = min((float(sums[0] / value) for value in made), key=lambda f: float(_off(sums / f, made)))
    assert factor > 0 and _off(sums / factor, made) < 1e-5


def _off(found: torch.Tensor, among: torch.Tensor) -> torch.Tensor:
    return (found[:, None] - among[None]).abs().amin(1).max()


def test_so_many_samples_of_each_class() -> None:
    labels = torch.tensor([0] * 50 + [1] * 3 + [4] * 20)
    picked = labels[per_class(labels, 5, torch.Generator().manual_seed(0))]
    assert torch.bincount(picked).tolist() == [5, 3, 0, 0, 5]
    assert len(per_class(torch.rand(99), 5, torch.Generator())) == 50
