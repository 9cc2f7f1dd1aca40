"""What a first-order expansion says a channel is worth."""

import pytest
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from torch import Tensor, nn

from contracts.nets import small_conv, small_mlp
from contracts.score import ScoreContract
from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.groups import filters, groups
from paredown.graph.net import Net
from paredown.graph.shrink import mask_channels
from paredown.methods.score.l1 import L1
from paredown.methods.score.taylor import Taylor, first_order, second_order


class TestTaylor(ScoreContract):
    def part(self) -> Taylor:
        return Taylor()


class TestTaylorByWeights(ScoreContract):
    def part(self) -> Taylor:
        return Taylor("weight")


class TestTaylorToTheSecondOrder(ScoreContract):
    def part(self) -> Taylor:
        return Taylor("second", batch=32)


def test_the_second_order_is_that_of_the_loss_along_the_channel() -> None:
    """L((1 − s) w) for a unit's w, by differences: −slope and half the curvature at s = 0 are what is predicted at s = 1."""
    net = small_conv().double().eval()
    found, x = groups(net), torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    y, able = torch.arange(8), [group for group in found if len(group)]
    predicted = dict(zip([g.name for g in able], second_order(net, able, x, y), strict=True))

    def loss(group, unit: int, share: float) -> float:
        moved = net.copy().eval()
        for cut in [c for c in group.units[unit] if (c.slot, c.dim) in group.makers]:
            moved.slot(cut.slot).value.data.movedim(cut.dim, 0)[list(cut.indices)] *= 1 - share
        return float(nn.functional.cross_entropy(moved(x), y))

    step = 1e-4
    for group in able:
        for unit in (0, 3):
            low, at, high = (loss(group, unit, share) for share in (-step, 0.0, step))
            slope, bend = (high - low) / (2 * step), (high - 2 * at + low) / step**2
            assert float(predicted[group.name][unit]) == pytest.approx(-(slope + bend / 2), rel=1e-3, abs=1e-6)


def test_a_linear_loss_is_met_exactly() -> None:
    """For L = Σ c·f(x) with f linear after the channel, |Σ w dL/dw| is what masking the channel changes."""
    net = small_mlp().double().eval()
    group = groups(net)[1]
    x, c = torch.rand(12, 64).double(), torch.randn(10, generator=torch.Generator().manual_seed(0)).double()

    def loss(of: Net) -> Tensor:
        return (of(x) @ c).mean()

    gradients = net.copy()
    loss(net).backward()
    for held, slot in zip(gradients.slots.values(), net.slots.values(), strict=True):
        held.value.data = slot.value.grad.clone()
    predicted = first_order(filters(net, group, group.readers), filters(gradients, group, group.readers))
    found = torch.stack([loss(net) - loss(mask_channels(net, group, [unit])) for unit in range(len(group))])
    torch.testing.assert_close(predicted, found, rtol=1e-9, atol=1e-12)


def test_the_readers_sum_is_the_feature_maps_sum() -> None:
    """Σ w · dL/dw over the readers equals Σ a · dL/da over the map that they read."""
    net = small_conv().eval()
    group = next(g for g in groups(net) if g.name == "wide.weight")
    work = TestTaylor().work()
    x, y = work.use("calib")
    maps: list[Tensor] = []

    def watch(node, value):
        if node.op == "mean.dim":
            maps.append(value)
            value.retain_grad()

    torch.nn.functional.cross_entropy(net.run(x, watch=watch), y).backward()
    wanted = (maps[0] * maps[0].grad).sum(0).abs()
    torch.testing.assert_close(
        Taylor(batch=64).importance(net, group, work).float(), wanted.detach(), rtol=1e-4, atol=1e-7
    )


def test_batches_average() -> None:
    net, work = small_conv(), TestTaylor().work()
    group = groups(net)[0]
    one = Taylor(batch=1).importance(net, group, work)
    x, y = work.use("calib")
    each = [Taylor().importance(net, group, Work({"calib": (x[i : i + 1], y[i : i + 1])})) for i in range(len(y))]
    torch.testing.assert_close(one, torch.stack(each).mean(0))
    assert (one >= Taylor(batch=64).importance(net, group, work) - 1e-12).all(), "|mean| is at most mean of |·|"


def test_it_needs_the_calibration_split() -> None:
    net = small_mlp()
    with pytest.raises(PermissionError):
        Taylor().importance(net, groups(net)[0], Work().scoped("prune.channels", ()))


def layer(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def trained(x: Tensor, y: Tensor, seed: int) -> Net:
    """Return a 16-32-64 convolutional network after six epochs: half a second."""
    torch.manual_seed(seed)
    body = [*layer(1, 16), nn.MaxPool2d(2), *layer(16, 32), nn.MaxPool2d(2), *layer(32, 64)]
    model = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(6):
        for batch in torch.randperm(len(x)).split(65):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimiser.step()
    return capture(model.eval(), x[:2])


def test_it_ranks_channels_like_leaving_each_one_out() -> None:
    """A-S4-07 and part H: Spearman with the oracle above 0.4 and above the L1 norm's, on each of three seeds.

    Measured here with samples one by one: .92, .86, .86, against -.02, -.23, .38 for the L1 norm; the second order, on a
    batch of all: .43, .61, .69, against .29, .52, .31 for the first order by weights.
    """
    data = load_digits()
    x, y = torch.tensor(data.images, dtype=torch.float32)[:1300, None] / 16, torch.tensor(data.target)[:1300]
    gains = []
    for seed in range(3):
        net = trained(x, y, seed)
        group, some, labels = groups(net)[1], x[::5], y[::5]
        with torch.no_grad():
            masked = [mask_channels(net, group, [unit]).eval() for unit in range(32)]
            oracle = [float(nn.functional.cross_entropy(one(some), labels)) for one in masked]
        work = Work({"calib": (some, labels)})
        taylor, norm = (spearmanr(s.importance(net, group, work), oracle).statistic for s in (Taylor(batch=1), L1()))
        assert taylor > 0.4 and taylor > norm + 0.1
        whole = (Taylor(variant, batch=512).importance(net, group, work) for variant in ("second", "weight"))
        second, first = (spearmanr(found, oracle).statistic for found in whole)
        assert second > 0.4 and second > max(norm, first)
        gains.append(second - first)
    assert sum(gains) / len(gains) > 0.05, "the expansion gains by its second term"
