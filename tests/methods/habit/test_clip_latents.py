"""Values behind coarse weights stay within their limit."""

import torch

from contracts.habit import HabitContract
from contracts.nets import small_mlp
from paredown.graph.latent import Latent, signs, straight_through
from paredown.graph.net import Net
from paredown.methods.habit.clip_latents import ClipLatents


class Signs(Latent):
    limit = 0.05

    def forward(self) -> torch.Tensor:
        return straight_through(self.value, signs(self.value))

    def held(self) -> torch.nn.Module:
        raise NotImplementedError


def with_signs() -> Net:
    net = small_mlp()
    net.set_slot("0.weight", Signs(net.slot("0.weight")()))
    return net


class TestClipLatents(HabitContract):
    def part(self) -> ClipLatents:
        return ClipLatents()

    def net(self) -> Net:
        return with_signs()


def test_only_latents_are_clipped_and_only_beyond_the_limit() -> None:
    net = with_signs()
    before = {name: net.slot(name).value.detach().clone() for name in net.slot_names()}
    ClipLatents().step(net, {}, 0.5)
    after = {name: net.slot(name).value for name in net.slot_names()}
    assert before["0.weight"].abs().max() > 0.1 and torch.equal(
        after["0.weight"], before["0.weight"].clamp(-0.05, 0.05)
    )
    assert all(torch.equal(after[name], before[name]) for name in before if name != "0.weight")
