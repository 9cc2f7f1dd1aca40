"""The estimator of energy-aware pruning: who uses more, what pruning spares, and the order of layers."""

from dataclasses import replace

import pytest

from paredown.core.cost import Layer
from paredown.cost.energy_aware import Setting, energy, share, shares
from paredown.cost.tiny import convolution, linear


def conv(a: int, b: int, side: int, kernel: int, stride: int = 1, groups: int = 1) -> list[Layer]:
    layer = convolution(f"{a}_{b}", (a // groups, b // groups), (side, side), (kernel, kernel), stride)
    return [replace(layer, weight_bits=16, activation_bits=16)] * groups


def fire(a: int, squeeze: int, expand: int, side: int) -> list[Layer]:
    return conv(a, squeeze, side, 1) + conv(squeeze, expand, side, 1) + conv(squeeze, expand, side, 3)


def full(a: int, b: int) -> list[Layer]:
    return [replace(linear(f"{a}_{b}", a, b), weight_bits=16, activation_bits=16)]


ALEXNET = [
    *conv(3, 96, 55, 11, 4), *conv(96, 256, 27, 5, 1, 2), *conv(256, 384, 13, 3), *conv(384, 384, 13, 3, 1, 2),
    *conv(384, 256, 13, 3, 1, 2), *full(9216, 4096), *full(4096, 4096), *full(4096, 1000),
]  # fmt: skip
SQUEEZENET = [
    *conv(3, 96, 111, 7, 2), *fire(96, 16, 64, 55), *fire(128, 16, 64, 55), *fire(128, 32, 128, 55),
    *fire(256, 32, 128, 27), *fire(256, 48, 192, 27), *fire(384, 48, 192, 27), *fire(384, 64, 256, 27),
    *fire(512, 64, 256, 13), *conv(512, 1000, 13, 1),
]  # fmt: skip


def test_squeezenet_takes_more_energy_than_alexnet_where_images_share_weights() -> None:
    """The paper's point: fifty times fewer weights, and more energy. One image at a time, AlexNet's weights dominate."""
    many, one = Setting(images=48, activation_density=0.5), Setting(images=1, activation_density=0.5)
    assert energy(SQUEEZENET, many).value > 1.1 * energy(ALEXNET, many).value
    assert energy(SQUEEZENET, one).value < energy(ALEXNET, one).value


def test_zeros_spare_computing_and_moving() -> None:
    dense = conv(64, 64, 14, 3)[0]
    sparse = replace(dense, weights_nonzero=dense.weights // 4)
    full_, quarter = share(dense), share(sparse)
    assert quarter.macs == pytest.approx(full_.macs / 4)
    assert quarter.weights < full_.weights / 2 and quarter.inputs == full_.inputs


def test_fewer_bits_compute_quadratically_and_move_linearly() -> None:
    wide = conv(64, 64, 14, 3)[0]
    narrow = replace(wide, weight_bits=8, activation_bits=8)
    assert share(narrow).macs == pytest.approx(share(wide).macs / 4)
    assert share(narrow).weights == pytest.approx(share(wide).weights / 2)


def test_layers_come_most_energy_first() -> None:
    found = [one.total for one in shares(ALEXNET)]
    assert found == sorted(found, reverse=True) and len(found) == len(ALEXNET)


def test_pruning_where_energy_goes_spares_more_than_pruning_full_layers_first() -> None:
    """At the same number of weights removed, the layer with most energy for each weight pays most."""
    removed = ALEXNET[0].weights // 2
    conv_first = [replace(ALEXNET[0], weights_nonzero=ALEXNET[0].weights - removed), *ALEXNET[1:]]
    full_first = [*ALEXNET[:-1], replace(ALEXNET[-1], weights_nonzero=ALEXNET[-1].weights - removed)]
    setting = Setting(images=48)
    assert energy(conv_first, setting).value < energy(full_first, setting).value
