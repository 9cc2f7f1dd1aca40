"""`paredown evaluate`. Imports no torch."""

from pathlib import Path
from typing import Any

from paredown.data.tasks import load
from paredown.targets.deliver import measure
from paredown.targets.observe import observe


def evaluate(
    artifact: str | Path, task: Any, split: str = "test", confidence: float = 0.95, costs: bool = False
) -> dict[str, Any]:
    """Return a file's accuracy, interval and latency in its own runtime, as the JSON of `paredown evaluate`.

    artifact: a `.pdn` or `.onnx` file. task: a Task, a built-in name, a path, or data as `load` takes it.
    costs: measure time on one thread and on all, peak memory and energy too, under "measured".
    Raises BadInput, or Damaged for a file that is not whole.
    """
    data = load(task)
    found = measure(artifact, data, split, confidence)
    return {**found, "measured": observe(artifact, data.inputs(split)[:1])} if costs else found
