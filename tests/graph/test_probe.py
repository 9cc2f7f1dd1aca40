"""Channels followed through operators without a rule, by marking them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from paredown.graph.capture import capture
from paredown.graph.flow import RULES, Flow
from paredown.graph.groups import groups
from paredown.graph.labels import Track
from paredown.graph.probe import probed
from paredown.graph.shrink import remove_channels
from paredown.graph.spec import Node, Value


def followed(op: str, shape: tuple[int, ...], along: int, **args: object) -> tuple[Flow, Track | None]:
    """Return what probing says of an operator of one input, whose channels lie `along` a dimension; the labels are 0, 1, …"""
    net = capture(nn.ReLU(), torch.rand(2, *shape[1:]))
    flow = Flow(net)
    name = net.spec.inputs[0][0]
    flow.values[name] = Track(shape, along, flow.labels.fresh(shape[along]))
    return flow, probed(flow, Node("n", op, {"self": Value(name), **args}))


@pytest.mark.parametrize(
    ("op", "args"), [("erf", {}), ("gt.Scalar", {"other": 0.3}), ("relu", {}), ("flip", {"dims": [2]})]
)
def test_one_by_one(op: str, args: dict[str, object]) -> None:
    _, track = followed(op, (1, 5, 4), 1, **args)
    assert track is not None and track.dim == 1 and track.labels.tolist() == [0, 1, 2, 3, 4]


def test_channels_in_another_order_and_along_another_dimension() -> None:
    _, track = followed("flip", (1, 6, 3), 1, dims=[1])
    assert track is not None and track.labels.tolist() == [5, 4, 3, 2, 1, 0]
    _, track = followed("transpose.int", (1, 6, 3), 1, dim0=1, dim1=2)
    assert track is not None and (track.dim, track.labels.tolist()) == (2, [0, 1, 2, 3, 4, 5])


def test_channels_that_lie_side_by_side_and_some_that_go_nowhere() -> None:
    _, track = followed("flatten.using_ints", (1, 3, 2), 1, start_dim=1)
    assert track is not None and track.labels.tolist() == [0, 0, 1, 1, 2, 2]
    _, track = followed("slice.Tensor", (1, 7, 2), 1, dim=1, start=1, step=3)
    assert track is not None and track.labels.tolist() == [1, 4]


@pytest.mark.parametrize(
    ("op", "args"),
    [("softmax.int", {"dim": 1}), ("sum", {}), ("cumsum", {"dim": 1}), ("amax", {"dim": [1]}), ("no_such", {})],
)
def test_what_mixes_or_fails_is_not_followed(op: str, args: dict[str, object]) -> None:
    if op == "no_such":
        assert followed("embedding", (1, 5, 4), 1)[1] is None
    else:
        assert followed(op, (1, 5, 4), 1, **args)[1] is None


class Meeting(nn.Module):
    def __init__(self, meet: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c, self.meet = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1), meet

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.meet(self.a(x), self.b(x)))


@pytest.mark.parametrize(
    "meet",
    [
        lambda a, b: torch.where(a > 0.1, b, a.sin()),
        lambda a, b: a.masked_fill(b > 0, 0.0).flip((2,)) + b.erf(),
        lambda a, b: torch.where(b.flip((1,)) != 0, b.flip((1,)), a),
    ],
)
def test_networks_with_operators_without_a_rule(meet: Callable[[Tensor, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    net = capture(Meeting(meet), torch.rand(2, 3, 4, 4))
    assert any(node.op not in RULES for node in net.spec.nodes)
    found = [group for group in groups(net) if len(group)]
    assert len(found) == 1 and {slot for slot, _ in found[0].makers} == {"a.weight", "b.weight"} and len(found[0]) == 6
    thin, left = remove_channels(net, {found[0]: (1, 4)})
    assert not left and thin.slot("c.weight")().shape == (2, 4, 1, 1)
