"""What a weight adds to the squared norm of the gradient. A wrong sign is the commonest mistake (part F, 19)."""

import pytest
import torch
from torch import Tensor

from contracts.nets import inputs_for, small_mlp
from contracts.saliency import SaliencyContract
from paredown.core.work import Work
from paredown.graph.net import Net
from paredown.graph.slopes import bent, slopes
from paredown.methods.saliency.grasp import Grasp


class TestGrasp(SaliencyContract):
    def part(self) -> Grasp:
        return Grasp()


NAMES = ["0.weight", "2.weight", "4.weight"]
T = 3.0


def gradients(net: Net, x: Tensor, y: Tensor) -> list[Tensor]:
    loss = torch.nn.functional.cross_entropy(net(x) / T, y)
    return list(torch.autograd.grad(loss, [net.slot(name).value for name in NAMES]))


def flow(net: Net, x: Tensor, y: Tensor) -> float:
    """Return the squared norm of the gradient."""
    return float(sum(g.square().sum() for g in gradients(net, x, y)))


def sample() -> tuple[Net, Tensor, Tensor]:
    net = small_mlp().double()
    return net, inputs_for(net, 24)[0], torch.arange(24) % 10


def test_hessian_vector_product_is_the_difference_of_gradients() -> None:
    net, x, y = sample()
    at, g = slopes(net, NAMES, lambda held: torch.nn.functional.cross_entropy(held(x) / T, y), bend=True)
    product, step, ends = bent(g, at, g), 1e-5, []
    for sign in (1, -1):
        other = net.copy()
        with torch.no_grad():
            for name, v in zip(NAMES, g, strict=True):
                other.slot(name).value += sign * step * v
        ends.append(gradients(other, x, y))
    for hg, up, down in zip(product, *ends, strict=True):
        torch.testing.assert_close(hg, (up - down) / (2 * step), rtol=1e-5, atol=1e-10)


def test_taking_a_weight_away_changes_the_flow_by_minus_twice_its_saliency() -> None:
    """Of the first order: d/dε ‖g(θ − ε θ_q e_q)‖² = −2 θ_q (H g)_q."""
    net, x, y = sample()
    found = Grasp(temperature=T).saliencies(net, NAMES, Work({"calib": (x, y)}))
    signs = set()
    for name in NAMES:
        weight, step = net.slot(name).value.data.view(-1), 1e-4
        order = found[name].flatten().argsort()
        for at in map(int, (*order[:3], *order[-3:])):
            kept, flows = float(weight[at]), []
            for factor in (1 - step, 1 + step):
                weight[at] = factor * kept
                flows.append(flow(net, x, y))
            weight[at] = kept
            slope = (flows[0] - flows[1]) / (2 * step)
            assert slope == pytest.approx(-2 * float(found[name].flatten()[at]), rel=1e-4, abs=1e-9)
            signs.add(slope > 0)
    assert signs == {True, False}


def test_without_the_lowest_gradients_flow_better_than_without_the_highest() -> None:
    net, x, y = sample()
    found = Grasp(temperature=T).saliencies(net, NAMES, Work({"calib": (x, y)}))
    flows = {}
    for which, descending in (("lowest", False), ("highest", True)):
        other = net.copy()
        for name in NAMES:
            at = found[name].flatten().argsort(descending=descending)[: found[name].numel() // 50]
            other.slot(name).value.data.view(-1)[at] = 0
        flows[which] = flow(other, x, y)
    assert flows["lowest"] > flow(net, x, y) > flows["highest"]
