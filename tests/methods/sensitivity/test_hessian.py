"""Hutchinson's traces against exact Hessians."""

import pytest
import torch
from torch import Tensor, nn

from contracts.nets import small_mlp
from contracts.sensitivity import SensitivityContract
from paredown.graph.capture import capture
from paredown.graph.curves import curvature, dense, loss_at
from paredown.graph.widths import Place, Trials
from paredown.methods.sensitivity.hessian import HessianTrace, mean_traces, squared_error


class TestHessianTrace(SensitivityContract):
    def part(self) -> HessianTrace:
        return HessianTrace(probes=4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_diagonal_quadratic_is_met_exactly_by_one_probe() -> None:
    h, w = torch.rand(30, generator=seeded()) * 9 - 3, torch.randn(30, generator=seeded(1)).requires_grad_()
    (found,) = curvature(0.5 * (h * w.square()).sum(), [w], 1, seeded(2))
    torch.testing.assert_close(found, h)


def test_the_trace_of_a_full_quadratic_lies_within_the_estimators_spread() -> None:
    """The variance of one probe is 2 (‖H‖² − Σ h_ii²)."""
    a = torch.randn((20, 20), generator=seeded())
    h, w = a @ a.T, torch.randn(20, generator=seeded(1)).requires_grad_()
    probes = 200
    (found,) = curvature(0.5 * w @ h @ w, [w], probes, seeded(2))
    spread = (2 * (h.square().sum() - h.diagonal().square().sum()) / probes).sqrt()
    assert abs(float(found.sum() - h.trace())) < 3 * float(spread)


def exact(net: nn.Module, x: Tensor, y: Tensor, name: str) -> Tensor:
    """Return the Hessian of the loss with respect to a slot, [n, n]."""
    start = net.slot(name)().detach()

    def loss(flat: Tensor) -> Tensor:
        values = {f"slots.{name.replace('.', '/')}.value": flat.view(start.shape)}
        return torch.nn.functional.cross_entropy(torch.func.functional_call(net, values, (x,)), y)

    return torch.autograd.functional.hessian(loss, start.flatten())


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return capture(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)), torch.rand(2, 6)).eval()


def test_traces_of_layers_and_of_channels_are_those_of_the_exact_hessian() -> None:
    """Within four standard deviations; an entry of v ⊙ (H v) has the variance Σ_{j ≠ i} h_ij², a sum at most twice that."""
    net, draw, probes = dense(tiny()), seeded(3), 400
    x, y = torch.rand((20, 6), generator=draw), torch.randint(0, 4, (20,), generator=draw)
    names = [name for name, _ in net.weighted()]
    places = (*map(Place, names), Place(names[0], 2))
    found = mean_traces(Trials(net, places, ((2,),) * 3), x, y, probes, seeded(4))
    full = [exact(net, x, y, name) for name in names]
    for trace, h, rows in zip(found, [*full, full[0]], [slice(None), slice(None), slice(12, 18)], strict=True):
        off = (h.square().sum(1) - h.diagonal().square())[rows]
        spread = float((2 * off.sum() / probes).sqrt()) / len(off)
        assert abs(trace - float(h.diagonal()[rows].mean())) < 4 * spread < 2 * float(full[0].diagonal().mean())


def test_the_trace_of_a_value_that_flows_is_the_mean_over_the_samples() -> None:
    """The last layer's output z: each sample's Hessian is diag(p) − p pᵀ."""
    net, draw = tiny(), seeded(5)
    x, y = torch.rand((12, 6), generator=draw), torch.randint(0, 4, (12,), generator=draw)
    last = net.spec.nodes[-1].name
    (found,) = mean_traces(Trials(net, (Place(last, flows=True),), ((8,),)), x, y, 500, seeded(6))
    p = net(x).detach().softmax(1)
    assert found == pytest.approx(float((p - p.square()).sum(1).mean()) / 4, rel=0.1)


def test_a_harm_is_half_the_mean_trace_times_the_squared_error() -> None:
    net, draw = small_mlp().eval(), seeded(7)
    x, y = torch.rand((16, 64), generator=draw), torch.randint(0, 10, (16,), generator=draw)
    name = next(name for name, _ in net.weighted())
    trials = Trials(net, (Place(name),), ((2, 3),))
    work = type("Calib", (), {"use": lambda self, _: (x, y), "seed": 0})()
    harms = HessianTrace(probes=8).harms(trials, work)[0]
    (trace,) = mean_traces(trials, x, y, 8, seeded(0))
    for bits, harm in zip((2, 3), harms, strict=True):
        change = trials.rounded(Place(name), bits) - net.slot(name)().detach()
        assert squared_error(trials, Place(name), bits) == pytest.approx(float(change.square().sum()), rel=1e-5)
        assert harm == pytest.approx(0.5 * max(0.0, trace) * float(change.square().sum()), rel=1e-4)


def test_the_loss_is_where_it_was() -> None:
    net, x, y = tiny(), torch.rand(3, 6), torch.tensor([0, 1, 2])
    first = net.spec.inputs[0][0]
    loss, added, seen = loss_at(net, x, y, [first])
    assert float(loss) == pytest.approx(float(torch.nn.functional.cross_entropy(net(x), y)))
    assert torch.equal(seen[0], x) and float(added[0].abs().sum()) == 0
