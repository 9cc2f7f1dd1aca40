"""Values that pass through modules: in their place for every reader, trained, copied and saved with the network."""

import copy

import torch
from torch import Tensor, nn

from contracts.nets import inputs_for, small_mlp
from paredown.graph.net import Net
from paredown.graph.watched import Watched


class Times(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(3.0))

    def forward(self, value: Tensor) -> Tensor:
        return value * self.factor


def watched() -> tuple[Net, Watched, str]:
    net = small_mlp().eval()
    name = net.spec.slot_users()["2.weight"][0].name
    return net, Watched(net, {name: Times()}), name


def test_a_value_is_what_its_module_makes_of_it() -> None:
    net, made, name = watched()
    (x,) = inputs_for(net)
    wanted = net.run(x, watch=lambda node, value: 3 * value if node.name == name else None)
    assert torch.equal(made(x), wanted) and not torch.equal(made(x), net(x))
    assert torch.equal(made.plain()(x), net(x)) and type(made.plain()) is Net
    seen: dict[str, Tensor] = {}
    made.run(x, watch=lambda node, value: seen.update({node.name: value}))
    plain: dict[str, Tensor] = {}
    net.run(x, watch=lambda node, value: plain.update({node.name: value}))
    assert torch.equal(seen[name], 3 * plain[name])
    halved = made.run(x, watch=lambda node, value: value / 3 if node.name == name else None)
    torch.testing.assert_close(halved, net(x))


def test_modules_are_trained_copied_and_saved_with_the_network() -> None:
    net, made, name = watched()
    (x,) = inputs_for(net)
    made(x).sum().backward()
    assert made.passing(name).factor.grad is not None and made.passing("other") is None
    other = copy.deepcopy(made)
    with torch.no_grad():
        made.passing(name).factor.mul_(2)
    assert not torch.equal(other(x), made(x))
    other.load_state_dict(made.state_dict())
    assert torch.equal(other(x), made(x))
    assert made.slot("0.weight") is net.slot("0.weight")
