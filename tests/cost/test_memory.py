"""Activation memory against simulations of its own: torch's storages for what is alive, reference counts for what is in place."""

import math
import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.cost.count import count
from paredown.cost.memory import INPLACE, activations, peak_bytes, timeline, value_bits
from paredown.graph.capture import capture
from paredown.graph.net import Net
from paredown.graph.spec import Node, Spec, Value
from paredown.methods.quantize.uniform import Uniform
from paredown.zoo.resolve import network


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


def counted_in_place(net: Net) -> int:
    """Return the peak in values when pointwise operators overwrite what nobody reads again, by counting references."""
    shapes = net.shapes()
    left: dict[str, int] = {}
    for node in net.spec.nodes:
        for value in node.values():
            left[value] = left.get(value, 0) + 1
    for value in torch.utils._pytree.tree_leaves(net.spec.output):
        left[value] = left.get(value, 0) + 1
    memory: dict[str, list[Any]] = {"x": [math.prod(shapes["x"]), {"x"}, True]}  # size, values in it, the caller's
    where = {"x": "x"}
    most = memory["x"][0]
    for node in net.spec.nodes:
        sources = node.values()
        for value in sources:
            left[value] -= 1
        if node.op in ("view", "flatten.using_ints", "unsqueeze", "chunk", "getitem"):
            where[node.name] = where[sources[0]]
            memory[where[node.name]][1].add(node.name)
        else:
            free = [
                v for v in sources
                if node.op in ("relu", "add.Tensor") and not memory[where[v]][2]
                and not any(left.get(u, 0) for u in memory[where[v]][1])
                and math.prod(shapes[v]) == math.prod(shapes[node.name]) <= memory[where[v]][0]
            ]  # fmt: skip
            if free:
                where[node.name] = where[free[0]]
                memory[where[node.name]][1].add(node.name)
            else:
                where[node.name] = node.name
                memory[node.name] = [math.prod(shapes[node.name]), {node.name}, False]
        most = max(most, sum(m[0] for m in memory.values()))
        memory = {k: m for k, m in memory.items() if any(left.get(v, 0) for v in m[1])}
    return most


@pytest.mark.parametrize("seed", range(80))
def test_the_peak_in_place_is_that_of_counted_references(seed: int) -> None:
    net = random_net(seed)
    assert peak_bytes(net, 1, "pointwise") == counted_in_place(net) <= peak_bytes(net, 1)


def test_mobilenet_v2_in_bytes() -> None:
    """Methods E9: 1,404,928 bytes with depthwise convolutions in place, 1,505,280 without; its activations always are."""
    net = network({"model": "mobilenet_v2"}, (3, 224, 224), 1000)
    assert [peak_bytes(net, 1, how) for how in INPLACE] == [2 * 1_204_224, 1_505_280, 1_404_928]


def test_a_depthwise_convolution_needs_one_map_beside_its_input() -> None:
    """MCUNet: (C + 1) h w in place of 2 C h w, between layers that are smaller."""
    small, wide = nn.Conv2d(1, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
    net = capture(nn.Sequential(small, wide, nn.Conv2d(8, 1, 1)), torch.rand(2, 1, 6, 6))
    assert peak_bytes(net, 1, "pointwise") == 2 * 8 * 36 and peak_bytes(net, 1, "depthwise") == 9 * 36


def test_the_callers_input_is_never_overwritten() -> None:
    net = capture(nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU()), torch.rand(2, 10))
    assert [peak_bytes(net, 1, how) for how in INPLACE] == [20, 20, 20] and activations(net) == 20


def test_the_timeline_names_what_is_alive() -> None:
    net = capture(Residual(), torch.rand(2, 2, 4, 4))
    moments = timeline(net, 1)
    assert moments[0].live == {"x": 32} and [m.node for m in moments[1:]] == [n.name for n in net.spec.nodes]
    (most,) = [m for m in moments if m.bytes == peak_bytes(net, 1)]
    assert most.node == "relu" and most.live == {"conv2d": 128, "relu": 128, "x": 32}
    assert all(m.bytes == sum(m.live.values()) for m in moments)
    with pytest.raises(BadInput, match="allowed: none, pointwise, depthwise"):
        peak_bytes(net, inplace="all")


def test_quantized_activations_take_their_own_width() -> None:
    """A tensor that only quantizers read is written in their width; what is returned stays float."""
    net = capture(
        nn.Sequential(nn.Linear(10, 30), nn.ReLU(), nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 5)), torch.rand(2, 10)
    ).eval()
    held = Uniform(bits=8, activation_bits=8).apply(net, Work({"calib": (torch.rand(8, 10), None)}))
    widths = value_bits(held)
    assert set(widths.values()) == {8} and str(held.spec.output) not in widths
    assert peak_bytes(held, inplace="pointwise") == max(40 + 10, 10 + 30, 30 + 20)  # the input comes as float
    assert count(net).ram_inplace_bytes == 4 * (30 + 20)
    four = Uniform(bits=8, activation_bits=4).apply(net, Work({"calib": (torch.rand(8, 10), None)}))
    assert peak_bytes(four, inplace="pointwise") == max(40 + 5, 5 + 15, 15 + 10)


def test_alexnets_activations() -> None:
    """Methods C5 (a lecture's numbers): 932,264 values in all, 440,928 at the peak of input and first convolution."""
    sizes = ((3, 96, 11, 4, 2), (96, 256, 5, 1, 2), (256, 384, 3, 1, 1), (384, 384, 3, 1, 1), (384, 256, 3, 1, 1))
    body: list[nn.Module] = []
    for at, (inside, outside, kernel, stride, padding) in enumerate(sizes):
        body += [nn.Conv2d(inside, outside, kernel, stride, padding), nn.ReLU()]
        body += [nn.MaxPool2d(3, 2)] if at in (0, 1, 4) else []
    head = [nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)]
    net = capture(nn.Sequential(*body, *head), torch.rand(2, 3, 224, 224))
    assert activations(net) == 932_264 and peak_bytes(net, 1, "pointwise") == 440_928
    whole = count(net)
    assert round(whole.params / 1e6, 1) == 62.4  # the lecture's 61 M has two groups in three layers
