"""A network with channels removed computes what the one with zeros in their place computes."""

import dataclasses

import pytest
import torch
from example_nets import IMAGE, NETS
from torch import Tensor, nn

from paredown.core.errors import BadInput
from paredown.graph import shrink
from paredown.graph.capture import capture
from paredown.graph.groups import Group, groups
from paredown.graph.net import Net
from paredown.graph.shrink import mask_channels, remove_channels, sliced
from paredown.graph.slots import Codebook, Free, Grid, Masked


def traced(name: str) -> Net:
    torch.manual_seed(0)
    model, shape = NETS[name]
    model.train()
    for _ in range(2):
        model(torch.randn(4, *shape[1:]))
    return capture(model.eval(), torch.rand(shape)).eval()


def drawn(net: Net, seed: int, most: float = 0.6) -> dict[Group, tuple[int, ...]]:
    """Return a random choice of units, of every group that has any."""
    draw = torch.Generator().manual_seed(seed)
    able = [group for group in groups(net) if len(group)]
    return {g: g.lowest(torch.rand(len(g), generator=draw), max(1, int(most * len(g)))) for g in able}


def outputs(net: Net, batch: int = 3) -> list[Tensor]:
    draw = torch.Generator().manual_seed(9)
    inputs = [torch.randn((batch, *shape), generator=draw, dtype=net.dtype) for _, shape in net.spec.inputs]
    with torch.no_grad():
        return torch.utils._pytree.tree_leaves(net.eval()(*inputs))


def params(net: Net) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("name", NETS)
def test_shrunk_equals_masked(name: str) -> None:
    net = traced(name)
    for seed in (0, 1):
        chosen = drawn(net, seed)
        assert chosen
        thin, left = remove_channels(net, chosen)
        assert left == {}
        masked = net.copy()
        for group, units in chosen.items():
            masked = mask_channels(masked, group, units)
        assert params(thin) < params(net)
        for a, b in zip(outputs(masked.double()), outputs(thin.copy().double()), strict=True):
            assert a.shape == b.shape
            assert float((a - b).abs().max()) <= 1e-10 * float(a.abs().max())
        assert all(torch.isfinite(t).all() for t in outputs(thin))


@pytest.mark.parametrize("name", ["resnet", "shuffle_v2", "split", "norms"])
def test_what_is_left_can_be_shrunk_again(name: str) -> None:
    net = traced(name)
    once, _ = remove_channels(net, drawn(net, 3, 0.3))
    twice, left = remove_channels(once, drawn(once, 4, 0.5))
    assert left == {} and params(twice) < params(once) < params(net)


def test_every_count_of_every_group_of_a_shuffle() -> None:
    net = traced("shuffle")
    for group in groups(net):
        for count in range(1, len(group)):
            _, left = remove_channels(net, {group: tuple(range(count))})
            assert left == {}


def test_removed_channels_are_exactly_zero_where_they_flow() -> None:
    net = traced("vgg")
    group = groups(net)[1]
    seen: list[Tensor] = []
    mask_channels(net, group, [1, 5]).eval().run(*net.example(2), watch=lambda node, value: seen.append(value))
    maps = [value for value in seen if value.dim() == 4 and value.shape[1] == 12]
    assert len(maps) == 4
    for value in maps:
        assert (value[:, [1, 5]] == 0).all() and (value != 0).any()


def test_masked_and_removed_leave_the_input_alone() -> None:
    net = traced("resnet")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    chosen = drawn(net, 0)
    remove_channels(net, chosen)
    mask_channels(net, *next(iter(chosen.items())))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_training_keeps_what_is_masked_at_zero() -> None:
    net = traced("vgg")
    group = groups(net)[0]
    masked = mask_channels(net, group, [0]).train()
    masked(torch.randn(4, 3, 8, 8)).square().mean().backward()
    with torch.no_grad():
        for parameter in masked.parameters():
            parameter -= 0.1 * parameter.grad
    assert (masked.slot("body.0.0.weight")()[0] == 0).all() and (masked.slot("body.2.0.weight")()[:, 0] == 0).all()


def cut_wrongly(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Make weights with `size` inputs lose the wrong ones."""

    def wrong(slot: nn.Module, dim: int, keep: Tensor) -> nn.Module:
        off = dim == 1 and slot().shape[1] == size
        return sliced(slot, dim, ((keep + 1) % size).sort().values if off else keep)

    monkeypatch.setattr(shrink, "sliced", wrong)


def test_a_group_that_fails_is_left_alone_and_named_and_the_others_go(monkeypatch: pytest.MonkeyPatch) -> None:
    net = traced("vgg")
    first, second, *_ = groups(net)
    cut_wrongly(monkeypatch, 8)
    thin, left = remove_channels(net, {first: (0,), second: (0, 1)})
    assert set(left) == {first.name} and "differs" in left[first.name]
    assert thin.slot(first.name)().shape[0] == 8 and thin.slot(second.name)().shape[0] == 10


def test_dead_weights_do_not_hide_a_wrong_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    net = traced("vgg")
    with torch.no_grad():
        net.slot("fc.4.weight").value.zero_()
    cut_wrongly(monkeypatch, 8)
    _, left = remove_channels(net, {groups(net)[0]: (0,)})
    assert left


def test_groups_of_another_network_are_refused() -> None:
    net = traced("vgg")
    first, second, *_ = groups(net)
    thin, _ = remove_channels(net, {first: (0,)})
    again, left = remove_channels(thin, {second: (3,), first: (7,)})
    assert set(left) == {first.name}
    assert again.slot(second.name)().shape == (11, 7, 3, 3)
    other = {(c.slot, c.dim): c for c in first.units[1]}
    crossed = tuple(other[c.slot, c.dim] if c.dim == 1 else c for c in first.units[0])
    _, left = remove_channels(net, {dataclasses.replace(first, units=(crossed, *first.units[1:])): (0,)})
    assert "afresh" in left[first.name]


def test_nothing_is_emptied() -> None:
    net = traced("vgg")
    group = groups(net)[0]
    thin, left = remove_channels(net, {group: tuple(range(len(group)))})
    assert "no channels left" in left[group.name] and params(thin) == params(net)
    with pytest.raises(BadInput, match="no unit 8; it has 8"):
        mask_channels(net, group, [8])


def test_masked_coded_and_shared_slots_are_cut_with_their_facts() -> None:
    net = traced("vgg")
    w0, w1, fc = (net.slot(n)().detach() for n in ("body.0.0.weight", "body.2.0.weight", "fc.1.weight"))
    net.set_slot("body.0.0.weight", Masked(w0, w0.abs() > w0.abs().median()))
    step = w1.abs().amax((1, 2, 3), keepdim=True) / 7
    net.set_slot("body.2.0.weight", Grid((w1 / step).round(), step, 4))
    net.set_slot("fc.1.weight", Codebook((fc > 0).long(), torch.tensor([-0.1, 0.2])))
    thin, left = remove_channels(net, drawn(net, 5))
    assert left == {}
    kinds = [type(thin.slot(n)) for n in ("body.0.0.weight", "body.2.0.weight", "fc.1.weight", "fc.4.weight")]
    assert kinds == [Masked, Grid, Codebook, Free]
    assert thin.slot("body.2.0.weight").step.shape[0] == thin.slot("body.2.0.weight").codes.shape[0] < 12
    assert thin.slot("body.2.0.weight").bits == 4 and thin.slot("fc.1.weight").centroids.tolist() == pytest.approx(
        [-0.1, 0.2]
    )


def test_the_batch_size_stays_free_and_the_file_round_trips(tmp_path) -> None:
    net = traced("hard_view")
    thin, _ = remove_channels(net, drawn(net, 0))
    thin.save(tmp_path)
    again = Net.load(tmp_path)
    for batch in (1, 7):
        assert torch.equal(outputs(thin, batch)[0], outputs(again, batch)[0])
    assert IMAGE[1:] == net.spec.inputs[0][1]
