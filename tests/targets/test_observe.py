"""What is measured of a file: times, memory and energy with their circumstances. No value of a clock is asserted."""

import numpy as np
import pytest

from contracts.nets import small_conv, small_mlp
from paredown.core.errors import BadInput
from paredown.graph.freeze import freeze
from paredown.targets.deliver import backend, load, onnx_bytes
from paredown.targets.observe import observe
from paredown.targets.runtime import predictor


@pytest.mark.parametrize("target", ["packed", "onnx"])
def test_every_cost_has_its_circumstances_or_says_why_not(target, tmp_path):
    net = small_conv()
    artifact = backend(target).write(freeze(net), tmp_path)
    seen = observe(artifact.path, np.zeros((1, *net.spec.inputs[0][1]), np.float32))
    assert {one["what"] for one in seen} == {"latency_ms", "peak_bytes", "energy_uj"}
    for one in seen:
        if one["value"] is None:
            assert one["why"]
        else:
            assert 0 < one["low"] <= one["value"] <= one["high"] and one["device"] and one["toolchain"] and one["date"]
    threads = [one["threads"] for one in seen if one["what"] == "latency_ms"]
    assert threads[0] == 1 and len(threads) == len(set(threads))


def test_the_bytes_that_are_measured_are_what_the_file_runs_as(tmp_path):
    net = small_mlp()
    artifact = backend("packed").write(freeze(net), tmp_path)
    inputs = np.random.default_rng(0).random((5, *net.spec.inputs[0][1]), np.float32)
    assert np.array_equal(predictor(onnx_bytes(artifact.path))(inputs), load(artifact.path)(inputs))
    with pytest.raises(BadInput, match="of no known kind"):
        onnx_bytes(tmp_path / "file.zip")
