"""Measuring: shapes and circumstances, never how fast."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from paredown.core.cost import Measurement
from paredown.core.errors import BadInput
from paredown.cost import measure as room
from paredown.cost.measure import (
    NotReadable,
    Repeats,
    disturbances,
    energy,
    measure,
    observed,
    onnx_latency,
    onnx_peak,
    pinned,
)


def small_model() -> bytes:
    shape = ["n", 8]
    node = helper.make_node("Relu", ["x"], ["y"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([node], "small", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def test_a_measurement_has_its_spread_and_circumstances() -> None:
    calls = []
    seen = measure(lambda: calls.append(1), Repeats(warm=3, measured=9), "a test")
    assert len(calls) == 12 and seen.repeats == 9
    assert seen.what == "latency_ms" and 0 <= seen.low <= seen.value <= seen.high
    assert "cores" in seen.device and "onnxruntime" in seen.toolchain and "torch" in seen.toolchain
    assert seen.date.startswith("20") and seen.command == "a test"


def test_quartiles_are_those_of_the_values() -> None:
    seen = observed("latency_ms", [4.0, 1.0, 3.0, 2.0, 5.0])
    assert (seen.low, seen.value, seen.high) == (1.5, 3.0, 4.5)
    one = observed("peak_bytes", [7.0])
    assert (one.low, one.value, one.high, one.repeats) == (7.0, 7.0, 7.0, 1)


def test_repeats_that_disagree_and_a_busy_machine_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.9, 0.0, 0.0))
    assert disturbances(observed("latency_ms", [1.0, 1.0, 1.01, 1.0])) == ()
    assert "% of the median apart" in disturbances(observed("latency_ms", [1.0, 1.0, 2.0, 2.0]))[0]
    monkeypatch.setattr(os, "getloadavg", lambda: (3.1, 0.0, 0.0))
    assert "load 3.1" in disturbances(observed("latency_ms", [1.0, 1.0]))[0]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system pins no process")
def test_pinning_is_taken_back() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(RuntimeError), pinned(1) as cores:
        assert os.sched_getaffinity(0) == set(cores) and len(cores) == 1
        raise RuntimeError
    assert os.sched_getaffinity(0) == before


def test_an_onnx_model_runs_on_one_thread_and_all() -> None:
    inputs = np.zeros((2, 8), np.float32)
    for threads in (1, room.all_threads()):
        seen = onnx_latency(small_model(), inputs, threads, Repeats(1, 4))
        assert seen.value > 0 and seen.command == f"onnxruntime, {threads} threads"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc")
def test_peak_memory_grows_with_what_a_model_holds(tmp_path: Path) -> None:
    side = 2000
    values = onnx.numpy_helper.from_array(np.ones((side, side), np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, side]) for name in "xy"]
    graph = helper.make_graph([node], "wide", ends[:1], ends[1:], [values])
    model, inputs = tmp_path / "wide.onnx", tmp_path / "x.npy"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), model)
    np.save(inputs, np.ones((1, side), np.float32))
    seen = onnx_peak(model, inputs, repeats=1)
    assert isinstance(seen, Measurement) and seen.what == "peak_bytes"
    assert 4 * side * side < seen.value < 40 * side * side
    np.save(inputs, np.ones((1, side + 1), np.float32))
    with pytest.raises(BadInput, match="does not run on"):
        onnx_peak(model, inputs, repeats=1)


def test_energy_without_counters_is_not_a_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(room, "RAPL", str(tmp_path / "intel-rapl:*" / "energy_uj"))
    seen = energy(lambda: None)
    assert isinstance(seen, NotReadable) and seen.to_json()["value"] is None and "no RAPL" in seen.why


def test_counters_are_read_and_may_wrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    zones = [tmp_path / f"intel-rapl:{i}" for i in range(2)]
    for zone, start in zip(zones, (100, 900), strict=True):
        zone.mkdir()
        (zone / "energy_uj").write_text(f"{start}\n")
        (zone / "max_energy_range_uj").write_text("1000\n")
    monkeypatch.setattr(room, "RAPL", str(tmp_path / "intel-rapl:*" / "energy_uj"))

    def work() -> None:
        for zone in zones:
            file = zone / "energy_uj"
            file.write_text(str((int(file.read_text()) + 30) % 1000))

    seen = energy(work, Repeats(warm=0, measured=10))
    assert isinstance(seen, Measurement) and seen.what == "energy_uj"
    assert seen.value == pytest.approx(60) and seen.repeats == 10
