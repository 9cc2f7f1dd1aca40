"""Layers that follow each other (used by equalization and bias absorption)."""

import pytest
import torch
from torch import Tensor, nn

from paredown.graph.capture import capture
from paredown.graph.net import Net
from paredown.graph.pairs import by_inputs, own_bias_, pairs
from paredown.graph.slots import Free, Grid


def stack(*layers: nn.Module, shape: tuple[int, ...] = (2, 6, 6)) -> Net:
    return capture(nn.Sequential(*layers), torch.rand(2, *shape))


CONV = dict(kernel_size=3, padding=1)


@pytest.mark.parametrize(
    "between",
    [
        [nn.ReLU()],
        [nn.LeakyReLU(0.1), nn.MaxPool2d(2)],
        [nn.Dropout(), nn.AvgPool2d(2)],
        [],
    ],
)  # fmt: skip
def test_what_passes_a_scale(between: list[nn.Module]) -> None:
    """By the definition: scaling a channel where it is made is scaling it where it is read."""
    net = stack(nn.Conv2d(2, 4, **CONV), *between, nn.Conv2d(4, 3, **CONV)).eval()
    ((pair,), why) = pairs(net)
    assert pair.repeat == 1 and len(pair.between) == len(between) and len(why) == 1
    scale, x = torch.tensor([0.5, 2.0, 4.0, 0.25]), torch.rand(3, 2, 6, 6)
    before = net(x)
    with torch.no_grad():
        net.slot("0.weight").value.mul_(scale.view(-1, 1, 1, 1))
        net.slot("0.bias").value.mul_(scale)
        by_inputs(net.slot(pair.weights()[1]).value, pair).div_(scale.view(1, 1, -1, 1))
    torch.testing.assert_close(net(x), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("net", "word"),
    [
        (stack(nn.Conv2d(2, 4, **CONV), nn.Sigmoid(), nn.Conv2d(4, 3, **CONV)), "sigmoid"),
        (stack(nn.Conv2d(2, 4, **CONV), nn.BatchNorm2d(4), nn.Conv2d(4, 3, **CONV)), "fold batch norms"),
        (stack(nn.Conv2d(2, 4, **CONV), nn.ReLU(), nn.ConvTranspose2d(4, 3, 3)), "elsewhere"),
        (stack(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)), "elsewhere"),
    ],
)
def test_what_does_not(net: Net, word: str) -> None:
    found, why = pairs(net)
    assert not found and word in why["0.weight"]


def test_weights_that_are_shared_or_integers_take_no_part() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.relu(self.a(torch.relu(self.a(x)))))

    assert "shared" in pairs(capture(Tied(), torch.rand(2, 4)))[1]["a.weight"]
    net = stack(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2), shape=(4,))
    net.set_slot("2.weight", Grid(torch.ones(2, 4), torch.tensor(0.5), 4))
    assert "held as integers" in pairs(net)[1]["0.weight"]


def test_a_bias_is_made_where_there_is_none() -> None:
    net, x = stack(nn.Linear(4, 3, bias=False), shape=(4,)).eval(), torch.rand(5, 4)
    before, node = net(x), net.spec.nodes[0]
    name = own_bias_(net, node)
    assert torch.equal(net(x), before) and isinstance(net.slot(name), Free)
    assert own_bias_(net, net.spec.node(node.name)) == name
    with torch.no_grad():
        net.slot(name).value.add_(1)
    torch.testing.assert_close(net(x), before + 1)
