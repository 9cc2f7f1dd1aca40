"""What defines the families: shuffles, windows, linear attention, the line of RegNet's widths, paddings, and their checks."""

import itertools
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import pad

from paredown.core.errors import BadInput
from paredown.cost import nessi
from paredown.graph.capture import capture
from paredown.zoo.blocks import Residual, Squeeze, divisible
from paredown.zoo.capsnet import squash
from paredown.zoo.deeplab import deeplab_v3
from paredown.zoo.efficientvit import linear_attention
from paredown.zoo.mlperf_tiny import ds_cnn, resnet_8
from paredown.zoo.regnet import Line
from paredown.zoo.resnet import bottleneck, resnet_small
from paredown.zoo.resolve import module_of, network
from paredown.zoo.shufflenet import shuffled, shufflenet_v1
from paredown.zoo.squeezenet import FIRE
from paredown.zoo.swin import relative, separate, unwindowed, windows
from paredown.zoo.vit import Attention
from zoo.by_hooks import counted, counts_of


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 6, 12])
def test_a_shuffle_is_undone_by_the_other_factor(groups: int) -> None:
    x = torch.rand(2, 12, 3, 5)
    assert torch.equal(shuffled(shuffled(x, groups), 12 // groups), x)
    assert torch.equal(shuffled(x, groups), nn.ChannelShuffle(groups)(x))


def test_the_shuffle_lets_every_group_reach_every_output() -> None:
    """Two of ShuffleNet's units: each output channel depends on every input channel (the first units alone do not)."""
    net = shufflenet_v1((3, 32, 32), 4, groups=4)
    blocks = nn.Sequential(*[m for m in net if type(m).__name__ == "_Unit"][1:3]).double().eval()
    x = torch.rand(1, blocks[0].reduce[0].in_channels, 2, 2, dtype=torch.double, requires_grad=True)
    reached = torch.autograd.grad(blocks(x)[0].sum(0).sum(), x)[0].abs().sum((0, 2, 3))
    assert (reached > 0).all()


def test_regnets_line_gives_the_papers_stages() -> None:
    assert Line(13, 24, 36.44, 2.49, 8).stages() == [(24, 1), (56, 1), (152, 4), (368, 7)]
    assert Line(16, 48, 27.89, 2.09, 8).stages() == [(48, 1), (104, 3), (208, 6), (440, 6)]
    for depth, w0, wa, wm, group in itertools.product((1, 9, 20), (8, 24, 80), (0.0, 20.0), (1.5, 3.0), (1, 8, 24)):
        stages = Line(depth, w0, wa, wm, group).stages()
        assert sum(d for _, d in stages) == depth and all(w % min(group, w) == 0 for w, _ in stages)


@pytest.mark.parametrize("value", [1, 7.9, 8, 12, 15.99, 17, 24 * 1.4, 100, 1280 * 0.35])
def test_divisible_rounds_to_eights_and_never_below_nine_tenths(value: float) -> None:
    assert divisible(value) % 8 == 0 and divisible(value) >= max(8, 0.9 * value) and divisible(value) <= value + 8


def test_windows_come_back() -> None:
    x = torch.rand(2, 6, 9, 4)
    assert windows(x, 3).shape == (2, 6, 9, 4) and torch.equal(unwindowed(windows(x, 3), 6, 9, 3), x)
    assert torch.equal(windows(x, 3)[1, 4], x[1, 3:6, 3:6].reshape(9, 4))


def test_relative_places_are_rows_of_the_table() -> None:
    places = relative(3)
    assert places.min() == 0 and places.max() == 24 and torch.equal(places.diagonal(), torch.full((9,), 12))
    for i, j in itertools.product(range(9), repeat=2):
        down, right = i // 3 - j // 3, i % 3 - j % 3
        assert places[i, j] == (down + 2) * 5 + right + 2


def test_shifted_attention_keeps_to_what_was_together() -> None:
    """Masked attention in shifted windows is plain attention in each region of the shifted picture by itself."""
    torch.manual_seed(0)
    height, width, side, shift = 6, 9, 3, 1
    attention, x = Attention(8, 2).double(), torch.rand(1, height, width, 8, dtype=torch.double)
    moved = x.roll((-shift, -shift), (1, 2))
    found = unwindowed(
        attention(windows(moved, side), separate(height, width, side, shift).double()), height, width, side
    )
    rows = [(0, 3), (3, 5), (5, 6)]
    columns = [(0, 3), (3, 6), (6, 8), (8, 9)]
    for (top, bottom), (left, right) in itertools.product(rows, columns):
        region = moved[:, top:bottom, left:right]
        alone = attention(region.reshape(1, -1, 8)).view_as(region)
        torch.testing.assert_close(found[:, top:bottom, left:right], alone)


def test_linear_attention_is_the_quadratic_form() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 20, 16, dtype=torch.double) for _ in range(3))
    weights = query.relu() @ key.relu().transpose(-1, -2)
    wanted = weights @ value / (weights.sum(-1, keepdim=True) + 1e-5)
    torch.testing.assert_close(linear_attention(query, key, value), wanted)


def test_an_open_gate_changes_nothing() -> None:
    squeeze = Squeeze(4, 2)
    nn.init.zeros_(squeeze.gate[3].weight)
    nn.init.constant_(squeeze.gate[3].bias, 50.0)
    x = torch.rand(2, 4, 3, 3)
    torch.testing.assert_close(squeeze(x), x)


def test_a_residual_of_nothing_is_the_input() -> None:
    block = bottleneck(16, 4, 1).eval()
    nn.init.zeros_(block.main[2][1].weight)
    x = torch.rand(2, 16, 5, 5)
    assert isinstance(block, Residual) and torch.equal(block(x), x)


def test_option_a_adds_no_parameters_and_takes_every_second_position() -> None:
    option_a, option_b = (resnet_small((3, 32, 32), 10, option=o) for o in "AB")
    more = sum(p.numel() for p in option_b.parameters()) - sum(p.numel() for p in option_a.parameters())
    assert more == 16 * 32 + 64 + 32 * 64 + 128
    short = next(m.short for m in option_a.modules() if type(getattr(m, "short", None)).__name__ == "_Padded")
    x = torch.rand(2, 16, 8, 8)
    assert torch.equal(short(x), torch.cat([x[:, :, ::2, ::2], torch.zeros(2, 16, 4, 4)], 1))


def test_paddings_are_tensorflows() -> None:
    """At 49 x 10 the 10 x 4 kernel has 4 and 5 zeros around the rows; at 32 the 3 x 3 of stride 2 none before and one after."""
    net = ds_cnn((1, 49, 10), 12).eval()
    x = torch.rand(2, 1, 49, 10)
    first = next(m for m in net if isinstance(m, nn.Conv2d))
    wanted = nn.functional.conv2d(pad(x, (1, 1, 4, 5)), first.weight, first.bias, 2)
    assert torch.equal(net[:2](x), wanted) and wanted.shape[2:] == (25, 5)
    stride_two = [m for m in resnet_8((3, 32, 32), 10).modules() if isinstance(m, nn.ZeroPad2d)]
    assert [m.padding for m in stride_two] == [(0, 1, 0, 1)] * 2


@pytest.mark.parametrize(
    ("name", "settings", "shape", "says"),
    [
        ("mobilenet_v2", {"width": 0}, (3, 32, 32), "from 0.05 to 4.0, not 0"),
        ("mobilenet_v2", {"width": "wide"}, (3, 32, 32), "not 'wide'"),
        ("mobilenet_v2", {"width": True}, (3, 32, 32), "not True"),
        ("mobilenet_v2", {"width": float("nan")}, (3, 32, 32), "not nan"),
        ("mobilenet_v2", {}, (64,), "wants pictures"),
        ("efficientnet_b0", {"depth": -1}, (3, 32, 32), "depth"),
        ("shufflenet_v1", {"groups": 5}, (3, 32, 32), "groups 1, 2, 3, 4, 8, not 5"),
        ("shufflenet_v1", {"groups": [1]}, (3, 32, 32), "groups"),
        ("shufflenet_v2", {"width": 0.75}, (3, 32, 32), "not 0.75"),
        ("resnet_small", {"option": "C"}, (3, 32, 32), "option A, B, not 'C'"),
        ("resnet_small", {"depth": "20"}, (3, 32, 32), "depth"),
        ("wide_resnet", {"depth": 29}, (3, 32, 32), "not 29"),
        ("densenet_small", {"depth": 39}, (3, 32, 32), "not 39"),
        ("regnet_x", {"wm": 1}, (3, 32, 32), "wm above 1"),
        ("regnet_x", {"depth": 2.5}, (3, 32, 32), "whole number"),
        ("vit_b_16", {}, (3, 30, 30), "patch=16"),
        ("vit_b_16", {"heads": 7}, (3, 32, 32), "heads=7"),
        ("swin_t", {}, (3, 48, 48), "window=7"),
        ("vgg_16", {}, (3, 31, 32), "32 x 32"),
        ("senet_154", {"groups": 5}, (3, 32, 32), "groups"),
        ("resnext_50", {"groups": 0}, (3, 32, 32), "groups"),
        ("autoencoder", {"code": 0}, (640,), "code"),
    ],
)
def test_misfits_are_said_in_one_line(name: str, settings: dict[str, Any], shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(BadInput, match=says) as error, torch.device("meta"):
        module_of(name, shape, 10, settings)
    assert "\n" not in str(error.value) and name in str(error.value)


def test_cp_mobile_is_dcases_baseline_as_nessi_counts_it() -> None:
    net = network({"model": "cp_mobile"}, (1, 256, 65), 10)
    assert (nessi.params(net), sum(nessi.count(net).values())) == (61_148, 29_419_156)


def test_capsules_are_shorter_than_one_and_the_decoder_makes_it_8_215_568() -> None:
    x = torch.randn(50, 8) * torch.logspace(-3, 3, 50)[:, None]
    assert (squash(x).norm(dim=1) < 1).all() and (squash(x).norm(dim=1).diff()[20:] > -0.2).all()
    torch.testing.assert_close(nn.functional.cosine_similarity(x, squash(x)), torch.ones(50), rtol=0, atol=1e-3)
    decoder = nn.Sequential(nn.Linear(160, 512), nn.Linear(512, 1024), nn.Linear(1024, 784))
    net = module_of("capsnet", (1, 28, 28), 10, {})
    assert sum(p.numel() for m in (net, decoder) for p in m.parameters()) == 8_215_568


@torch.no_grad()
def test_deeplab_has_its_counts_and_gives_scores_for_every_place() -> None:
    with torch.device("meta"):
        assert counts_of(deeplab_v3().eval(), (3, 513, 513)) == (39_638_869, 168_652_962_240)
    net = capture(deeplab_v3(width=2, classes=5), torch.rand(2, 3, 33, 41))
    assert net.eval()(torch.rand(3, 3, 33, 41)).shape == (3, 5, 33, 41)


def test_pnasnet_has_a_mobile_form() -> None:
    """5.1 M parameters and 588 M MACs in the paper."""
    form = {"cells": 3, "features": 1080, "stem": 32}
    assert counted("pnasnet_5", form, (3, 224, 224), 1000) == (5_064_487, 587_293_200)


def test_fire_modules_follow_squeezenets_metaparameters() -> None:
    """e_i = base_e + incr_e ⌊i / freq⌋, of which pct3x3 have kernels of 3, and s_i = SR · e_i (section 5.1, with section 3.3's values)."""
    base, more, freq, pct, ratio = 128, 128, 2, 0.5, 0.125
    for at, (squeezed, expanded) in enumerate(FIRE):
        every = base + more * (at // freq)
        assert (squeezed, expanded) == (ratio * every, pct * every)
