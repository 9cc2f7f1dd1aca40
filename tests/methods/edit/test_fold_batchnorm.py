"""Batch norms go into the layers before them; the network computes the same."""

import pytest
import torch
from torch import Tensor, nn

from contracts.nets import small_conv
from contracts.step import StepContract, same
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.net import Net
from paredown.graph.slots import Codebook, Masked
from paredown.methods.edit.fold_batchnorm import FoldBatchnorm


class TestFoldBatchnorm(StepContract):
    keeps_function = True

    def part(self) -> FoldBatchnorm:
        return FoldBatchnorm()

    def nets(self) -> dict[str, Net]:
        return {"conv": small_conv()}

    def excused(self, net: Net, weight: str) -> bool:
        return weight in ("point.weight", "wide.weight", "fc.weight")


def seen(model: nn.Module, *shape: int) -> nn.Module:
    """Return the model with norms that have seen data and have scales and shifts of their own."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) and module.affine:
            nn.init.uniform_(module.weight, -2, 2)
            nn.init.normal_(module.bias)
    for _ in range(3):
        model.train()(torch.randn(8, *shape) * 2 + 1)
    return model.eval()


def norms(net: Net) -> int:
    return sum(node.op == "batch_norm" for node in net.spec.nodes)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ((nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)), (3, 8, 8)),
        (
            (nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4)),
            (4, 8, 8),
        ),
        ((nn.Conv1d(3, 6, 3, padding="same"), nn.BatchNorm1d(6, affine=False)), (3, 9)),
        ((nn.Conv3d(2, 4, 2), nn.BatchNorm3d(4)), (2, 4, 4, 4)),
        ((nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3)), (5,)),
    ],
)
def test_the_function_stays_and_the_norms_go(layers: tuple[nn.Module, ...], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net = capture(seen(nn.Sequential(*layers), *shape), torch.rand(2, *shape)).double().eval()
    out = FoldBatchnorm().apply(net, Work()).eval()
    x = torch.randn(5, *shape).double()
    assert norms(out) == 0 and same(net(x), out(x), 1e-12)
    assert not [name for name in out.slot_names() if "running" in name]


class Stays(nn.Module):
    """Norms that cannot go, each for its reason."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.conv, self.shared = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.twice, self.n1, self.n2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.before(x))
        x = x + self.twice(x)
        return self.n2(self.shared(torch.relu(self.n1(self.shared(x)))))


def test_norms_that_cannot_go_stay_and_are_noted() -> None:
    net = capture(seen(Stays(), 3, 4, 4), torch.rand(2, 3, 4, 4)).eval()
    work = Work().scoped("edit.fold_batchnorm", ())
    out = FoldBatchnorm().apply(net, work).eval()
    x = torch.randn(3, 3, 4, 4)
    assert norms(out) == 4 and len(work.notes) == 4 and same(net(x), out(x))
    assert len({note.layer for note in work.notes}) == 4 and all(note.text for note in work.notes)


def test_a_linear_layer_over_sequences_is_not_the_norms() -> None:
    """BatchNorm1d on (batch, length, features) normalises the length, which the linear layer does not make."""
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6))
    net = capture(seen(model, 6, 5), torch.rand(2, 6, 5)).eval()
    x = torch.randn(3, 6, 5)
    assert same(net(x), FoldBatchnorm().apply(net, Work()).eval()(x), 1e-5)


def test_a_mask_stays_and_a_codebook_is_left_alone() -> None:
    net = small_conv().eval()
    weight = net.slot("stem.weight")().detach()
    net.set_slot("stem.weight", Masked(weight, weight > 0))
    net.set_slot("deep.weight", Codebook(torch.ones(8, 1, 3, 3), torch.tensor([0.1, 0.2])))
    work = Work()
    out = FoldBatchnorm().apply(net, work).eval()
    x = torch.rand(2, 1, 8, 8)
    assert norms(out) == 1 and len(work.notes) == 1 and same(net(x), out(x), 1e-5)
    assert isinstance(out.slot("stem.weight"), Masked)
    assert ((out.slot("stem.weight")() != 0) == (weight > 0)).all()


def test_a_transposed_convolution_keeps_its_function() -> None:
    for groups in (1, 2):
        model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=groups), nn.BatchNorm2d(6))
        net = capture(seen(model, 4, 5, 5), torch.rand(2, 4, 5, 5)).double().eval()
        x = torch.randn(3, 4, 5, 5).double()
        assert same(net(x), FoldBatchnorm().apply(net, Work()).eval()(x), 1e-12)
