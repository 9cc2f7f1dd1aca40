"""Weights that a network computes from stored ones are stored as they come out; the network itself goes on computing them."""

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paredown.graph.capture import capture
from paredown.graph.freeze import freeze
from paredown.graph.frozen import Plain, Rounded
from paredown.graph.net import Net
from paredown.graph.slots import Grid, Masked
from paredown.targets.container import read, write
from paredown.targets.lower import build
from paredown.targets.runtime import predictor

SHAPE = (3, 8, 8)


class ScaledStdConv(nn.Conv2d):
    """A convolution whose weight has mean 0 and a learned length for each output (Brock et al. 2021), as timm writes it."""

    def __init__(self, *args: int, **kw: int) -> None:
        super().__init__(*args, **kw)
        self.gain, self.scale = nn.Parameter(torch.rand(self.out_channels, 1, 1, 1) + 0.5), 0.3

    def forward(self, x: Tensor) -> Tensor:
        rows, gain = self.weight.reshape(1, self.out_channels, -1), (self.gain * self.scale).view(-1)
        weight = F.batch_norm(rows, None, None, weight=gain, training=True, momentum=0.0).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Written(nn.Module):
    """A weight that a function makes of a stored one, [6, 48], and of a vector, [6, 1]."""

    def __init__(self, made: object, back: bool = False) -> None:
        super().__init__()
        self.weight, self.gain = nn.Parameter(torch.randn(6, 192) / 8), nn.Parameter(torch.rand(6, 1) + 0.5)
        self.made, self.back = made, back

    def forward(self, x: Tensor) -> Tensor:
        out = F.linear(x.flatten(1), self.made(self.weight, self.gain))  # type: ignore[operator]
        return F.linear(out, self.weight.t()) if self.back else out


def standardised() -> Net:
    torch.manual_seed(0)
    body = nn.Sequential(ScaledStdConv(3, 8, 3), nn.ReLU(), ScaledStdConv(8, 8, 3, groups=2), nn.ReLU())
    return capture(nn.Sequential(body, nn.Flatten(), nn.Linear(128, 5)), torch.rand(2, *SHAPE)).eval()


def written(made: object, back: bool = False) -> Net:
    torch.manual_seed(0)
    return capture(Written(made, back), torch.rand(2, *SHAPE)).eval()


def agrees(net: Net) -> None:
    """Assert that the ONNX model of a network, and of its packed file, computes what the network does."""
    x = torch.rand(5, *SHAPE)
    with torch.no_grad():
        wanted = net(x).numpy()
    for frozen in (freeze(net), read(write(freeze(net))[0])):
        np.testing.assert_allclose(predictor(build(frozen))(x.numpy()), wanted, rtol=1e-4, atol=1e-5)


def test_standardised_convolutions_are_ordinary_ones_in_files() -> None:
    net = standardised()
    frozen = freeze(net)
    agrees(net)
    assert [node.op for node in frozen.spec.nodes] == [
        "conv2d",
        "relu",
        "conv2d",
        "relu",
        "flatten.using_ints",
        "linear",
    ]
    assert set(frozen.tensors) == set(net.slot_names()) - {"0.0.gain", "0.2.gain"}
    assert "BatchNormalization" not in {node.op_type for node in build(frozen).graph.node}
    again = read(write(frozen)[0])
    pairs = zip(frozen.spec.slot_users(), again.spec.slot_users(), strict=True)
    assert all(np.array_equal(frozen.tensors[a].value, again.tensors[b].value) for a, b in pairs)


def test_the_network_goes_on_training() -> None:
    net = standardised()
    before = net.spec, net.slot_names()
    freeze(net)
    assert (net.spec, net.slot_names()) == before and not net.training
    net.train()(torch.rand(2, *SHAPE)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_a_network_is_left_in_the_mode_that_it_was_in(training: bool) -> None:
    net = standardised().train(training)
    freeze(net)
    assert Counter(m.training for m in net.modules()) == {training: len(list(net.modules()))}


def test_codes_become_floats_only_where_no_file_can_compute_with_them() -> None:
    codes = Grid(torch.randint(-7, 8, (6, 192)), torch.tensor(0.03), 4)
    scaled, measured = (
        written(lambda w, g: w * g),
        written(lambda w, g: F.batch_norm(w[None], None, None, g[:, 0], training=True)[0]),
    )
    for net, kind in ((scaled, Rounded), (measured, Plain)):
        net.set_slot("weight", codes)
        agrees(net)
        assert isinstance(freeze(net).tensors["weight"], kind)


def test_zeros_of_a_mask_stay_where_a_file_is_smaller_for_them() -> None:
    moved, scaled = written(lambda w, g: w - w.mean()), written(lambda w, g: w * g)
    for net, slots in ((moved, {"weight"}), (scaled, {"weight"})):
        net.set_slot("weight", Masked(net.slot("weight")(), torch.rand(6, 192) < 0.3))
        agrees(net)
        held = freeze(net)
        assert set(held.tensors) == slots and np.count_nonzero(held.tensors["weight"].value) < 400
    assert [node.op for node in freeze(scaled).spec.nodes][1:] == ["linear"]


@pytest.mark.parametrize(
    ("made", "back", "kept"),
    [
        (lambda w, g: w * g, False, False),
        (lambda w, g: w * g, True, True),
        (lambda w, g: w.roll(1, 0), False, True),
        (lambda w, g: torch.cat([w * g, w, -w]), False, True),
        (lambda w, g: torch.fake_quantize_per_tensor_affine(w, 0.03, 0, -8, 7), False, True),
    ],
    ids=["scaled", "tied", "moved", "longer", "on levels"],
)
def test_what_is_stored_never_takes_more_room(made: object, back: bool, kept: bool) -> None:
    net = written(made, back)
    agrees(net)
    assert (len(freeze(net).spec.nodes) == len(net.spec.nodes)) == kept


def test_a_constant_that_is_returned_stays_a_value() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.rand(4, 3))

        def forward(self, x: Tensor) -> list[Tensor]:
            scaled = self.weight.exp() * 2
            return [F.linear(x, scaled), scaled]

    frozen = freeze(capture(Both(), torch.rand(2, 3)))
    assert [node.op for node in frozen.spec.nodes] == ["mul.Tensor", "linear"], "what is before it is stored"
