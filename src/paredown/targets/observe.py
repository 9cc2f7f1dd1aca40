"""What a file costs where it runs, as this machine sees it: time on one thread and on all, memory, energy. Needs no torch."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from paredown.core.cost import Measurement
from paredown.cost.measure import NotReadable, all_threads, disturbances, energy, onnx_latency, onnx_peak
from paredown.targets.deliver import load, onnx_bytes


def observe(path: str | Path, sample: np.ndarray) -> list[dict[str, Any]]:
    """Return the measured costs of one sample, as JSON objects with their circumstances.

    Latency in ms on one thread and on all, pinned, warm, with quartiles; the growth of a fresh process's peak resident
    memory in bytes; energy in µJ through RAPL. `disturbed` says why a time should not be trusted; a cost that cannot be
    read here has the value null and says why. Raises BadInput or Damaged.
    """
    model = onnx_bytes(path)
    found = [_timed(model, sample, threads) for threads in dict.fromkeys((1, all_threads()))]
    with tempfile.TemporaryDirectory() as folder:
        file, inputs = Path(folder) / "model.onnx", Path(folder) / "sample.npy"
        file.write_bytes(model)
        np.save(inputs, sample)
        peak = onnx_peak(file, inputs)
    predict: Callable[[np.ndarray], np.ndarray] = load(path)
    return [*found, _named(peak, path).to_json(), energy(lambda: predict(sample)).to_json()]


def _timed(model: bytes, sample: np.ndarray, threads: int) -> dict[str, Any]:
    seen = onnx_latency(model, sample, threads)
    return {**seen.to_json(), "threads": threads, "disturbed": list(disturbances(seen, threads))}


def _named(seen: Measurement | NotReadable, path: str | Path) -> Measurement | NotReadable:
    """Return a measurement under the file's own name, not that of the copy that ran."""
    return (
        replace(seen, command=f"onnxruntime on {Path(path).name} in a fresh process")
        if isinstance(seen, Measurement)
        else seen
    )
