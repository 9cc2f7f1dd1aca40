"""Computed weights are stored, the function stays, and their channels can then be pruned."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.nets import small_conv
from contracts.step import StepContract, params, same
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.groups import groups
from paredown.graph.net import Net
from paredown.methods.edit.store_weights import StoreWeights
from paredown.methods.prune.channels import Channels


class Standardised(nn.Module):
    """A plain and two standardised convolutions, the second as timm writes it; one's filters are also scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 12, 3)
        self.gain, self.fc = nn.Parameter(torch.rand(8, 1, 1, 1) + 0.5), nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        b, c = self.b.weight, self.c.weight
        b = self.gain * (b - b.mean((1, 2, 3), keepdim=True)) / (b.std((1, 2, 3), keepdim=True) + 1e-5)
        c = F.batch_norm(c.reshape(1, 12, -1), None, None, training=True, eps=1e-6).reshape_as(c)
        x = torch.relu(self.a(x))
        x = x + torch.relu(F.conv2d(x, b, self.b.bias, padding=1))
        return self.fc(torch.relu(F.conv2d(x, c, self.c.bias)).mean((2, 3)))


def standardised() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return capture(Standardised().eval(), torch.rand(2, 1, 8, 8))


class TestStoreWeights(StepContract):
    keeps_function = True

    def part(self) -> StoreWeights:
        return StoreWeights()

    def nets(self) -> dict[str, Net]:
        return {"standardised": standardised(), "plain": small_conv()}


def test_the_stored_weight_is_the_computed_one_under_its_name() -> None:
    net, work = standardised(), Work()
    out = StoreWeights().apply(net, work)
    b = net.slot("b.weight")().detach()
    wanted = (
        net.slot("gain")().detach() * (b - b.mean((1, 2, 3), keepdim=True)) / (b.std((1, 2, 3), keepdim=True) + 1e-5)
    )
    torch.testing.assert_close(out.slot("b.weight")().detach(), wanted)
    assert "gain" not in out.slot_names() and params(net) - params(out) == 8
    assert all(out.slot(name).value.requires_grad for name in ("b.weight", "c.weight"))
    assert {note.layer for note in work.notes} == {"a.weight", "fc.weight"}


def test_channels_that_stayed_whole_can_then_go() -> None:
    net = standardised()
    assert {group.name for group in groups(net) if len(group)} == set()
    stored = StoreWeights().apply(net, Work()).eval()
    thin = Channels(0.5).apply(stored, Work()).eval()
    assert [thin.slot(f"{name}.weight")().shape[0] for name in "abc"] == [4, 4, 6]
    x = torch.rand(3, 1, 8, 8)
    assert same(stored(x), net.eval()(x), 1e-5) and thin(x).shape == (3, 10)
