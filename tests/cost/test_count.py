"""Counts against closed forms, brute force and the literature; peak memory against a simulation of its own."""

import math
import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.nets import inputs_for, small_conv, small_mlp
from paredown.core.work import Work
from paredown.cost.count import FREE, count, layers, macs, peak_bytes, stored_bits
from paredown.graph.capture import capture
from paredown.graph.net import Net
from paredown.graph.ops import OPS, WEIGHTED
from paredown.graph.slots import Codebook, Fixed, Free, Grid, Masked
from paredown.graph.spec import Node, Spec, Value
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
    assert count(net).macs == wanted == sum(row["macs"] for row in layers(net))
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
    assert [r["width"] for r in rows] == [4, 4, 4] and sum(r["params"] for r in rows) == found.params
    assert sum(r["bits"] for r in rows) == found.bits and sum(r["nonzero"] for r in rows) == found.nonzero


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


def test_what_is_not_counted_is_listed() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = F.softmax(torch.tanh(x) * x + 1, -1)
            return F.relu(y.flatten(1)).mean(-1)

    assert count(capture(Odd(), torch.rand(2, 3, 4))).uncounted == (
        "add.Tensor",
        "mean.dim",
        "mul.Tensor",
        "softmax.int",
        "tanh",
    )
    assert count(small_mlp()).uncounted == ()
    assert not FREE & WEIGHTED and set(OPS) >= FREE


def simulated(net: Net) -> int:
    """Return the peak in values by running the graph: every tensor that a later node (or the output) reads is alive.

    Memory is identified by torch's own storages, so views are whatever torch says they are.
    """
    reads = [set(node.values()) for node in net.spec.nodes]
    kept = {v for v in torch.utils._pytree.tree_leaves(net.spec.output) if isinstance(v, Value)}
    env: dict[str, list[Tensor]] = {}
    (x,) = net.example()
    env[net.spec.inputs[0][0]] = [x]
    most = x.numel()

    def watch(node: Node, value: Any) -> None:
        nonlocal most
        at = net.spec.nodes.index(node)
        env[node.name] = [v for v in torch.utils._pytree.tree_leaves(value) if isinstance(v, Tensor)]
        wanted = set().union(*reads[at:], kept, {node.name})
        alive = {
            t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() // 4
            for name, ts in env.items()
            if name in wanted
            for t in ts
        }
        most = max(most, sum(alive.values()))

    with torch.no_grad():
        net.eval().run(x, watch=watch)
    return most


OPERATORS: dict[str, Any] = {
    "relu": lambda s, v, other: ("relu", s, {"self": v}),
    "add": lambda s, v, other: ("add.Tensor", s, {"self": v, "other": other}),
    "cat": lambda s, v, other: ("cat", (s[0] + s[0], *s[1:]), {"tensors": [v, other], "dim": 1}),
    "view": lambda s, v, other: ("view", (math.prod(s),), {"self": v, "size": [1, math.prod(s)]}),
    "flatten": lambda s, v, other: ("flatten.using_ints", (math.prod(s),), {"self": v, "start_dim": 1}),
    "unsqueeze": lambda s, v, other: ("unsqueeze", (1, *s), {"self": v, "dim": 1}),
    "sum": lambda s, v, other: ("sum.dim_IntList", s[1:], {"self": v, "dim": [1]}),
}
"""Name to (shape of a sample, the value, another of that shape) -> (operator, shape of its output, arguments)."""


def random_net(seed: int) -> Net:
    """Return a random graph of operators that copy and operators that do not."""
    draw = random.Random(seed)
    nodes: list[Node] = []
    shapes: dict[str, tuple[int, ...]] = {"x": (2, 4, 3)}
    for _ in range(draw.randint(2, 10)):
        source = draw.choice(list(shapes))
        shape, value = shapes[source], Value(source)
        kind = draw.choice([*OPERATORS, "chunk"] if len(shape) > 1 else ["relu", "add", "cat", "unsqueeze"])
        if kind == "chunk" and shape[0] % 2 == 0:
            pair = Node(f"n{len(nodes)}", "chunk", {"self": value, "chunks": 2, "dim": 1})
            nodes.append(pair)
            for index in draw.choice([(0,), (1,), (0, 1)]):
                nodes.append(Node(f"n{len(nodes)}", "getitem", {"self": Value(pair.name), "index": index}))
                shapes[nodes[-1].name] = (shape[0] // 2, *shape[1:])
        elif kind != "chunk":
            other = draw.choice([name for name, its in shapes.items() if its == shape])
            op, made, args = OPERATORS[kind](shape, value, Value(other))
            nodes.append(Node(f"n{len(nodes)}", op, args))
            shapes[nodes[-1].name] = made
    made_by_nodes = [name for name in shapes if name != "x"] or ["x"]
    last = Value(made_by_nodes[-1])
    output = last if seed % 2 else [last, Value(draw.choice(made_by_nodes))]
    needed, live = {str(v) for v in torch.utils._pytree.tree_leaves(output)}, []
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.values())
            live.append(node)
    return Net(Spec((("x", (2, 4, 3)),), tuple(reversed(live)), output), {})


@pytest.mark.parametrize("seed", range(80))
def test_peak_memory_is_that_of_a_simulation(seed: int) -> None:
    net = random_net(seed)
    assert peak_bytes(net) == 4 * simulated(net)
    assert peak_bytes(net, 1) == simulated(net)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        y = self.b(F.relu(self.a(x))) + x
        return y.reshape(n, -1)


class Halves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        a, b = F.relu(x).chunk(2, 1)
        return a + b


@pytest.mark.parametrize(
    ("module", "shape", "values"),
    [
        (nn.Sequential(nn.Linear(10, 30), nn.ReLU(), nn.Linear(30, 5)), (10,), 30 + 30),
        (Residual(), (2, 4, 4), 32 + 128 + 128),  # the input waits while ReLU runs
        (Halves(), (6, 2), 12 + 12),  # halves lie where the whole lies; then whole + sum = 12 + 6
        (nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Flatten()), (3, 4), 12),
        (nn.Conv2d(96, 8, 1), (96, 4, 4), 96 * 16 + 8 * 16),
    ],
)  # fmt: skip
def test_peak_memory_by_hand(module: nn.Module, shape: tuple[int, ...], values: int) -> None:
    net = capture(module, torch.rand(2, *shape))
    assert count(net).ram_bytes == peak_bytes(net) == 4 * values


def test_the_size_of_the_batch_keeps_no_memory() -> None:
    """A size read at the start and used at the end does not keep the input alive in between."""

    class Sized(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            n = x.shape[0]
            y = x.sum(-1)
            for _ in range(3):
                y = torch.cat([y, y], 1)
            return y.reshape(n, 2, -1)

    net = capture(Sized(), torch.rand(2, 3, 4))
    assert "sym_size.int" in [n.op for n in net.spec.nodes]
    assert peak_bytes(net) == 4 * max(12 + 3, 12 + 24)


def test_a_second_output_of_an_operator() -> None:
    net = capture(nn.Sequential(nn.AdaptiveMaxPool2d(2), nn.ReLU()), torch.rand(2, 3, 8, 8))
    assert peak_bytes(net) == 4 * (192 + 12)


def test_macs_of_one_node() -> None:
    net = small_mlp()
    shapes = net.shapes()
    assert [macs(n, net, shapes) for n in net.spec.nodes if n.op == "linear"] == [64 * 32, 32 * 16, 16 * 10]
    assert sum(macs(n, net, shapes) for n in net.spec.nodes if n.op != "linear") == 0
