"""Why did accuracy drop: for a run's candidate, or for a file beside its float network; part of `paredown analyze`."""

import json
import time
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from paredown.core.candidate import Candidate
from paredown.core.diagnosis import Diagnosis
from paredown.core.errors import BadInput
from paredown.core.store import Store, read_json, write_whole
from paredown.core.task import Task
from paredown.data.tasks import load
from paredown.diagnose.drop import BOUNDS, Bounds, diagnose
from paredown.graph.net import Net
from paredown.graph.unrounded import load_unrounded
from paredown.train.data import Data
from paredown.verbs.export import located
from paredown.verbs.score import NETWORKS, network_of
from paredown.zoo.resolve import network

FILE = "diagnosis.json"
WEIGHTS = (".safetensors", ".pt", ".pth")
LEAST_S, MOST_S = 1.5, 20.0
"""What a diagnosis at the end of a search may take at least, and at most."""


def is_run(source: Any) -> bool:
    """Return whether a source names a run or one of its candidates."""
    text = getattr(source, "folder", source)
    if not isinstance(text, str | PathLike):
        return False
    text = str(text)
    return any((Path(part) / "asked.json").exists() for part in (text, text.rpartition(":")[0]) if part)


def of_run(run: Any, task: Any = None, against: Any = None, bounds: Bounds = BOUNDS) -> Diagnosis:
    """Return the diagnosis of a run's winner or of any candidate, on the validation split, and store it with the candidate.

    run: a Run, "folder" or "folder:candidate". task: the run's, where it was not a built-in name or a path. against: the
    float network; without one the recipe's own, before its first step that quantizes, from the run's `steps`. When that or
    the data are gone, what was stored before is returned. Raises BadInput.
    """
    folder, candidate_id = located(run)
    store = Store(folder)
    candidate = store.candidate(candidate_id)
    stored = store.candidate_folder(candidate_id) / FILE
    try:
        data = _data(folder, task)
        given = _before(store, candidate, data) if against is None else float_network(against, data)
    except BadInput:
        if task is None and against is None and stored.exists():
            return of_json(read_json(stored))
        raise
    return kept(store, candidate, data, given, bounds)


def kept(store: Store, candidate: Candidate, data: Task, given: Net, bounds: Bounds) -> Diagnosis:
    """Return a candidate's diagnosis beside a float network, and write it into the candidate's folder."""
    net = Net.load(store.candidate_folder(candidate.id) / "net")
    found = diagnose(net, given, Data.of(data, "val"), "val", _unrounded(store, candidate), bounds)
    write_whole(store.candidate_folder(candidate.id) / FILE, json.dumps(found.to_json()))
    return found


def of_network(source: Any, task: Any, against: Any, bounds: Bounds = BOUNDS) -> Diagnosis:
    """Return the diagnosis of a quantized network, a Net or a `.pdn` or `.onnx` file, on a task's validation split.

    task, against: what `find` takes as a task, and the float network as `float_network` takes it. Raises BadInput.
    """
    for name, value in (("task", task), ("against", against)):
        if value is None:
            raise BadInput(
                f"{name} is missing: why accuracy dropped is told from a task's samples and the float network; give both"
            )
    data = load(task)
    if not isinstance(source, Net) and not str(source).endswith(NETWORKS):
        raise BadInput(
            f"{source!r} is not quantized as it stands: name a run, folder:candidate, a .pdn or an .onnx file"
        )
    net = source if isinstance(source, Net) else network_of(Path(str(source)))
    return diagnose(net, float_network(against, data), Data.of(data, "val"), "val", None, bounds)


def of_json(data: Mapping[str, Any]) -> Diagnosis:
    """Return a stored diagnosis. Raises BadInput."""
    return Diagnosis.of_json(data)


def float_network(source: Any, data: Task) -> Net:
    """Return a float network: a Net; a run or its candidate; a `.pdn` or `.onnx` file; or a model with its weights.

    A model with weights is {"model": …, "weights": path} as for `find`, or the text MODEL:WEIGHTS, such as
    "lenet_5:float.safetensors" or "net.py:make:float.safetensors". Raises BadInput.
    """
    if isinstance(source, Net):
        return source
    if isinstance(source, Mapping):
        return network(source, data.shape, len(data.classes))
    text = str(getattr(source, "folder", source))
    model, _, weights = text.rpartition(":")
    if text.endswith(WEIGHTS):
        if not model:
            raise BadInput(f"weights {text} need their model: give MODEL:{text}, such as lenet_5:{text}")
        return network({"model": model, "weights": weights}, data.shape, len(data.classes))
    if is_run(source):
        folder, candidate = located(source)
        return Net.load(Store(folder).candidate_folder(candidate) / "net")
    if text.endswith(NETWORKS):
        return network_of(Path(text))
    raise BadInput(
        f"the float network {text!r} is of no known kind; give a .pdn, an .onnx, a run, or MODEL:WEIGHTS.safetensors"
    )


def _data(folder: Path, task: Any) -> Task:
    asked = read_json(folder / "asked.json")["task"]
    data = load(task if task is not None else asked.get("given", asked["name"]))
    if data.digest != asked["digest"]:
        raise BadInput(f"task {data.name} is not the data that run {folder} was made with; its digest differs")
    return data


def quantizing(step: Any) -> bool:
    """Return whether a recipe's step leaves coarser numbers behind."""
    return step.part_name.startswith("quantize.") or bool({"quantized", "shared"} & set(step.card.gives))


def _before(store: Store, candidate: Candidate, data: Task) -> Net:
    """Return the network before the recipe's first step that quantizes. Raises BadInput where it is not stored any more."""
    steps = candidate.recipe.steps
    first = next((at for at, step in enumerate(steps) if quantizing(step)), None)
    if first is None:
        raise BadInput(
            f"candidate {candidate.id} is not quantized: no step of its recipe quantizes; there is no drop to explain"
        )
    if first == 0:
        return network(candidate.spec, data.shape, len(data.classes), candidate.seed)
    folder = store.folder / "steps" / candidate.prefix_ids()[first - 1]
    if not (folder / "net.json").exists():
        raise BadInput(
            f"the float network of candidate {candidate.id} is no longer in {store.folder / 'steps'}; name one with --against"
        )
    return Net.load(folder)


def _unrounded(store: Store, candidate: Candidate) -> dict[str, torch.Tensor]:
    """Return what the candidate's weights were before they were rounded, from the last step that says so."""
    for prefix in reversed(candidate.prefix_ids()):
        if found := load_unrounded(store.folder / "steps" / prefix):
            return found
    return {}


def explain_winner(store: Store, candidate: Candidate, data: Task, until: float | None) -> str | None:
    """Write the diagnosis of a run's winner into its folder, within a few seconds; return why there is none, or None.

    until: when the budget ends, in seconds since the epoch; None: no budget. Never raises what a diagnosis may.
    """
    if not any(map(quantizing, candidate.recipe.steps)):
        return "nothing in it is quantized"
    left = MOST_S if until is None else min(MOST_S, max(LEAST_S, until - time.time() - 1.0))
    seen = data.without("test")
    try:
        kept(store, candidate, seen, _before(store, candidate, seen), Bounds(allowance_s=left))
    except (BadInput, RuntimeError, ArithmeticError, LookupError, OSError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return None
