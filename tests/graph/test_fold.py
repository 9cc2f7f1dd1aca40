"""A folded norm computes what the norm computed; what cannot be folded is left alone and said."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paredown.graph.capture import capture
from paredown.graph.fold import fold_batchnorm
from paredown.graph.net import Net
from paredown.graph.slots import Codebook, Grid, Masked


def trained(module: nn.Module, *shape: int) -> Net:
    """Return the captured module with statistics and norms that matter."""
    torch.manual_seed(0)
    module.train()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) and layer.affine:
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    for _ in range(5):
        module(torch.randn(8, *shape) * 2 + 1)
    return capture(module.eval(), torch.randn(2, *shape)).eval()


FOLDABLE = {
    "conv": (nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5)), (2, 6, 6)),
    "conv without bias": (
        nn.Sequential(nn.Conv2d(2, 5, 3, bias=False), nn.BatchNorm2d(5, eps=0.1), nn.ReLU()),
        (2, 6, 6),
    ),
    "depthwise": (nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8)), (4, 6, 6)),
    "conv1d": (nn.Sequential(nn.Conv1d(2, 5, 3, padding="same"), nn.BatchNorm1d(5)), (2, 6)),
    "conv3d": (nn.Sequential(nn.Conv3d(1, 3, 2), nn.BatchNorm3d(3)), (1, 4, 4, 4)),
    "linear": (nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), (6,)),
    "bare norm": (nn.Sequential(nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4, affine=False)), (6,)),
    "two": (
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
        (1, 8, 8),
    ),
}


@pytest.mark.parametrize("name", FOLDABLE)
def test_it_computes_the_same_without_norms(name: str) -> None:
    module, shape = FOLDABLE[name]
    net = trained(module, *shape)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    folded, left = fold_batchnorm(net)
    assert not left and not [n for n in folded.spec.nodes if n.op == "batch_norm"]
    assert not [n for n in folded.slot_names() if "running" in n]
    x = torch.randn(7, *shape)
    torch.testing.assert_close(folded.eval()(x), net(x), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize("name", FOLDABLE)
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_integers_keep_their_codes_and_take_a_step_for_each_channel(name: str, bits: int) -> None:
    module, shape = FOLDABLE[name]
    net = trained(module, *shape)
    for slot, _ in net.weighted():
        codes = torch.randint(-1, 2, net.slot(slot)().shape) if bits > 1 else net.slot(slot)().sign()
        net.set_slot(slot, Grid(codes, torch.tensor(0.37), bits))
    folded, left = fold_batchnorm(net)
    assert not left
    for slot, _ in folded.weighted():
        old, new = net.slot(slot), folded.slot(slot)
        assert isinstance(new, Grid) and new.bits == bits and len(new.step) == len(new.codes)
        assert torch.equal(new.codes.abs(), old.codes.abs()) and (new.step > 0).all()
    x = torch.randn(7, *shape)
    torch.testing.assert_close(folded.eval()(x), net.eval()(x), rtol=1e-4, atol=1e-5)


def test_a_gamma_of_zero_leaves_zeros_or_a_step_of_almost_nothing() -> None:
    for bits in (1, 4):
        net = trained(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), 3)
        net.slot("1.weight").value.data[0] = 0
        net.set_slot("0.weight", Grid(torch.ones(2, 3), torch.tensor(0.5), bits))
        folded, left = fold_batchnorm(net)
        assert not left
        x = torch.randn(5, 3)
        torch.testing.assert_close(folded.eval()(x), net.eval()(x))


def test_a_lowest_code_that_cannot_be_negated_is_left_alone() -> None:
    net = trained(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), 3)
    net.set_slot("0.weight", Grid(torch.full((2, 3), -2), torch.tensor(0.5), 2))
    net.slot("1.weight").value.data[:] = torch.tensor([1.0, -1.0])
    assert "has no negative" in fold_batchnorm(net)[1][0][1]
    net.slot("1.weight").value.data[1] = 1
    assert not fold_batchnorm(net)[1]


class TwoUsers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.norm(x) + x


class Returned(TwoUsers):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(x)
        return self.norm(x), x


class OneWeightTwoNorms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.a, self.b = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.conv(F.relu(self.a(self.conv(x)))))


class Tokens(nn.Module):
    """As many tokens as features: a norm over the tokens looks as if it fitted the linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.fc(x))


class Computed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(5, 3), nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.linear(x, self.fc.weight.t()))


class BiasElsewhere(nn.Module):
    """The bias's natural name is taken by a parameter that something else reads."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(5, 3), nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.linear(x, self.fc.weight)) * self.fc.bias


LEFT = {
    "two users": (TwoUsers(), (1, 6, 6)),
    "returned": (Returned(), (1, 6, 6)),
    "one weight, two norms": (OneWeightTwoNorms(), (2, 5, 5)),
    "tokens": (Tokens(), (4, 4)),
    "after relu": (nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.BatchNorm1d(5)), (5,)),
    "first": (nn.BatchNorm1d(5), (5,)),
    "transposed": (nn.Sequential(nn.ConvTranspose2d(3, 3, 2), nn.BatchNorm2d(3)), (3, 4, 4)),
    "no statistics": (nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5, track_running_stats=False)), (5,)),
    "computed": (Computed(), (3,)),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_cannot_be_folded_is_left_alone_and_said(name: str) -> None:
    module, shape = LEFT[name]
    net = trained(module, *shape)
    folded, left = fold_batchnorm(net)
    norms = [n for n in net.spec.nodes if n.op == "batch_norm"]
    assert len(left) == len(norms) and all(layer and why for layer, why in left)
    assert folded.spec == net.spec
    x = torch.randn(7, *shape)
    for a, b in zip(
        torch.utils._pytree.tree_leaves(folded.eval()(x)), torch.utils._pytree.tree_leaves(net(x)), strict=True
    ):
        assert torch.equal(a, b)


def test_another_layers_bias_is_not_overwritten() -> None:
    net = trained(BiasElsewhere(), 5)
    folded, left = fold_batchnorm(net)
    x = torch.randn(7, 5)
    assert not left
    torch.testing.assert_close(folded.eval()(x), net(x), rtol=1e-4, atol=1e-5)


def test_a_mask_stays_and_a_codebook_is_left_alone() -> None:
    net = trained(nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), 6)
    weight = net.slot("0.weight")().detach()
    net.set_slot("0.weight", Masked(weight, weight > 0))
    folded, left = fold_batchnorm(net)
    x = torch.randn(5, 6)
    assert not left and isinstance(folded.slot("0.weight"), Masked)
    torch.testing.assert_close(folded.eval()(x), net(x), rtol=1e-4, atol=1e-5)
    assert torch.equal(folded.slot("0.weight")() == 0, net.slot("0.weight")() == 0)
    net.set_slot("0.weight", Codebook((weight > 0).byte(), torch.tensor([-0.1, 0.1])))
    folded, left = fold_batchnorm(net)
    assert len(left) == 1 and torch.equal(folded.eval()(x), net(x))
