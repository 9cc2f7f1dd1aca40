"""What gradients of single samples say about rounding errors."""

import pytest
import torch

from contracts.nets import small_mlp
from contracts.sensitivity import SensitivityContract
from paredown.graph.net import Net
from paredown.graph.widths import Place, Trials
from paredown.methods.sensitivity.fisher import Fisher, joint_error, stored_harms


class TestFisher(SensitivityContract):
    def part(self) -> Fisher:
        return Fisher()


class TestDiagonalFisher(SensitivityContract):
    def part(self) -> Fisher:
        return Fisher("diagonal")


def test_the_joint_form_is_that_of_the_matrix() -> None:
    draw = torch.Generator().manual_seed(0)
    g, errors = torch.randn((9, 6), generator=draw).double(), torch.randn((4, 6), generator=draw).double()
    fisher = torch.einsum("si,sj->ij", g, g) / 9
    torch.testing.assert_close(joint_error(g, errors), 0.5 * torch.einsum("ei,ij,ej->e", errors, fisher, errors))


def gradients(net: Net, name: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return each sample's gradient, [samples, values]."""
    found = []
    for one, label in zip(x, y, strict=True):
        net.zero_grad()
        torch.nn.functional.cross_entropy(net(one[None]), label[None]).backward()
        found.append(net.slot(name).value.grad.flatten().clone())
    return torch.stack(found).double()


@pytest.mark.parametrize("form", ["joint", "diagonal"])
def test_harms_of_layers_and_channels_are_the_formulas(form: str) -> None:
    net, draw = small_mlp().eval(), torch.Generator().manual_seed(1)
    x, y = torch.rand((7, 64), generator=draw), torch.randint(0, 10, (7,), generator=draw)
    name = [name for name, _ in net.weighted()][1]
    trials = Trials(net, (Place(name), Place(name, 2)), ((0, 3), (0, 3)))
    found = stored_harms(trials, x, y, form)
    g = gradients(net.copy().eval(), name, x, y)
    width = net.slot(name)().shape[1]
    for place, columns in ((Place(name), slice(None)), (Place(name, 2), slice(2 * width, 3 * width))):
        for bits, harm in zip((0, 3), found[place], strict=True):
            moved = g[:, columns] * trials.error(place, bits).flatten().double()
            wanted = moved.sum(1).square() if form == "joint" else moved.square().sum(1)
            assert harm == pytest.approx(0.5 * float(wanted.mean()), rel=1e-4)
