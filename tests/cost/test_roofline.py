"""The roofline: unit values by hand, both sides of the ridge, and formats."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paredown.core.cost import Layer
from paredown.core.errors import BadInput
from paredown.cost.devices import Constant, Device, device
from paredown.cost.roofline import attainable, format_of, intensity, latency, operations, peak, point, points, ridge
from paredown.cost.tiny import convolution, depthwise, linear, tiny

MADE = Device(name="made", title="made", kind="cpu", source="made up for a test", bytes_per_second=Constant(value=10e9),
              peak_ops={"fp32": Constant(value=100e9), "int8": Constant(value=400e9)})  # fmt: skip


def as_float(layer: Layer) -> Layer:
    return replace(layer, weight_bits=32, activation_bits=32, stored_bits=32 * layer.weights)


def test_depthwise_and_pointwise_intensities() -> None:
    large = as_float(depthwise("dw", 512, (112, 112)))
    assert intensity(large) == pytest.approx(2.25, rel=1e-3)
    small = as_float(convolution("pw", (512, 512), (14, 14), (1, 1)))
    assert operations(small) == 102_760_448
    assert small.traffic_bits / 8 == 4 * (2 * 196 * 512 + 512**2)
    assert intensity(small) == pytest.approx(55.5, abs=0.1)


def test_one_int8_row_of_weights_is_two_operations_a_byte() -> None:
    row = linear("decode", 4096, 4096)
    assert intensity(replace(row, stored_bits=8 * row.weights)) == pytest.approx(2, rel=1e-3)


def test_the_ridge_divides_the_bounds() -> None:
    assert ridge(MADE) == 10
    below, above = as_float(depthwise("dw", 64, (56, 56))), as_float(convolution("c", (256, 256), (56, 56), (3, 3)))
    slow, fast = point(below, MADE), point(above, MADE)
    assert slow.bound == "memory" and slow.attainable == pytest.approx(10e9 * slow.intensity)
    assert slow.ms == pytest.approx(1e3 * below.traffic_bits / 8 / 10e9)
    assert fast.bound == "compute" and fast.attainable == 100e9
    assert fast.ms == pytest.approx(1e3 * 2 * above.macs / 100e9)


@given(st.floats(0.01, 1e4))
def test_time_is_work_over_the_roof(at: float) -> None:
    assert attainable(100e9, 10e9, at) <= 100e9
    assert attainable(100e9, 10e9, at) == (100e9 if at >= 10 else 10e9 * at)


def test_what_stays_in_a_cache_comes_from_it() -> None:
    layer = as_float(depthwise("dw", 64, (56, 56)))
    held = MADE.model_copy(update={"cache_bytes": 2**20, "cache_bytes_per_second": Constant(value=20e9)})
    assert point(layer, held, 2**20).ms == pytest.approx(point(layer, MADE).ms / 2)
    assert point(layer, held, 2**20 + 1) == point(layer, held) == point(layer, MADE)


def test_all_layers_one_after_the_other() -> None:
    found = latency(tiny("ic"), MADE)
    assert found.value == pytest.approx(sum(one.ms for one in points(tiny("ic"), MADE)))
    assert found.model == "roofline:made"
    assert found.value >= 1e3 * 2 * 12_501_632 / 400e9


def test_formats_and_the_next_wider_one() -> None:
    layer = tiny("ic")[0]
    assert format_of(layer) == "int8" and point(layer, MADE).format == "int8"
    assert format_of(replace(layer, weight_bits=4)) == "int8"
    assert format_of(replace(layer, weight_bits=4, activation_bits=4)) == "int4"
    assert peak(MADE, "int4") == ("int8", 400e9) and peak(MADE, "fp16") == ("fp32", 100e9)
    assert format_of(as_float(layer)) == "fp32"


def test_devices_without_peaks_are_refused() -> None:
    with pytest.raises(BadInput, match="gives no peak_ops for int8"):
        latency(tiny("ic"), device("nucleo_l4r5zi-hale"))
    with pytest.raises(BadInput, match="gives no bytes_per_second"):
        ridge(MADE.model_copy(update={"bytes_per_second": None}))
    assert ridge(device("nvidia_t4")) == pytest.approx(8.14e12 / 320e9)
