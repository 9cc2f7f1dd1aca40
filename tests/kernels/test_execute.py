"""Networks run packed: the same codes, the same outputs, and a reason for every layer that was left to float."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from contracts.nets import inputs_for, small_conv
from contracts.trained_step import samples, trainer
from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph import integers
from paredown.graph.activations import CONSTANT, fix_activations, learn_activations
from paredown.graph.capture import capture
from paredown.graph.latent import signs
from paredown.graph.net import Net
from paredown.graph.signs import read_signs_
from paredown.graph.slots import Codebook, Grid
from paredown.graph.spec import Node, Spec, Value
from paredown.kernels.execute import execute
from paredown.kernels.library import built, paths
from paredown.kernels.real import rounded
from paredown.methods.quantize.dorefa import DoReFa
from paredown.methods.quantize.uniform import grid
from paredown.methods.quantize.xnor_net import XnorNet

pytestmark = pytest.mark.skipif(not built(), reason="the low-bit kernels are not built: there was no C compiler")


ONCE = Plan(epochs=1, batch=16)


class Branches(nn.Module):
    """Strides, groups, dilation, a residual connection, a linear layer over positions and one over features."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.halves, self.far = nn.Conv2d(32, 32, 3, padding=1, groups=2), nn.Conv2d(32, 32, 3, padding=2, dilation=2)
        self.deep, self.each, self.head = nn.Conv2d(32, 32, 3, groups=32), nn.Linear(32, 24), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.wide(torch.relu(self.stem(x))))
        x = torch.relu(self.halves(x)) + self.far(x)
        x = self.deep(torch.relu(x)).permute(0, 2, 3, 1)
        return self.head(torch.relu(self.each(x)).mean((1, 2)))


@functools.cache
def _branches() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return capture(Branches().eval(), torch.rand(2, 3, 10, 10))


def branches() -> Net:
    return _branches().copy()


def hold_(net: Net, bits: int) -> None:
    """Round all weights to `bits` bits, in place."""
    for name, _ in net.weighted():
        weight = net.slot(name)().detach()
        made = Grid(signs(weight), weight.abs().mean(), 1) if bits == 1 else Grid(*grid(weight, bits), bits)
        net.set_slot(name, made)


def codebook_(net: Net) -> None:
    for name, _ in net.weighted():
        weight = net.slot(name)().detach()
        net.set_slot(name, Codebook((weight > 0).long() * 2, torch.tensor([-0.1, 0.0, 0.3])))


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("input_bits", [1, 2, 4, 8])
def test_rounded_networks_run_as_before_on_every_path(bits: int, input_bits: int) -> None:
    net, (x,) = branches(), inputs_for(branches(), 3)
    fix_activations(net, input_bits, x - 0.3)
    hold_(net, bits)
    for path in paths():
        run = execute(net, path)
        assert list(run.packed) == [f"{n}.weight" for n in ("stem", "wide", "halves", "far", "each", "head")]
        assert run.left == [("deep.weight", "its groups of 1 inputs would fill words of 32 with nothing")]
        close(run, net, x)


@torch.no_grad()
def close(run: Net, net: Net, x: Tensor) -> None:
    """Equal but for float rounding, which may put a value between two levels on its other side."""
    wanted = net.eval()(x)
    assert (run(x) - wanted).abs().mean() < 2e-3 * wanted.abs().mean()


@torch.no_grad()
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_sums_are_the_integer_references_sums(bits: int) -> None:
    """Layer by layer, on what the layer reads: scaled by 2^−4, rounded and clipped, they are `graph.integers`' codes."""
    net, (x,) = branches(), inputs_for(branches(), 2)
    fix_activations(net, 4, x)
    hold_(net, bits)
    run, seen = execute(net), {}
    net.eval().run(x, watch=lambda node, value: seen.update({node.name: value}))
    for name in ("wide", "halves", "far"):
        layer, node = run.packed[f"{name}.weight"], net.spec.slot_users()[f"{name}.weight"][0]
        value, factor = seen[node.args["input"]], np.full(32, 2.0**-4, np.float32)
        reference = integers.IntegerLayer(layer.weight.codes, factor, zeros=(layer.input.levels.zero, 0))
        codes = rounded(value.numpy(), *layer.input.rounding).transpose(0, 3, 1, 2)
        looks = [tuple(node.get(word)) for word in ("stride", "padding", "dilation")]
        wanted = integers.conv2d(codes, reference, *looks, node.get("groups"))
        sums = (layer(value, 0).numpy() - layer.bias[:, None, None]) / layer.factor[:, None, None]
        assert (np.clip(np.rint(np.rint(sums) * 2.0**-4), -128, 127) == wanted).all()
        assert len(np.unique(wanted)) > 5


def test_signs_that_something_else_reads_too() -> None:
    """The quantizer still runs, and the layer reads its −1 and +1."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(9, 40), nn.ReLU(), nn.Linear(40, 40)).eval()
    net, x = capture(model, torch.rand(2, 9)), torch.randn(7, 9)
    read_signs_(net, ["2.weight"], False, lambda layer, why: pytest.fail(why))
    hold_(net, 1)
    last = net.spec.nodes[-1]
    both = Node("both", "add.Tensor", {"self": Value(last.name), "other": last.args["input"]})
    for spec in (net.spec, Spec(net.spec.inputs, (*net.spec.nodes, both), Value("both"))):
        net.rewire(spec)
        run = execute(net)
        assert list(run.packed) == ["2.weight"]
        assert run.left == [("0.weight", "it reads the network's input, which is not rounded")]
        close(run, net, x)


@pytest.mark.parametrize(
    "step",
    [
        XnorNet(plan=ONCE),
        XnorNet(scaled=False, real_ends=False, plan=ONCE),
        DoReFa(2, 2, plan=ONCE),
        DoReFa(1, 4, plan=ONCE),
        DoReFa(3, 8, plan=ONCE),
    ],
)
def test_what_methods_make_runs_packed(step: XnorNet | DoReFa) -> None:
    net = small_conv()
    data = samples(net)
    made = step.apply(net, Work({"fit": trainer(data), "calib": (data.x, None)}))
    run = execute(made)
    assert run.packed and len(run.packed) + len(run.left) == len(list(made.weighted()))
    close(run, made, data.x)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda net: None, "its weights are no codes of few bits (Free)"),
        (lambda net: hold_(net, 8), "its codes have 8 bits; packed are 1 to 4"),
        (lambda net: hold_(net, 2), "its input, made by relu, is not rounded"),
        (codebook_, "its codebook's values are not evenly spaced around 0"),
        (
            lambda net: (hold_(net, 2), learn_activations(net, 4, torch.rand(2, 3, 10, 10))),
            "the step of its input is still being learned",
        ),
    ],
)
def test_what_is_left_has_a_reason(change: Callable, why: str) -> None:
    net, (x,) = branches(), inputs_for(branches(), 2)
    change(net)
    run = execute(net)
    assert not run.packed and why in [reason for _, reason in run.left]
    assert len(run.left) == len(list(net.weighted()))
    assert (run(x) == net.eval()(x)).all()


def test_it_says_what_it_cannot_do() -> None:
    with pytest.raises(BadInput, match="packed kernels make float32; the network computes in float64"):
        execute(branches().double())
    with pytest.raises(BadInput, match="the path 'neon'"):
        execute(branches(), "neon")


def test_a_quantizer_is_run_only_where_others_read_it() -> None:
    net, (x,) = branches(), inputs_for(branches(), 2)
    fix_activations(net, 4, x)
    hold_(net, 2)
    run = execute(net)
    levels: dict[str, Tensor] = {}
    run.run(x, watch=lambda node, value: levels.update({node.name: value}) if node.op == CONSTANT else None)
    deep = next(n for n in net.spec.nodes if n.slot("weight") == "deep.weight").args["input"]
    assert {name for name, value in levels.items() if len(value.unique()) <= 16} == {deep}
