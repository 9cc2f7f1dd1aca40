"""The factors that change a layer's outputs least: Eckart and Young's bound in the space of outputs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from contracts.digits_task import accuracy, digits, mlp
from contracts.nets import inputs_for, small_conv
from contracts.pooled_digits import pictures, pooled
from contracts.step import StepContract, params, same
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.low_rank import output_error, root, truncated
from paredown.graph.moments import crossed, gathered, value_at
from paredown.graph.slots import Masked
from paredown.methods.factorize.svd import Svd
from paredown.methods.factorize.whitened import Whitened, whitened
from paredown.targets.onnx import Onnx
from paredown.targets.packed import Packed


class TestWhitened(StepContract):
    def part(self) -> Whitened:
        return Whitened("params", 0.5)

    def settings(self) -> list[Whitened]:
        return [Whitened(), Whitened("energy", 0.8, center=False)]


def planted(seed: int, rank: int = 20) -> tuple[Tensor, Tensor]:
    """Return (matrix 12×20, inputs 20×50 of that rank)."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(20, rank, generator=draw).double() @ torch.randn(rank, 50, generator=draw).double()
    return torch.randn(12, 20, generator=draw).double(), inputs


@pytest.mark.parametrize("rank_of_inputs", [20, 7])
def test_the_error_is_that_of_the_singular_values_left_out(rank_of_inputs: int) -> None:
    for seed in range(5):
        matrix, inputs = planted(seed, rank_of_inputs)
        second, values = inputs @ inputs.T / 50, np.linalg.svd((matrix @ inputs).numpy() / 50**0.5, compute_uv=False)
        for rank in (1, 3, 6, 7, 11):
            left, right = whitened(matrix, second, rank)
            change, plain = matrix - left @ right, matrix - torch.matmul(*truncated(matrix, rank))
            error = output_error(change, root(second))
            assert left.shape == (12, rank) and torch.isfinite(left).all() and torch.isfinite(right).all()
            assert error**0.5 == pytest.approx(float(np.sqrt((values[rank:] ** 2).sum())), abs=1e-6)
            assert error <= output_error(plain, root(second)) + 1e-12
            assert error == pytest.approx(float((change @ inputs).square().sum()) / 50, abs=1e-9)


def test_white_inputs_make_it_the_plain_decomposition() -> None:
    matrix, _ = planted(0)
    for rank in (1, 5, 12):
        (left, right), plain = whitened(matrix, torch.eye(20), rank), truncated(matrix, rank)
        assert same(left @ right, plain[0] @ plain[1], 1e-9)
        assert same(left.abs(), plain[0].abs(), 1e-9) and same(right.abs(), plain[1].abs(), 1e-9)


def test_inputs_that_are_all_zero_do_no_harm() -> None:
    matrix, _ = planted(0)
    left, right = whitened(matrix, torch.zeros(20, 20), 4)
    assert torch.isfinite(left @ right).all()


def test_all_moments_come_from_one_run() -> None:
    """The same as one run for each layer; the mean is that of the windows."""
    net, x = small_conv().eval(), inputs_for(small_conv(), 100)[0]
    nodes = [node for _, node in net.weighted() if node.args.get("groups", 1) == 1]
    found = gathered(net, nodes, x)
    assert set(found) == {node.name for node in nodes}
    for node in nodes:
        inputs, kernel = value_at(net, x, str(node.args["input"])), tuple(net.slot(node.args["weight"])().shape[2:])
        assert same(found[node.name][0], crossed(node, inputs, inputs, kernel)[0], 1e-9)
    assert same(found[nodes[-1].name][1], value_at(net, x, str(nodes[-1].args["input"])).double().mean(0), 1e-6)


@pytest.mark.parametrize("center", [False, True])
def test_on_digits_each_layer_is_nearer_than_with_the_plain_decomposition(center: bool) -> None:
    """The rise of a layer's squared output error, over the calibration samples, measured on its outputs."""
    for net, x in ((mlp(0), digits(0)[0].x[:512]), (pooled(0), pictures(0)[0].x[:256])):
        first = dict(net.weighted())
        data = Whitened("params", 0.3, center=center, damp=0.0).apply(net, Work({"calib": (x, None)})).eval()
        plain = Svd("params", 0.3).apply(net, Work()).eval()
        assert params(data) <= params(plain) + sum(1 for n in data.slot_names() if n.endswith("second.bias"))
        split = [name for name in first if name not in data.slot_names()]
        assert split
        for name in split:
            node = first[name]
            weights = [
                net_.slot(name.replace("weight", f"{p}.weight"))().detach().flatten(1)
                for net_ in (data, plain)
                for p in ("first", "second")
            ]
            (second, mean), whole = gathered(net, [node], x)[node.name], net.slot(name)().detach().flatten(1)
            if center:
                second = second - torch.outer(mean, mean)
            errors = [output_error(whole - weights[i + 1] @ weights[i], root(second)) for i in (0, 2)]
            assert errors[0] <= errors[1] * (1 + 1e-6)


def test_the_bias_takes_up_the_mean_of_what_is_lost() -> None:
    torch.manual_seed(0)
    net = capture(nn.Sequential(nn.Linear(30, 20, bias=False)), torch.rand(1, 30)).eval()
    x = torch.rand(200, 30) + 3
    with torch.no_grad():
        errors = {}
        for center in (False, True):
            out = Whitened("params", 0.25, center=center).apply(net, Work({"calib": (x, None)})).eval()
            errors[center] = float((out(x) - net(x)).square().mean())
            if center:
                assert same((out(x) - net(x)).mean(0), torch.zeros(20), 1e-4)
    assert errors[True] <= errors[False]


def test_what_is_shared_grouped_transposed_or_masked_is_left_alone() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.same, self.up, self.deep = nn.Linear(32, 32), nn.ConvTranspose1d(1, 4, 3), nn.Conv1d(4, 4, 3, groups=4)
            self.last = nn.Linear(32, 33)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.deep(self.up(self.same(self.same(x).relu()).unsqueeze(1))))

    net = capture(Shared(), torch.rand(1, 32)).eval()
    net.set_slot("last.weight", Masked(net.slot("last.weight")(), torch.rand(33, 32) > 0.5))
    work = Work({"calib": (torch.rand(8, 32), None)})
    out = Whitened("params", 0.5).apply(net, work)
    said = {n.layer: n.text for n in work.notes}
    assert out.spec == net.spec and set(said) == {f"{n}.weight" for n in ("same", "up", "deep", "last")}
    assert "grouped" in said["deep.weight"]
    assert "share" in said["same.weight"] and "transposed" in said["up.weight"] and "Masked" in said["last.weight"]
    with pytest.raises(BadInput):
        Whitened(keep=1.5)


def test_the_layers_run_in_their_files(tmp_path: Path) -> None:
    net, test = mlp(0), digits(0)[1]
    out = Whitened("params", 0.4).apply(net, Work({"calib": (digits(0)[0].x, None)})).eval()
    plain = Svd("params", 0.4).apply(net, Work()).eval()
    assert accuracy(out, test) >= accuracy(plain, test) - 1
    for target in (Packed(), Onnx()):
        got = target.load(Path(target.write(freeze(out), tmp_path).path))(test.x.numpy())
        assert np.allclose(got, out(test.x).detach().numpy(), atol=1e-4)
