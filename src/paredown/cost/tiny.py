"""The four networks of MLPerf Tiny as they run on a board: int8, batch norm folded, activations inside the layer before.

Written down here, not built, because the models of latency are fitted on what boards publish for exactly these.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from paredown.core.cost import Geometry, Layer

MOBILENET = (8, 16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256)
"""Channels of MobileNetV1-0.25 after its stem and after each of its thirteen blocks."""

MOBILENET_ALIVE = (8, 16, 32, 32, 64, 60, 106, 57, 30, 19, 17, 27, 31, 22)
"""How many of these carry anything in the file that the boards run: the weights of all others are zero.

Counted in mlcommons/tiny at 1afd2c9, benchmark/training/visual_wake_words/trained_models/vww_96_int8.tflite: 3,733,073 of
7,489,664 MACs are left, which a lossless runtime may leave out.
"""


def tiny(task: str, skips_dead_channels: bool = False) -> tuple[Layer, ...]:
    """Return the layers of a task's reference network: "kws", "vww", "ic" or "ad".

    skips_dead_channels: without the channels whose weights are all zero (only vww has any). MACs: 2,656,768, 7,489,664,
    12,501,632, 264,192. Source: mlcommons/tiny, benchmark/training, keras_model.py of each task.
    """
    return NETWORKS["vww, alive" if task == "vww" and skips_dead_channels else task]


def convolution(
    name: str, channels: tuple[int, int], size: tuple[int, int], kernel: tuple[int, int], stride: int = 1
) -> Layer:
    """Return an int8 convolution from channels[0] to channels[1] with `size` output places; 1 × 1 makes it pointwise."""
    kind = "pointwise" if math.prod(kernel) == 1 else "convolution"
    return _with_macs(name, kind, Geometry(*channels, kernel, size), stride)


def depthwise(name: str, channels: int, size: tuple[int, int], stride: int = 1) -> Layer:
    """Return an int8 depthwise 3 × 3 convolution with `size` output places."""
    return _with_macs(name, "depthwise", Geometry(channels, channels, (3, 3), size, channels), stride)


def linear(name: str, inputs: int, outputs: int) -> Layer:
    """Return an int8 fully connected layer on one row."""
    return _with_macs(name, "linear", Geometry(inputs, outputs, (1,), (1,)), 1)


def moving(name: str, kind: str, reads: int, writes: int) -> Layer:
    """Return an int8 layer without weights: pooling or elementwise."""
    return Layer(name, kind, kind, (writes,), weight_bits=8, activation_bits=8, reads=reads, writes=writes)


def _with_macs(name: str, kind: str, loops: Geometry, stride: int) -> Layer:
    weights = loops.channels_out * (loops.channels_in // loops.groups) * math.prod(loops.kernel)
    places = math.prod(loops.places)
    macs, params = weights * places, weights + loops.channels_out
    return Layer(
        name, kind, kind, (loops.channels_out, *loops.places), params=params, nonzero=params,
        stored_bits=8 * weights + 32 * loops.channels_out, weight_bits=8, activation_bits=8,
        macs=macs, mults=macs, adds=macs, weights=weights, weights_nonzero=weights, reads=loops.channels_in * places * stride**2,
        writes=loops.channels_out * places, geometry=loops,
    )  # fmt: skip


def _ds_cnn() -> tuple[Layer, ...]:
    size = (25, 5)
    found = [convolution("stem", (1, 64), size, (10, 4), stride=2)]
    for i in range(4):
        found += [depthwise(f"depthwise_{i}", 64, size), convolution(f"pointwise_{i}", (64, 64), size, (1, 1))]
    return (*found, moving("pool", "pooling", 64 * 125, 64), linear("classes", 64, 12))


def _mobilenet(widths: Sequence[int]) -> tuple[Layer, ...]:
    sides = (48, 48, 24, 24, 12, 12, 6, 6, 6, 6, 6, 6, 3, 3)
    found = [convolution("stem", (3, widths[0]), (48, 48), (3, 3), stride=2)]
    for i in range(1, len(widths)):
        size = (sides[i], sides[i])
        found += [depthwise(f"depthwise_{i}", widths[i - 1], size, stride=sides[i - 1] // sides[i])]
        found += [convolution(f"pointwise_{i}", (widths[i - 1], widths[i]), size, (1, 1))]
    return (*found, moving("pool", "pooling", widths[-1] * 9, widths[-1]), linear("classes", widths[-1], 2))


def _resnet() -> tuple[Layer, ...]:
    found, inputs = [convolution("stem", (3, 16), (32, 32), (3, 3))], 16
    for stack, (width, side) in enumerate(((16, 32), (32, 16), (64, 8))):
        size, stride = (side, side), 2 if stack else 1
        found += [convolution(f"first_{stack}", (inputs, width), size, (3, 3), stride)]
        found += [convolution(f"second_{stack}", (width, width), size, (3, 3))]
        if stack:
            found += [convolution(f"shortcut_{stack}", (inputs, width), size, (1, 1), stride)]
        found += [moving(f"add_{stack}", "elementwise", 2 * width * side * side, width * side * side)]
        inputs = width
    return (*found, moving("pool", "pooling", 64 * 64, 64), linear("classes", 64, 10))


def _autoencoder() -> tuple[Layer, ...]:
    widths = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)
    return tuple(linear(f"dense_{i}", a, b) for i, (a, b) in enumerate(pairwise(widths)))


NETWORKS: dict[str, tuple[Layer, ...]] = {
    "kws": _ds_cnn(), "vww": _mobilenet(MOBILENET), "vww, alive": _mobilenet(MOBILENET_ALIVE),
    "ic": _resnet(), "ad": _autoencoder(),
}  # fmt: skip
"""Task -> the layers of its reference network."""
