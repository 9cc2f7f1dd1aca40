"""Least-squares repair of what reads removed channels."""

import functools

import pytest
import torch
from torch import Tensor, nn

from contracts.digits_task import accuracy
from contracts.nets import small_conv, small_mlp
from contracts.pooled_digits import pictures, pooled
from paredown.graph.capture import capture
from paredown.graph.groups import Group, groups
from paredown.graph.net import Net
from paredown.graph.repair import correction, repair_
from paredown.graph.shrink import remove_channels
from paredown.graph.slots import Masked


def test_the_residual_is_orthogonal_to_what_stays() -> None:
    """A-S4-10: the normal equations; with a ridge, up to ρ Δ."""
    draw = torch.Generator().manual_seed(0)
    x, wanted = torch.randn(7, 300, generator=draw).double(), torch.randn(4, 300, generator=draw).double()
    change = correction(x, wanted, ridge=0.0)
    assert float(((wanted - change @ x) @ x.T).abs().max()) < 1e-9
    ridged = correction(x, wanted, ridge=0.1)
    pull = 0.1 * float((x @ x.T).diagonal().mean())
    torch.testing.assert_close((wanted - ridged @ x) @ x.T, pull * ridged)


def test_the_error_never_grows() -> None:
    """Even with fewer columns than inputs, or inputs that are all zero."""
    draw = torch.Generator().manual_seed(0)
    for inputs, columns in ((5, 3), (40, 10), (10, 400)):
        x, left = torch.randn(inputs, columns, generator=draw), torch.randn(3, columns, generator=draw)
        assert float((left - correction(x, left) @ x.double()).square().sum()) <= float(left.square().sum())
    assert correction(torch.zeros(3, 5), torch.ones(2, 5)).tolist() == [[0.0] * 3] * 2


def thinned(net: Net, chosen: dict[Group, list[int]], x: Tensor) -> tuple[Net, Net, list[tuple[str, str]]]:
    """Return (removed, removed and repaired, what was skipped)."""
    plain, left = remove_channels(net, chosen)
    assert not left
    mended, skipped = plain.copy(), list[tuple[str, str]]()
    repair_(mended, net, chosen, x, lambda *said: skipped.append(said))
    return plain.eval(), mended.eval(), skipped


class Mixed(nn.Module):
    """Readers of every kind: a plain, a grouped and a linear layer, with a depthwise one and a norm between."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.deep, self.b = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 12, 1, bias=False)
        self.norm, self.c, self.fc = nn.BatchNorm2d(12), nn.Conv2d(12, 8, 3, groups=2, padding=1), nn.Linear(128, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.b(self.deep(self.a(x).relu()).relu()))
        return self.fc(self.c(x.relu()).relu().flatten(1))


@functools.cache
def mixed() -> Net:
    torch.manual_seed(0)
    return capture(Mixed().eval(), torch.rand(2, 2, 8, 8)).eval()


def test_every_reader_comes_nearer() -> None:
    """Each layer that reads removed channels, and the network, on the samples and on others."""
    net = mixed()
    x = torch.randn(400, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    chosen = {group: list(range(len(group) // 3)) for group in groups(net) if len(group)}
    plain, mended, skipped = thinned(net, chosen, x[:300])
    assert not skipped and len(chosen) == 3
    changed = {n for n in plain.slot_names() if not torch.equal(plain.slot(n)(), mended.slot(n)())}
    assert changed == {"b.weight", "c.weight", "c.bias", "fc.weight", "fc.bias"}
    for part in (x[:300], x[300:]):
        before, after = ((out(part) - net(part)).square().mean() for out in (plain, mended))
        assert after < 0.3 * before


@pytest.mark.parametrize(("name", "makers"), [("b", "a deep"), ("c", "b norm"), ("fc", "c")])
def test_a_duplicate_is_made_up_for_exactly(name: str, makers: str) -> None:
    """Channels of the same filter: without one of them the function is the same again, whatever layer reads them."""
    net = mixed().copy()
    group = next(g for g in groups(net) if g.name == f"{makers.split(maxsplit=1)[0]}.weight")
    gone, stays = ([i for cut in group.units[unit] if cut.slot == group.name for i in cut.indices] for unit in (1, 0))
    for slot in [slot for slot in net.slot_names() if slot.split(".")[0] in makers.split()]:
        net.slot(slot)().detach()[gone] = net.slot(slot)().detach()[stays]
    x = torch.randn(300, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    plain, mended, _ = thinned(net, {group: [1]}, x)
    assert not torch.equal(plain.slot(f"{name}.weight")(), mended.slot(f"{name}.weight")())
    far, near = (float((out(x) - net(x)).abs().max()) for out in (plain, mended))
    assert near < 2e-3 * float(net(x).abs().max()) and far > 20 * near


def test_what_cannot_be_refit_is_said() -> None:
    net = small_mlp()
    held = net.slot("2.weight")().detach()
    net.set_slot("2.weight", Masked(held, held.abs() > 0.05))
    group = groups(net)[0]
    plain, mended, skipped = thinned(net, {group: [0, 1, 2]}, torch.rand(50, 64))
    assert [slot for slot, _ in skipped] == ["2.weight"] and "Masked" in skipped[0][1]
    assert all(torch.equal(v, mended.state_dict()[k]) for k, v in plain.state_dict().items())


def test_nothing_removed_nothing_changed() -> None:
    net = small_conv().eval()
    again = net.copy()
    repair_(again, net, {}, torch.rand(8, 1, 8, 8), lambda *_: None)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in net.state_dict().items())


def test_accuracy_on_digits() -> None:
    """A third of the channels of each layer, at random, without any training: repaired, it is far better on three seeds.

    Measured: 36.7, 39.3, 50.7 % without repair, 94.2, 97.8, 96.4 % with it, of 98.2, 98.4, 99.3 % before.
    """
    for seed in range(3):
        net, (train, test) = pooled(seed), pictures(seed)
        draw = torch.Generator().manual_seed(seed)
        chosen = {g: torch.randperm(len(g), generator=draw)[: len(g) // 3].tolist() for g in groups(net) if len(g)}
        plain, mended, _ = thinned(net, chosen, train.x)
        assert accuracy(mended, test) > accuracy(plain, test) + 30 and accuracy(mended, test) > 90
