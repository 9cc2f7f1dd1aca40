"""`paredown evaluate`. Imports no torch."""

from pathlib import Path
from typing import Any

from paredown.data.tasks import load
from paredown.targets.deliver import measure


def evaluate(artifact: str | Path, task: Any, split: str = "test", confidence: float = 0.95) -> dict[str, Any]:
    """Return a file's accuracy, interval and latency in its own runtime, as the JSON of `paredown evaluate`.

    artifact: a `.pdn` or `.onnx` file. task: a Task, a built-in name, a path, or data as `load` takes it.
    Raises BadInput, or Damaged for a file that is not whole.
    """
    return measure(artifact, load(task), split, confidence)
