"""Codes at every width, and networks in which one place is rounded."""

import itertools
from dataclasses import replace

import pytest
import torch

from contracts.nets import inputs_for, small_conv
from paredown.core.errors import BadInput
from paredown.cost.count import count, layers
from paredown.graph.freeze import freeze
from paredown.graph.frozen import Frozen, Rounded
from paredown.graph.net import Net
from paredown.graph.shrink import sliced
from paredown.graph.slots import Grid, stored
from paredown.graph.widths import Place, Trials, coded, held
from paredown.targets.container import read, tensor_bytes, write


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("fit", ["max", "mse"])
@pytest.mark.parametrize("bits", range(9))
def test_codes_fit_their_width_and_least_squares_is_least(bits: int, fit: str) -> None:
    rows = draw(5, 200)
    codes, step = coded(rows, bits, fit)
    high = {0: 0, 1: 1}.get(bits, 2 ** (bits - 1) - 1)
    assert codes.abs().max() <= high and step.shape == (5, 1) and (step > 0).all()
    assert bits != 1 or (codes != 0).all()
    assert bits != 0 or (step == 1).all()
    mantissa = torch.frexp(step).mantissa * 16
    assert torch.equal(mantissa, mantissa.round())
    if bits > 1:
        worst = (coded(rows, bits, "max")[0] * coded(rows, bits, "max")[1] - rows).square().sum(1)
        assert ((codes * step - rows).square().sum(1) <= worst).all()


def test_one_bit_is_the_nearest_of_all_signs_and_steps() -> None:
    """Brute force over the signs of six weights; the best step of signs s is mean(s · w)."""
    rows = draw(1, 6)
    codes, step = coded(rows, 1)
    found = float((codes * step - rows).square().sum())
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=6)))
    best = ((signs * (signs * rows).mean(1, keepdim=True)) - rows).square().sum(1).min()
    assert found == pytest.approx(float(best), rel=0.02)


WIDTHS = [8, 0, 2, 3, 1, 8, 0, 4]


def mixed() -> Net:
    net = small_conv().eval()
    net.set_slot("wide.weight", held(net.slot("wide.weight")().detach(), [*WIDTHS, 2, 2, 0, 5]))
    net.set_slot("point.weight", held(net.slot("point.weight")().detach(), [0]))
    net.set_slot("fc.weight", held(net.slot("fc.weight")().detach(), [3]))
    return net


def test_each_channel_has_its_own_width_and_step() -> None:
    weight = draw(8, 3, 3, 3)
    slot = held(weight, WIDTHS)
    for c, bits in enumerate(WIDTHS):
        codes, step = coded(weight[c].reshape(1, -1), bits)
        assert torch.equal(slot()[c], (codes * step).view(3, 3, 3))
    assert slot.widths is not None and slot.widths.tolist() == WIDTHS and slot.bits == 8
    assert slot.code_bits() == 27 * sum(WIDTHS) and slot.stored_bits() == 27 * sum(WIDTHS) + 32 * 6
    assert held(weight, [3]).widths is None and held(weight, [3] * 8).bits == 3


def test_widths_survive_copies_files_and_cuts(tmp_path) -> None:
    net = mixed()
    net.save(tmp_path)
    for again in (net.copy(), Net.load(tmp_path)):
        for name in ("wide.weight", "point.weight", "fc.weight"):
            a, b = net.slot(name), again.slot(name)
            assert torch.equal(a(), b()) and a.code_bits() == b.code_bits() and a.meta() == b.meta()
    half = sliced(net.slot("wide.weight"), 0, torch.tensor([0, 1, 3]))
    assert half.widths.tolist() == [8, 0, 3] and half.code_bits() == 11 * 72
    assert stored(half.meta()).codes.shape == (3, 8, 3, 3)


def test_channels_count_at_their_own_width() -> None:
    net, sum_of_widths = mixed(), sum(WIDTHS) + 9
    rows = {row.slot: row for row in layers(net)}
    assert rows["wide.weight"].bops == rows["wide.weight"].macs // 12 * sum_of_widths * 32
    assert rows["point.weight"].bops == 0
    assert rows["fc.weight"].bops == rows["fc.weight"].macs * 3 * 32
    assert rows["point.weight"].stored_bits == 32 * 8, "the biases"
    assert count(net).bops == sum(row.bops for row in rows.values())


@pytest.mark.parametrize("wrong", [[8, 0, 2], [1] * 8, [9] * 8, [0] * 8])
def test_codes_that_do_not_fit_their_channels_are_refused(wrong: list[int]) -> None:
    slot = held(draw(8, 9), WIDTHS)
    with pytest.raises(BadInput, match="do not fit the widths"):
        Grid(slot.codes, slot.step, 8, torch.tensor(wrong))


def test_a_packed_file_holds_widths_and_leaves_out_what_has_no_bits() -> None:
    frozen = freeze(mixed())
    again = read(write(frozen)[0])
    for (name, a), b in zip(frozen.tensors.items(), again.tensors.values(), strict=True):
        assert (a.value == b.value).all(), name
        if getattr(a, "widths", None) is not None:
            assert (a.widths == b.widths).all() and a.bits == b.bits and (a.codes == b.codes).all()
    assert tensor_bytes(frozen)["point.weight"] <= 8
    without = {k: replace(v, widths=None) if isinstance(v, Rounded) else v for k, v in frozen.tensors.items()}
    assert tensor_bytes(frozen)["wide.weight"] < 0.9 * tensor_bytes(Frozen(frozen.spec, without))["wide.weight"]


def trials(net: Net) -> Trials:
    places = (Place("wide.weight"), Place("wide.weight", 3), Place("wide.weight", 4))
    return Trials(net, places, ((0, 1, 2, 8),) * 3)


def test_only_the_place_is_rounded() -> None:
    net = small_conv().eval()
    one = trials(net)
    for place in one.places:
        for bits in (0, 2, 8):
            out = one.net_with(place, bits)
            rows = slice(None) if place.channel is None else slice(place.channel, place.channel + 1)
            moved = out.slot("wide.weight")() - net.slot("wide.weight")()
            torch.testing.assert_close(moved[rows], one.error(place, bits))
            assert int((moved != 0).flatten(1).any(1).sum()) == (12 if place.channel is None else 1)
            assert not torch.equal(out(*inputs_for(net)), net(*inputs_for(net)))
            assert all(out.slot(n) is net.slot(n) for n in net.slot_names() if n != "wide.weight")


def test_code_bits_of_channels_sum_to_the_layers_and_lie_near_the_file() -> None:
    net = small_conv().eval()
    every = [Place("wide.weight", c) for c in range(12)]
    one = Trials(net, (Place("wide.weight"), *every), ((2,),) * 13)
    for bits in (2, 4, 8):
        whole = one.code_bits(Place("wide.weight"), bits)
        assert sum(one.code_bits(place, bits) for place in every) == pytest.approx(whole)
        net.set_slot("wide.weight", held(small_conv().slot("wide.weight")().detach(), [bits]))
        steps = 12 * 8
        assert abs(tensor_bytes(freeze(net))["wide.weight"] * 8 - steps - whole) < 0.15 * whole
        net.set_slot("wide.weight", small_conv().slot("wide.weight"))
    assert one.code_bits(Place("wide.weight"), 0) == 0
