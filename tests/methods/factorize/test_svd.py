"""A layer as two: the nearest of its rank, where that saves parameters."""

import numpy as np
import pytest
import torch
from torch import nn

from contracts.nets import small_conv, small_mlp
from contracts.step import StepContract, params, same
from paredown.core.errors import BadInput
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.chains import split_
from paredown.graph.low_rank import as_matrix, as_weights, energy_rank, truncated
from paredown.graph.net import Net
from paredown.graph.slots import Masked
from paredown.methods.factorize.svd import Svd


class TestSvd(StepContract):
    def part(self) -> Svd:
        return Svd("params", 0.5)

    def settings(self) -> list[Svd]:
        return [Svd(), Svd("energy", 0.8, "spatial")]


class TestSvdSpatial(StepContract):
    def part(self) -> Svd:
        return Svd("params", 0.5, "spatial")

    def nets(self) -> dict[str, Net]:
        return {"conv": small_conv()}


def test_no_matrix_of_the_rank_is_nearer() -> None:
    """Eckart–Young: the squared error is the sum of the singular values left out, squared."""
    draw = torch.Generator().manual_seed(0)
    matrix = torch.randn(12, 20, generator=draw, dtype=torch.float64)
    values = np.linalg.svd(matrix.numpy(), compute_uv=False)
    for rank in (1, 4, 11, 12):
        left, right = truncated(matrix, rank)
        error = float((matrix - left @ right).square().sum())
        assert left.shape == (12, rank) and right.shape == (rank, 20)
        assert error == pytest.approx(float((values[rank:] ** 2).sum()), abs=1e-10)
        for _ in range(20):
            other = torch.randn(12, rank, generator=draw, dtype=torch.float64)
            best = other @ torch.linalg.lstsq(other, matrix).solution
            assert (matrix - best).square().sum() >= error - 1e-9


def test_rank_by_energy() -> None:
    matrix = torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.0]))
    assert [energy_rank(matrix, share) for share in (0.5, 9 / 14, 0.65, 13 / 14, 0.95, 0.999)] == [1, 1, 2, 2, 3, 3]
    assert energy_rank(torch.zeros(3, 4), 0.9) == 1


@pytest.mark.parametrize("scheme", ["channel", "spatial"])
@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (3, 5), "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)},
        {"kernel_size": 3, "padding": "same", "bias": False},
        {"kernel_size": (5, 3), "padding": "valid"},
    ],
)
def test_full_rank_gives_the_same_convolution(scheme: str, settings: dict) -> None:
    """At full rank the two layers are the one, whatever its stride, padding and dilation."""
    torch.manual_seed(0)
    net = capture(nn.Sequential(nn.Conv2d(4, 6, **settings)), torch.rand(1, 4, 12, 13)).double().eval()
    out = net.copy()
    weight = net.slot("0.weight")().detach()
    matrix = as_matrix(weight, scheme)
    split_(out, "0.weight", as_weights(*truncated(matrix, min(matrix.shape)), tuple(weight.shape), scheme), scheme)
    x = torch.rand(2, 4, 12, 13).double()
    assert len(out.spec.nodes) == 2 and same(net(x), out.eval()(x), 1e-12)


def test_a_layer_of_low_rank_is_met_exactly_and_its_parameters_fall() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 10))
    model[0].weight.data = torch.randn(30, 3) @ torch.randn(3, 40)
    net = capture(model, torch.rand(1, 40)).eval()
    work = Work().scoped("factorize.svd", ())
    out = Svd("energy", 0.999).apply(net, work).eval()
    assert out.slot("0.second.weight")().shape[1] <= 3
    assert out.slot("0.first.weight")().shape[0] == out.slot("0.second.weight")().shape[1]
    assert [note.layer for note in work.notes] == ["2.weight"] and "fewer" in work.notes[0].text
    assert params(out) < params(net) and out.slot_names()[:3] == ["0.first.weight", "0.second.weight", "0.bias"]
    exact = Svd("params", 0.2).apply(net, Work()).eval()
    first, second = exact.slot("0.first.weight")(), exact.slot("0.second.weight")()
    assert first.shape == (3, 40) and same(second @ first, net.slot("0.weight")(), 1e-5)


def test_spatial_factors_have_the_papers_shapes() -> None:
    net = capture(nn.Sequential(nn.Conv2d(16, 32, 3, padding=1)), torch.rand(1, 16, 8, 8))
    out = Svd("params", 0.5, "spatial").apply(net, Work())
    rank = 16 * 32 * 9 // 2 // (3 * (16 + 32))
    assert out.slot("0.first.weight")().shape == (rank, 16, 3, 1)
    assert out.slot("0.second.weight")().shape == (32, rank, 1, 3)


def test_shared_layers_are_split_together_and_others_left_alone() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.same, self.up, self.deep = nn.Linear(32, 32), nn.ConvTranspose1d(1, 4, 3), nn.Conv1d(4, 4, 3, groups=4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.deep(self.up(self.same(self.same(x).relu()).unsqueeze(1)))

    net = capture(Shared(), torch.rand(1, 32))
    work = Work()
    out = Svd("params", 0.5).apply(net, work)
    assert (
        sum(node.op == "linear" for node in out.spec.nodes) == 4 and len(out.slot_names()) == len(net.slot_names()) + 1
    )
    assert {n.layer: n.text.split()[1] for n in work.notes} == {"up.weight": "transposed", "deep.weight": "grouped"}


def test_masks_are_refused_by_the_card_and_left_alone() -> None:
    net = small_mlp()
    weight = net.slot("0.weight")()
    net.set_slot("0.weight", Masked(weight, weight > 0))
    work = Work()
    assert "0.weight" in Svd("params", 0.3).apply(net, work).slot_names()
    assert "0.weight" in {note.layer for note in work.notes} and "masked" in Svd.card.forbids
    with pytest.raises(BadInput):
        Svd("rank")
