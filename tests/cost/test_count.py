"""Counts against closed forms, brute force and the literature; peak memory against a simulation of its own."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.nets import inputs_for, small_conv, small_mlp
from paredown.core.work import Work
from paredown.cost.count import count, layers, papers, stored_bits
from paredown.graph.capture import capture
from paredown.graph.slots import Codebook, Fixed, Free, Grid, Masked
from paredown.methods.quantize.uniform import Uniform
from paredown.zoo.resolve import network


def products(function: Any, x: Tensor, *weights: Tensor) -> int:
    """Return how many products of an x and a weight a bilinear function adds up, by brute force.

    With all entries one, each product adds one to the sum of the outputs.
    """
    return round(float(function(torch.ones_like(x), *(torch.ones_like(w) for w in weights)).double().sum()))


CONVOLUTIONS = [
    (nn.Conv2d(3, 5, 3, bias=False), (3, 7, 6)),
    (nn.Conv2d(3, 5, (2, 3), stride=(2, 1), dilation=(1, 2), bias=False), (3, 7, 6)),
    (nn.Conv2d(4, 8, 3, groups=2, bias=False), (4, 6, 6)),
    (nn.Conv2d(4, 8, 3, groups=4, bias=False), (4, 6, 6)),
    (nn.Conv1d(3, 4, 3, bias=False), (3, 9)),
    (nn.Conv3d(2, 3, 2, bias=False), (2, 4, 4, 3)),
    (nn.ConvTranspose2d(3, 5, 3, stride=2, bias=False), (3, 4, 5)),
    (nn.ConvTranspose2d(4, 6, 2, groups=2, bias=False), (4, 4, 5)),
    (nn.ConvTranspose1d(3, 2, 4, stride=3, bias=False), (3, 5)),
]


@pytest.mark.parametrize(("module", "shape"), CONVOLUTIONS, ids=lambda v: str(v)[:60])
def test_convolutions_without_padding_by_brute_force(module: nn.Module, shape: tuple[int, ...]) -> None:
    net = capture(module, torch.rand(1, *shape))
    with torch.no_grad():
        module.weight.fill_(1)
        wanted = round(float(module(torch.ones(1, *shape)).sum()))
    assert count(net).macs == wanted


@pytest.mark.parametrize(
    ("module", "shape", "wanted"),
    [
        (nn.Conv2d(3, 5, 3, padding=1), (3, 8, 6), 8 * 6 * 5 * 3 * 9),
        (nn.Conv2d(6, 6, 5, padding=2, groups=6), (6, 8, 8), 8 * 8 * 6 * 25),
        (nn.Conv2d(6, 12, 3, padding="same", groups=3), (6, 8, 8), 8 * 8 * 12 * 2 * 9),
        (nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1), (3, 4, 4), 4 * 4 * 3 * 5 * 16),
        (nn.Linear(7, 4), (7,), 28),
        (nn.Linear(7, 4), (5, 7), 140),
    ],
    ids=lambda v: str(v)[:50],
)
def test_closed_forms(module: nn.Module, shape: tuple[int, ...], wanted: int) -> None:
    net = capture(module, torch.rand(2, *shape))
    assert count(net).macs == wanted == sum(row.macs for row in layers(net))
    assert count(net).params == sum(p.numel() for p in module.parameters())


class Products(nn.Module):
    """Matrix products of every kind, with weights on either side."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Parameter(torch.rand(6, 4)), nn.Parameter(torch.rand(5, 3))
        self.fc, self.bias = nn.Linear(5, 7, bias=False), nn.Parameter(torch.rand(3))

    def forward(self, x: Tensor) -> Tensor:  # x: n × 4 × 5
        a = self.left @ x  # 6 × 5, of 4: 120
        b = a @ self.right  # 6 × 3, of 5: 90
        c = torch.bmm(b, b.transpose(1, 2))  # 6 × 6, of 3: 108
        d = F.linear(x, self.fc.weight)  # 4 × 7, of 5: 140
        e = F.linear(d, self.fc.weight.t())  # 4 × 5, of 7: 140
        f = torch.mm(e.mean(1), self.right)  # 3, of 5: 15
        return torch.addmm(self.bias, e.sum(1), self.right).sum(1) + c.sum((1, 2)) + f.sum(1)  # 15


def test_products_with_weights_on_either_side_tied_or_computed() -> None:
    assert count(capture(Products(), torch.rand(2, 4, 5))).macs == 120 + 90 + 108 + 140 + 140 + 15 + 15


@pytest.mark.parametrize(("heads", "queries", "keys", "width", "wide"), [(1, 3, 3, 4, 4), (2, 3, 5, 4, 6)])
def test_attention(heads: int, queries: int, keys: int, width: int, wide: int) -> None:
    class Attend(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v)

    shapes = ((heads, queries, width), (heads, keys, width), (heads, keys, wide))
    net = capture(Attend(), tuple(torch.rand(2, *s) for s in shapes))
    scores = products(lambda q, k: q @ k.transpose(-1, -2), torch.rand(shapes[0]), torch.rand(shapes[1]))
    mixed = products(lambda p, v: p @ v, torch.rand(heads, queries, keys), torch.rand(shapes[2]))
    assert count(net).macs == scores + mixed == heads * queries * keys * (width + wide)


@pytest.mark.parametrize(
    ("model", "shape", "params", "work"),
    [
        ("lenet_300_100", (1, 28, 28), 266_610, 266_200),
        ("lenet_5", (1, 28, 28), 431_080, 2_293_000),
        ("logistic", (1, 8, 8), 650, 640),
        ("resnet_small", (3, 32, 32), 272_474, 40_813_184),
    ],
)
def test_published_networks(model: str, shape: tuple[int, ...], params: int, work: int) -> None:
    """Methods A-S3: 266,610 and 431,080 parameters; ResNet-20 has 0.27 M and, with projections, 40.8 M MACs."""
    net = network({"model": model}, shape, 10)
    found = count(net)
    assert (found.params, found.macs) == (params, work)
    assert found.bits == 32 * params and found.macs_by_bits == {"w32a32": work} and found.bops == 1024 * work


def test_resnet_small_by_hand() -> None:
    stage = 16 * 16 * 9 * 32 * 32
    macs_ = 3 * 16 * 9 * 1024 + 6 * stage + 2 * (stage // 2 + 5 * stage + 16 * 32 * 256) + 640
    weights = (
        3 * 16 * 9 + 6 * 16 * 16 * 9 + (16 * 32 + 5 * 32 * 32) * 9 + (32 * 64 + 5 * 64 * 64) * 9 + 16 * 32 + 32 * 64
    )
    norms = 2 * (7 * 16 + 7 * 32 + 7 * 64)
    found = count(network({"model": "resnet_small"}, (3, 32, 32), 10))
    assert (found.macs, found.params) == (macs_, weights + norms + 650) == (40_813_184, 272_474)


DRAW = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
CODES = (DRAW * 2).round().clamp(-4, 3)


@pytest.mark.parametrize(
    ("slot", "bits"),
    [
        (Free(DRAW), 30 * 32),
        (Masked(DRAW, DRAW > 0), 30 + 32 * int((DRAW > 0).sum())),
        (Grid(CODES, torch.tensor(0.1), 3), 30 * 3 + 32),
        (Grid(CODES * 0 + 1, torch.ones(6, 1), 1), 30 + 6 * 32),
        (Grid(CODES, torch.ones(6, 1), 4), 30 * 4 + 6 * 32),
        (Codebook(CODES.abs(), torch.rand(5)), 30 * 3 + 5 * 32),
        (Codebook(CODES.abs(), torch.rand(16)), 30 * 4 + 16 * 32),
        (Codebook(CODES * 0, torch.rand(1)), 30 + 32),
        (Fixed(DRAW), 30 * 32),
    ],
    ids=lambda v: type(v).__name__,
)
def test_stored_bits(slot: nn.Module, bits: int) -> None:
    assert stored_bits(slot) == bits


def test_zeros_widths_and_statistics() -> None:
    net = small_conv()
    params = sum(net.slot(n)().numel() for n in net.slot_names() if "running" not in n)
    zeros = sum(int((net.slot(n)() == 0).sum()) for n in net.slot_names() if "running" not in n)
    assert count(net).params == params == count(net).nonzero + zeros
    name, _ = next(net.weighted())
    weight = net.slot(name)().detach()
    net.set_slot(name, Masked(weight, weight > 0))
    assert count(net).nonzero == params - zeros - int((weight <= 0).sum()) and count(net).params == params
    mixed = Uniform(bits=4).apply(small_mlp(), Work())
    found = count(mixed)
    assert found.macs_by_bits == {"w4a32": found.macs} and found.bops == found.macs * 4 * 32
    rows = layers(mixed)
    assert [r.weight_bits for r in rows if r.macs] == [4, 4, 4] and sum(r.params for r in rows) == found.params
    assert sum(r.stored_bits for r in rows) == found.bits and sum(r.nonzero for r in rows) == found.nonzero


def test_activation_widths() -> None:
    net = small_mlp().eval()
    held = Uniform(bits=8, activation_bits=4).apply(net, Work({"calib": (inputs_for(net, 8)[0], None)}))
    found = count(held)
    assert found.macs_by_bits == {"w8a4": found.macs} and found.bops == 32 * found.macs


def test_a_weight_that_is_used_twice_is_stored_once_and_multiplied_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(F.relu(self.fc(x)))

    found = count(capture(Twice(), torch.rand(2, 6)))
    assert (found.params, found.macs) == (42, 72)


def test_what_the_papers_leave_out_is_listed() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            y = F.softmax(torch.tanh(x) * x + 1, -1)
            return F.relu(self.fc(y) @ y).mean(-1)

    found = papers(layers(capture(Odd(), torch.rand(2, 5, 4))))
    left = ["add.Tensor", "matmul", "mean.dim", "mul.Tensor", "relu", "softmax.int", "tanh"]
    assert found == {"params": 25, "macs": 5 * 4 * 5, "uncounted": left}
    assert count(capture(Odd(), torch.rand(2, 5, 4))).uncounted == ()


def test_zeros_leave_their_products_out() -> None:
    net = small_conv()
    name, _node = next(net.weighted())
    weight = net.slot(name)().detach()
    net.set_slot(name, Masked(weight, torch.arange(weight.numel()).reshape(weight.shape) % 4 == 0))
    (row,) = [r for r in layers(net) if r.slot == name]
    assert 4 * row.macs_nonzero == row.macs and row.weights_nonzero * 4 == row.weights == weight.numel()
    assert count(net).macs - count(net).macs_nonzero == 3 * row.macs_nonzero
