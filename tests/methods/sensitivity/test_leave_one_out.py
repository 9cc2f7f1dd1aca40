"""The rise of the loss, place by place."""

import pytest
import torch

from contracts.nets import small_mlp
from contracts.sensitivity import SensitivityContract
from paredown.graph.slots import Free
from paredown.graph.widths import Place, Trials, coded
from paredown.methods.sensitivity.leave_one_out import LeaveOneOut, rises


class TestLeaveOneOut(SensitivityContract):
    def part(self) -> LeaveOneOut:
        return LeaveOneOut()


def test_it_is_the_loss_with_that_place_rounded_less_the_loss() -> None:
    net, draw = small_mlp().eval(), torch.Generator().manual_seed(0)
    x, y = torch.rand((40, 64), generator=draw), torch.randint(0, 10, (40,), generator=draw)
    names = [name for name, _ in net.weighted()]
    places = (Place(names[1]), Place(names[1], 3))
    found = rises(Trials(net, places, ((0, 2), (0, 2))), x, y)
    loss = torch.nn.functional.cross_entropy
    for at, rows in enumerate([slice(None), slice(3, 4)]):
        for k, bits in enumerate((0, 2)):
            other = net.copy().eval()
            weight = net.slot(names[1])().detach().clone()
            weight[rows] = torch.mul(*coded(weight[rows], bits))
            other.set_slot(names[1], Free(weight))
            with torch.no_grad():
                assert found[at][k] == pytest.approx(float(loss(other(x), y) - loss(net(x), y)), abs=1e-6)
    assert abs(found[0][0]) > abs(found[1][0]) > 0
