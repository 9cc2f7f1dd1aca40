"""Writing a network's files and measuring them where they run; and measuring any file. Needs no torch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from paredown.core.artifact import Artifact
from paredown.core.catalog import entry
from paredown.core.errors import BadInput
from paredown.core.metric import quality
from paredown.core.task import Task
from paredown.cost.measure import Repeats
from paredown.cost.measure import measure as timed
from paredown.graph.frozen import Frozen
from paredown.targets.onnx import Onnx
from paredown.targets.packed import Packed, beside
from paredown.targets.runtime import Predict, predictor

TARGETS = ("packed", "onnx")
LATER = ("litert", "executorch", "c")
_LOADERS: dict[str, Any] = {".pdn": Packed(), ".onnx": Onnx()}


def backend(target: str) -> Any:
    """Return the backend called `target`. Raises BadInput for one that does not exist, or not yet."""
    if target in LATER:
        raise BadInput(f"target {target!r} is not available in this version yet; allowed: {', '.join(TARGETS)}")
    known = {"packed": Packed(), "onnx": Onnx()}
    if target in known:
        return known[target]
    found = entry(target) if "." in target else None
    if found is None or found.kind != "backend":
        raise BadInput(f"target {target!r} is unknown; allowed: {', '.join(TARGETS)}")
    return found.cls()


def load(path: str | Path) -> Predict:
    """Return `predict(inputs) -> scores` for a file, by its suffix. Raises BadInput or Damaged."""
    return _kind(Path(path)).load(Path(path))


def onnx_bytes(path: str | Path) -> bytes:
    """Return the ONNX model that a file is, or is run as. Raises BadInput or Damaged."""
    return bytes(_kind(Path(path)).model(Path(path)).SerializeToString())


def _kind(path: Path) -> Any:
    if path.suffix not in _LOADERS:
        raise BadInput(f"file {path} is of no known kind; allowed: {', '.join(_LOADERS)}")
    return _LOADERS[path.suffix]


def deliver(
    frozen: Frozen, source: np.ndarray, task: Task, role: str, target: str, folder: Path, confidence: float = 0.95
) -> Artifact:
    """Write one target's file and return it with its quality on `role` and its mismatches against `source`.

    source: the scores of the model that the file comes from, on the same role's samples.
    """
    engine = backend(target)
    artifact = engine.write(frozen, folder)
    scores = engine.load(Path(artifact.path))(task.inputs(role))
    wrong = int((scores.argmax(1) != source.argmax(1)).sum())
    note = _saturation(engine, artifact, task.inputs(role), source, wrong) if wrong and target == "onnx" else ""
    measured = quality(task.metric, role, scores, task.splits[role].y, confidence)
    return replace(artifact, quality=measured, mismatches=wrong, n=len(scores), note=note)


def _saturation(engine: Onnx, artifact: Artifact, inputs: np.ndarray, source: np.ndarray, wrong: int) -> str:
    """Return a line if products of int8 that saturate on this processor explain mismatches of an ONNX file, or ""."""
    exact = predictor(engine.model(Path(artifact.path)), exact=True)(inputs)
    left = int((exact.argmax(1) != source.argmax(1)).sum())
    if left >= wrong:
        return ""
    return (
        "this processor has no VNNI, and ONNX Runtime saturates pairs of int8 products on it: with the session option "
        f"session.x64quantprecision = 1 there are {left} mismatches; weights of 7 bits cannot saturate"
    )


def handed_over(artifact: Artifact, frozen: Frozen) -> Artifact:
    """Return a packed file's artifact with what general compressors make of the same tensors; others as they are."""
    return replace(artifact, beside=beside(frozen)) if artifact.target == "packed" else artifact


def latency_ms(predict: Predict, sample: np.ndarray, repeats: int = 50) -> dict[str, float]:
    """Return {"median", "low", "high", "repeats"} of one sample's time, warm, on one thread; low, high: quartiles."""
    seen = timed(lambda: predict(sample), Repeats(measured=repeats))
    return {"median": seen.value, "low": seen.low, "high": seen.high, "repeats": repeats}


def measure(artifact: str | Path, data: Task, split: str = "test", confidence: float = 0.95) -> dict[str, Any]:
    """Return a file's accuracy, interval and latency in its own runtime, as the JSON of `paredown evaluate`.

    artifact: a `.pdn` or `.onnx` file. Raises BadInput or Damaged.
    """
    if split not in data.splits:
        raise BadInput(f"split {split!r} is not in task {data.name}; allowed: {', '.join(data.splits)}")
    path = Path(artifact)
    predict = load(path)
    inputs = data.inputs(split)
    try:
        scores = predict(inputs)
    except BadInput as error:
        raise BadInput(f"{error} (file {path}, task {data.name})") from error
    if scores.ndim != 2 or scores.shape[1] != len(data.classes):
        raise BadInput(
            f"file {path} gives scores of shape {scores.shape[1:]}; task {data.name} has {len(data.classes)} classes"
        )
    found = quality(data.metric, split, scores, data.splits[split].y, confidence)
    return {
        "schema": "paredown/evaluate/1", "artifact": str(path), "bytes": path.stat().st_size, "split": split,
        "metric": found.metric, "value": found.value, "low": found.low, "high": found.high, "n": found.n,
        "latency_ms": latency_ms(predict, inputs[:1]),
        "runtime": f"onnxruntime {onnxruntime.__version__}, CPU, 1 thread",
    }  # fmt: skip
