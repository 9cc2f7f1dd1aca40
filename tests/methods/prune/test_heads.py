"""Whole heads removed: planted ones are found, and what is left computes the same."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.nets import small_mlp
from contracts.step import StepContract
from paredown.core.work import Work
from paredown.cost.count import count
from paredown.graph.capture import capture
from paredown.graph.groups import groups, head_groups
from paredown.graph.net import Net
from paredown.graph.slots import Free
from paredown.methods.prune.heads import Heads
from paredown.methods.score.taylor import Taylor

HEADS, WIDTH = 3, 8


class Block(nn.Module):
    """Attention with fused queries, keys and values, or by products of matrices, between two residual branches."""

    def __init__(self, by_hand: bool = False) -> None:
        super().__init__()
        size = HEADS * WIDTH
        self.embed, self.qkv, self.out, self.last = (
            nn.Linear(6, size), nn.Linear(size, 3 * size), nn.Linear(size, size), nn.Linear(size, 4)
        )  # fmt: skip
        self.norm, self.by_hand = nn.LayerNorm(size), by_hand

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        n, t, size = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, t, 3, HEADS, WIDTH).permute(2, 0, 3, 1, 4).unbind(0)
        if self.by_hand:
            y = (q @ k.transpose(-2, -1) * WIDTH**-0.5).softmax(-1) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v)
        return self.last((x + self.out(y.transpose(1, 2).reshape(n, t, size))).mean(1))


def block(by_hand: bool = False) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return capture(Block(by_hand), torch.rand(2, 5, 6))


class TestHeads(StepContract):
    def part(self) -> Heads:
        return Heads(0.4)

    def settings(self) -> list[Heads]:
        return [Heads(0.5, Taylor())]

    def nets(self) -> dict[str, Net]:
        return {"block": block(), "by hand": block(True)}

    def excused(self, net: Net, weight: str) -> bool:
        return True  # only attention loses anything


def test_a_unit_is_a_head_with_its_queries_keys_values_and_readers() -> None:
    for net in (block(), block(True)):
        (found,) = head_groups(net)
        assert len(found) == HEADS
        unit = {(cut.slot, cut.dim): cut.indices for cut in found.units[1]}
        rows = tuple(part * HEADS * WIDTH + WIDTH + at for part in range(3) for at in range(WIDTH))
        assert unit["qkv.weight", 0] == unit["qkv.bias", 0] == rows
        assert unit["out.weight", 1] == tuple(range(WIDTH, 2 * WIDTH))
        (wide,) = [group for group in groups(net) if group.name == "qkv.weight"]
        assert len(wide) == WIDTH, "without asking for heads, attention loses width"


def test_a_head_that_nothing_reads_goes_first_and_nothing_changes() -> None:
    for by_hand in (False, True):
        net = block(by_hand)
        weight = net.slot("out.weight")().detach().clone()
        weight[:, WIDTH : 2 * WIDTH] = 0
        net.set_slot("out.weight", Free(weight))
        x = torch.rand(64, 5, 6, generator=torch.Generator().manual_seed(0))
        y = torch.randint(0, 4, (64,), generator=torch.Generator().manual_seed(1))
        thin = Heads(0.34, Taylor()).apply(net, Work({"calib": (x, y)}).scoped("prune.heads", {"calib"})).eval()
        assert thin.slot("qkv.weight")().shape == (3 * 2 * WIDTH, HEADS * WIDTH)
        assert count(thin).macs < count(net).macs
        torch.testing.assert_close(thin(x), net.eval()(x), rtol=1e-5, atol=1e-6)


def test_one_head_stays_and_a_network_without_any_is_noted() -> None:
    thin = Heads(0.95).apply(block(), Work())
    assert thin.slot("qkv.weight")().shape[0] == 3 * WIDTH
    work = Work()
    same = Heads(0.5).apply(small_mlp(), work)
    assert same.spec == small_mlp().spec and [note.layer for note in work.notes] == ["attention"]
