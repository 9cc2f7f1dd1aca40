"""Networks that XNOR-Net has trained run packed to the bit: with and without the scaling of inputs (part F 16)."""

import numpy as np
import pytest
import torch
from torch import Tensor

from contracts.nets import inputs_for, small_conv
from contracts.trained_step import deep_mlp, samples, trainer
from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.graph.net import Net
from paredown.graph.slots import Fixed, Grid
from paredown.kernels.execute import execute
from paredown.kernels.library import built, paths
from paredown.methods.quantize.xnor_net import XnorNet

pytestmark = pytest.mark.skipif(not built(), reason="the low-bit kernels are not built: there was no C compiler")

NETS = {"conv": (small_conv, ["point.weight", "wide.weight"]), "mlp": (lambda: deep_mlp(0), ["3.weight"])}


def exact(net: Net) -> Net:
    """Return the network with powers of two for the scales of its signs and whole eighths for their biases.

    Float sums of ±2^k are then exact in any order, so that nothing but a wrong sum can differ.
    """
    made = net.copy().eval()
    for name, node in made.weighted():
        if isinstance(made.slot(name), Grid):
            slot = made.slot(name)
            made.set_slot(name, Grid(slot.codes, 2.0 ** slot.step.log2().round(), 1))
            if (bias := node.slot("bias")) is not None:
                made.set_slot(bias, Fixed((made.slot(bias)().detach() * 8).round() / 8))
    return made


@torch.no_grad()
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("scaled", [True, False])
def test_what_it_trained_runs_packed_to_the_bit_on_every_path(name: str, scaled: bool) -> None:
    make, inner = NETS[name]
    net = make()
    with torch.enable_grad():
        trained = XnorNet(scaled, plan=Plan(epochs=2, batch=16)).apply(net, Work({"fit": trainer(samples(net))}))
    made, (x,) = exact(trained), inputs_for(net, 9)
    means = [node for node in made.spec.nodes if node.op == "mean.dim" and node.name.endswith("_seen")]
    assert len(means) == (len(inner) if scaled else 0), "K is there only where it is asked for"
    for path in paths():
        run = execute(made, path)
        assert list(run.packed) == inner
        assert {slot for slot, _ in run.left} == {slot for slot, _ in made.weighted()} - set(inner)
        assert torch.equal(run(x), made(x)), path
        for slot in inner:
            same_sums(made, run, slot, x)


def same_sums(net: Net, run: Net, slot: str, x: Tensor) -> None:
    """The products of a layer are whole numbers of its scale: those of float, and what the packed kernel gives."""
    node, seen = net.spec.slot_users()[slot][0], []
    for one in (net, run):
        one.run(x, watch=lambda n, value: seen.append(value.clone()) if n.name == node.name else None)
    bias = torch.zeros(1) if node.slot("bias") is None else net.slot(node.slot("bias"))()
    rest = [1] * (seen[0].dim() - 2)
    whole = (seen[0] - bias.view(1, -1, *rest)) / net.slot(slot).step.view(1, -1, *rest)
    assert torch.equal(whole, whole.round()) and len(np.unique(whole.numpy())) > 5 and torch.equal(*seen)
