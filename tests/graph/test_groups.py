"""Which channels go together, which stay, and why."""

import pytest
import torch
import torch.nn.functional as F
from example_nets import IMAGE, NETS, Head, Split, conv
from torch import Tensor, nn

from paredown.graph.capture import capture
from paredown.graph.groups import Group, filters, groups
from paredown.graph.net import Net


def found(model: nn.Module, shape: tuple[int, ...] = IMAGE) -> dict[str, Group]:
    return {group.makers[0][0]: group for group in reversed(groups(capture(model, torch.rand(shape))))}


def example(name: str) -> dict[str, Group]:
    return found(*NETS[name])


def test_the_output_layer_stays_and_says_why() -> None:
    last = example("vgg")["fc.4.weight"]
    assert len(last) == 0 and "returned by the network" in last.frozen["fc.4.weight"]


def test_a_unit_is_cut_everywhere_it_stands() -> None:
    unit = example("vgg")["body.2.0.weight"].units[3]
    cuts = {(cut.slot, cut.dim): cut.indices for cut in unit}
    assert cuts["body.2.0.weight", 0] == (3,)
    assert all(cuts[f"body.2.1.{name}", 0] == (3,) for name in ("weight", "bias", "running_mean", "running_var"))
    assert cuts["fc.1.weight", 1] == (12, 13, 14, 15), "four positions of the flattened map"
    assert len(cuts) == 6


def test_a_residual_connection_ties_its_makers() -> None:
    group = example("resnet")["body.stem.0.weight"]
    assert {slot for slot, _ in group.makers} == {"body.stem.0.weight", "body.b.0.weight"} and len(group) == 8


def test_dense_connections_leave_each_layer_a_group_of_its_own() -> None:
    assert [len(g) for g in example("densenet").values()][::-1] == [6, 4, 4, 4, 9, 0]


def test_grouped_convolutions_are_cut_by_groups_or_by_places() -> None:
    group = example("grouped")["body.a.0.weight"]
    assert len(group) == 4 and group.width() == 4
    narrow = found(Head(nn.Sequential(conv(3, 16), conv(16, 16, groups=8)), 16))["body.0.0.weight"]
    assert len(narrow) == 8 and narrow.width() == 2


def test_an_uneven_shuffle_can_only_go_whole() -> None:
    assert "all together" in example("shuffle_uneven")["body.a.0.weight"].frozen["body.a.0.weight"]


def test_attention_loses_heads_where_there_are_as_many_as_each_is_wide() -> None:
    groups_of = example("attention")
    unit = {(cut.slot, cut.dim): cut.indices for cut in groups_of["qkv.weight"].units[1]}
    assert unit["qkv.weight", 0] == unit["qkv.bias", 0] == tuple(at + s for s in (0, 16, 32) for at in range(4, 8))
    assert unit["out.weight", 1] == (4, 5, 6, 7)
    assert len(groups_of["up.weight"]) == 32
    assert "returned by the network" in groups_of["embed.weight"].frozen["embed.weight"]


def test_heads_with_a_key_in_common_go_with_their_biases_and_the_key_stays() -> None:
    groups_of = example("biased")
    unit = {(cut.slot, cut.dim): cut.indices for cut in groups_of["q.weight"].units[3]}
    assert unit["q.weight", 0] == unit["out.weight", 1] == (12, 13, 14, 15) and unit["table", 1] == (3,)
    assert len(groups_of["kv.weight"]) == 0 and groups_of["kv.weight"].frozen["kv.weight"]


def test_biases_of_attention_stay_where_its_heads_do() -> None:
    groups_of = example("positioned")
    held = groups_of["q.weight"]
    assert len(held) == 16 and "table" not in {cut.slot for unit in held.units for cut in unit}
    assert len(groups_of["table"]) == 0 and "heads and positions that stay" in groups_of["table"].frozen["table"]


def test_a_hidden_channel_is_a_row_of_every_gate_of_every_layer_both_ways() -> None:
    unit = {(cut.slot, cut.dim): cut.indices for cut in example("recurrent")["a.weight_ih_l0"].units[2]}
    rows = (2, 7, 12, 17)
    for name in ("l0", "l0_reverse", "l1", "l1_reverse"):
        assert unit[f"a.weight_ih_{name}", 0] == unit[f"a.weight_hh_{name}", 0] == unit[f"a.bias_hh_{name}", 0] == rows
        assert unit[f"a.weight_hh_{name}", 1] == (2,)
    assert unit["a.weight_ih_l1", 1] == unit["b.weight_ih_l0", 1] == (2, 7)


def test_layers_over_positions_let_channels_pass_and_stay_themselves() -> None:
    groups_of = example("mixer")
    assert len(groups_of["embed.weight"]) == 12 and len(groups_of["up.weight"]) == 6
    assert not any(slot.startswith(("t1", "t2", "gate")) for group in groups_of.values() for slot, _ in group.makers)


class Odd(nn.Module):
    """Two convolutions whose outputs meet an operator given as a function."""

    def __init__(self, meet: object) -> None:
        super().__init__()
        self.a, self.b, self.c, self.meet = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1), meet

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.meet(self.a(x), self.b(x)))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("meet", "frozen", "reason"),
    [
        (lambda a, b: torch.softmax(a, 1) + b, {"a", "b"}, "softmax"),
        (lambda a, b: a + b.amax(1, keepdim=True), {"b"}, "reduces over channels"),
        (lambda a, b: a * b[:, 2:3], {"b"}, "stretches"),
        (lambda a, b: a[..., :6] + b[:, :, :1, :1].permute(0, 2, 3, 1), {"a", "b"}, "crosses channels"),
        (lambda a, b: a[:, ::2].repeat(1, 2, 1, 1) + b, {"a", "b"}, "every few channels"),
        (lambda a, b: a.roll(1, 1) + b, {"a", "b"}, "rolls"),
        (lambda a, b: a + b[:, 1].unsqueeze(1), {"b"}, "by number"),
        (lambda a, b: F.grid_sample(a, b[:, :2].permute(0, 2, 3, 1), align_corners=True), {"b"}, "reads places"),
        (lambda a, b: (a.flatten(2) @ b.flatten(2).transpose(1, 2)).unsqueeze(3), {"b"}, "two dimensions"),
    ],
)
def test_what_is_not_clear_stays(meet: object, frozen: set[str], reason: str) -> None:
    groups_of = [g for g in groups(capture(Odd(meet), torch.rand(IMAGE))) if g.makers[0][0] != "c.weight"]
    why = {slot.removesuffix(".weight"): text for group in groups_of for slot, text in group.frozen.items()}
    assert set(why) == frozen and any(reason in text for text in why.values())


def test_something_remains_in_every_piece_of_a_split() -> None:
    group = found(Head(Split(), 11))["body.stem.0.weight"]
    gone = set(group.lowest([float(i) for i in range(12)], 12))
    assert not gone >= {0, 1, 2} and not gone >= {3, 4, 5, 6} and not gone >= {7, 8, 9, 10, 11} and len(gone) >= 8
    assert gone >= {0, 1}, "the lowest go first"


def test_filters_are_the_makers_slices() -> None:
    net = capture(NETS["resnet"][0], torch.rand(IMAGE))
    group = next(g for g in groups(net) if g.name == "body.stem.0.weight")
    stem, b = net.slot("body.stem.0.weight")(), net.slot("body.b.0.weight")()
    assert torch.equal(filters(net, group)[2], torch.cat([stem[2].flatten(), b[2].flatten()]))


def test_slots_that_cannot_be_cut_freeze_their_channels() -> None:
    class Strange(nn.Module):
        def __init__(self, value: Tensor) -> None:
            super().__init__()
            self.value = nn.Parameter(value)

        def forward(self) -> Tensor:
            return self.value.tanh()

    net: Net = capture(NETS["vgg"][0], torch.rand(IMAGE))
    net.set_slot("body.2.0.weight", Strange(net.slot("body.2.0.weight")().detach()))
    why = {g.name: g.frozen for g in groups(net)}
    assert (
        "Strange" in why["body.2.0.weight"]["body.2.0.weight"]
        and "Strange" in why["body.0.0.weight"]["body.0.0.weight"]
    )
