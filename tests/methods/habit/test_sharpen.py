"""The sharpness of attention rises."""

import pytest

from contracts.habit import HabitContract
from contracts.nets import small_conv
from paredown.core.errors import BadInput
from paredown.graph.attended import Attended, attended
from paredown.graph.net import Net
from paredown.methods.habit.sharpen import Sharpen


class TestSharpen(HabitContract):
    def part(self) -> Sharpen:
        return Sharpen()

    def net(self) -> Net:
        net = small_conv()
        net.set_slot("wide.weight", Attended(net.slot("wide.weight")(), False, 0.15, "slice"))
        return net


def test_it_rises_by_the_same_factor_from_first_to_last_and_never_falls() -> None:
    net, habit = TestSharpen().net(), Sharpen(0.5, 8.0, 1.0)
    state, seen = habit.start(net), [0.5]
    for at in range(1, 5):
        state = habit.step(net, state, at / 4)
        seen.append(float(attended(net)["wide.weight"].sharpness))
        assert state == {"sharpness": seen[-1]}
    assert seen == pytest.approx([0.5, 1.0, 2.0, 4.0, 8.0])
    assert Sharpen(0.5, 8.0, 0.5).step(net, {"sharpness": 0.5}, 0.25) == pytest.approx({"sharpness": 2.0})
    assert Sharpen(0.5, 8.0, 0.5).step(net, {"sharpness": 0.5}, 0.5) == pytest.approx({"sharpness": 8.0})
    assert habit.step(net, state, 0.25) == state and habit.step(net, state, 2.0) == state


def test_a_falling_sharpness_is_refused() -> None:
    with pytest.raises(BadInput, match="rises"):
        Sharpen(2.0, 1.0)
