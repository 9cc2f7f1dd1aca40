"""The four networks of MLPerf Tiny, typed down: their counts are the benchmark's."""

from itertools import pairwise

import pytest

from paredown.cost.count import layers
from paredown.cost.mcu import columns
from paredown.cost.tiny import MOBILENET, MOBILENET_ALIVE, tiny
from paredown.zoo.resolve import network


@pytest.mark.parametrize(
    "task, macs, weights",
    [("kws", 2_656_768, 22_016), ("vww", 7_489_664, 208_112), ("ic", 12_501_632, 77_360), ("ad", 264_192, 264_192)],
)
def test_macs_and_weights(task: str, macs: int, weights: int) -> None:
    layers = tiny(task)
    assert sum(layer.macs for layer in layers) == macs
    assert sum(layer.weights for layer in layers) == weights


def test_layers_fit_together() -> None:
    for task in ("vww", "kws", "ad"):
        chain = tiny(task)
        assert all(a.writes == b.reads for a, b in pairwise(chain)), task
    assert tiny("vww")[0].reads == 3 * 96 * 96
    assert tiny("ic")[0].reads == 3 * 32 * 32


def test_half_of_the_wake_word_network_is_dead() -> None:
    assert all(alive <= all_ for alive, all_ in zip(MOBILENET_ALIVE, MOBILENET, strict=True))
    assert sum(layer.macs for layer in tiny("vww", skips_dead_channels=True)) == 3_733_073
    assert tiny("ic", skips_dead_channels=True) == tiny("ic")


@pytest.mark.parametrize(
    "task, name, shape, classes",
    [("kws", "ds_cnn", (1, 49, 10), 12), ("vww", "mobilenet_v1_vww", (3, 96, 96), 2), ("ic", "resnet_8", (3, 32, 32), 10),
     ("ad", "autoencoder", (640,), 640)],
)  # fmt: skip
def test_a_board_is_asked_for_what_the_built_network_asks(
    task: str, name: str, shape: tuple[int, ...], classes: int
) -> None:
    built = layers(network({"model": name}, shape, classes))
    assert columns(built) == pytest.approx(columns(tiny(task)), rel=1e-9)
