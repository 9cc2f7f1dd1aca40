"""Where quantizers go when a network is to be in integers everywhere."""

from pathlib import Path

import numpy as np
import pytest
import torch
from integer_nets import NETS, conv, final, peer_codes, pictures
from torch import Tensor, nn

from paredown.core.work import Work
from paredown.graph.activations import (
    CONSTANT,
    KEEPING,
    LEARNABLE,
    TAKING,
    fix_activations,
    hold_activations,
    learn_activations,
    places,
)
from paredown.graph.capture import capture
from paredown.graph.fold import fold_batchnorm
from paredown.graph.freeze import freeze
from paredown.graph.integer_net import IntegerNet
from paredown.graph.net import Net
from paredown.graph.ops import OPS, WEIGHTED
from paredown.graph.spec import Node, references
from paredown.methods.quantize.activations import Activations
from paredown.methods.quantize.uniform import Uniform


def folded(name: str) -> Net:
    torch.manual_seed(0)
    return fold_batchnorm(capture(NETS[name]().eval(), torch.from_numpy(pictures(2))))[0]


def quantizers(net: Net) -> dict[str, Node]:
    """Return {quantizer: its node}."""
    return {n.name: n for n in net.spec.nodes if n.op in (CONSTANT, LEARNABLE)}


def levels(node: Node) -> tuple[object, ...]:
    """Return what a quantizer rounds to."""
    return tuple(node.args[k] for k in ("scale", "zero_point", "quant_min", "quant_max"))


def test_the_lists_name_operators() -> None:
    assert KEEPING < TAKING and WEIGHTED < TAKING and set(OPS) >= TAKING


@pytest.mark.parametrize("name", NETS)
def test_every_integer_operator_reads_and_ends_in_quantized_values(name: str) -> None:
    net = folded(name)
    fix_activations(net, 8, torch.from_numpy(pictures(16)), everywhere=True)
    made = quantizers(net)
    for node in net.spec.nodes:
        if node.op in TAKING:
            assert set(node.values()) <= set(made), node.name
    assert set(references(net.spec.output)) <= set(made)
    assert len({str(n.args["self"]) for n in made.values()}) == len(made)
    assert not places(net, everywhere=True)


@pytest.mark.parametrize("name", NETS)
def test_what_moves_values_keeps_their_levels(name: str) -> None:
    net = folded(name)
    fix_activations(net, 8, torch.from_numpy(pictures(16)), everywhere=True)
    made, kept = quantizers(net), 0
    for quantizer in made.values():
        maker = next((n for n in net.spec.nodes if n.name == quantizer.args["self"]), None)
        if maker is not None and maker.op in KEEPING:
            assert levels(quantizer) == levels(made[str(maker.args["self"])])
            kept += 1
    assert kept >= 1


def test_only_convolutions_and_linear_layers_are_fed_without_everywhere() -> None:
    net = folded("residual")
    assert (
        set(places(net).values())
        == set(places(net))
        == {str(n.args["input"]) for n in net.spec.nodes if n.op in WEIGHTED}
    )
    assert set(places(net)) < set(places(net, everywhere=True))


class Sized(nn.Module):
    """It reads a size from the batch, as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = conv(3, 4), nn.Linear(4 * 11 * 12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.a(x).reshape(x.shape[0], -1))


def test_a_size_is_not_quantized() -> None:
    x = torch.from_numpy(pictures(8))
    net = fold_batchnorm(capture(Sized().eval(), x))[0]
    assert any(n.op == "sym_size.int" for n in net.spec.nodes)
    assert not {n.name for n in net.spec.nodes if n.op == "sym_size.int"} & set(places(net, everywhere=True))
    fix_activations(net, 8, x, everywhere=True)
    assert net(x).shape == (8, 3)


def test_a_network_that_is_partly_quantized_is_completed(tmp_path: Path) -> None:
    """Quantizers that are there stay as they are; what moves their values gets their levels, the rest its own."""
    x = torch.from_numpy(pictures(64))
    net = folded("plain")
    fix_activations(net, 4, x)
    before = quantizers(net)
    work = Work({"calib": (x, None)})
    done = Activations(8, "min-max", everywhere=True).apply(net, work)
    after = quantizers(done)
    assert {name: after[name] for name in before} == before and len(after) > len(before)
    assert {note.layer for note in work.notes} == set(before)
    assert not places(done, everywhere=True)
    for node in done.spec.nodes:
        if node.op in TAKING:
            assert set(node.values()) <= set(after), node.name
    frozen = freeze(Uniform(7).apply(done, Work()).eval())
    theirs, _ = peer_codes(frozen, pictures(100), tmp_path)
    np.testing.assert_array_equal(IntegerNet(frozen).codes(pictures(100)), theirs[final(frozen)])


def test_learned_quantizers_of_one_root_share_their_step_and_train(tmp_path: Path) -> None:
    x = torch.from_numpy(pictures(64))
    net = folded("plain")
    learn_activations(net, 8, x, everywhere=True)
    made = quantizers(net)
    chain = [n for n in made.values() if n.args["scale"] == made["conv2d_1_quantized"].args["scale"]]
    assert [str(n.args["self"]) for n in chain] == ["conv2d_1", "max_pool2d", "flatten"]
    steps = {str(n.args["scale"]) for n in made.values()}
    assert len(steps) < len(made)
    before = {name: float(net.slot(name)().detach()) for name in steps}
    optimiser = torch.optim.SGD([net.slot(name).value for name in steps], lr=1e-3)
    for _ in range(3):
        optimiser.zero_grad()
        net(x).square().mean().backward()
        optimiser.step()
    moved = [name for name in steps if float(net.slot(name)().detach()) != before[name]]
    assert len(moved) > len(steps) / 2 and str(chain[0].args["scale"]) in moved
    hold_activations(net)
    held = quantizers(net)
    assert len({held[n.name].args["scale"] for n in chain}) == 1
    frozen = freeze(Uniform(7).apply(net, Work()).eval())
    theirs, operators = peer_codes(frozen, pictures(100), tmp_path)
    assert not {"Conv", "Gemm", "AveragePool"} & set(operators)
    for name, codes in theirs.items():
        np.testing.assert_array_equal(IntegerNet(frozen).values(pictures(100))[name].codes, codes)
