"""`paredown score`: an official score of a run's candidate, of a file, or of counts that somebody wrote down."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from paredown.core.catalog import rule as rule_named
from paredown.core.errors import BadInput
from paredown.core.metric import Quality
from paredown.core.score import Score
from paredown.core.store import Store, read_json
from paredown.cost.counted import evidence
from paredown.graph.fold import fold_batchnorm
from paredown.graph.freeze import freeze
from paredown.graph.from_onnx import from_onnx
from paredown.graph.net import Net
from paredown.rules.closed_division import differences
from paredown.targets.container import read
from paredown.targets.lower import build
from paredown.verbs.export import located

NETWORKS = (".pdn", ".onnx")


def score(rule: str, source: Any) -> Score:
    """Return a rule's score of a source, term by term, with its clauses; those from memory are marked.

    rule: a name of `paredown rules`, such as "micronet.cifar100". source: a Run, "folder" (its winner) or
    "folder:candidate"; a `.pdn` or `.onnx` file; a Net; or the rule's evidence: a mapping, a `.json` file, or a
    training's `.tsv`. A JSON may name two networks, `reference` and `submission`, whose differences become evidence.
    Raises BadInput, in one line that says what is missing.
    """
    found = rule_named(rule)
    if isinstance(source, Mapping):
        return _judged(found, dict(source), "the evidence")
    if isinstance(source, Net):
        return _counted(found, source, {}, "the network")
    path = Path(str(getattr(source, "folder", source)))
    if path.suffix == ".json":
        return _judged(found, _compared(found, read_json(path), path.parent), str(path))
    if path.suffix == ".tsv":
        return _judged(found, {"log": _text(path)}, str(path))
    if path.suffix in NETWORKS:
        return _counted(found, network_of(path), {}, str(path))
    return _of_run(found, source)


def network_of(path: Path) -> Net:
    """Return the network in a `.pdn` or `.onnx` file. Raises BadInput or Damaged."""
    if path.suffix == ".onnx":
        return from_onnx(path)
    try:
        return from_onnx(build(read(path.read_bytes())))
    except OSError as error:
        raise BadInput(f"file {path} cannot be read: {error.strerror}") from error


def _judged(rule: Any, numbers: Any, source: str) -> Score:
    found: Score = rule.score(rule.evidence.of(numbers, source))
    return found


def _counted(rule: Any, net: Net, measured: Mapping[str, Any], source: str) -> Score:
    found: Score = rule.score(rule.evidence.within({**evidence(net), **measured}, source))
    return found


def _held_by_run(source: Any) -> tuple[Path, str]:
    """Return (folder, candidate). Raises BadInput that says what else a source may be."""
    try:
        return located(source)
    except BadInput as error:
        kinds = f"{', '.join(NETWORKS)}, .json or .tsv"
        raise BadInput(f"{error}; a source is a run's folder, folder:candidate, or a file in {kinds}") from error


def _of_run(rule: Any, source: Any) -> Score:
    """Return the score of a run's candidate; its quality counts where it was measured on the data that the rule is about."""
    folder, candidate = _held_by_run(source)
    store = Store(folder)
    store.candidate(candidate)
    result, task = store.result(candidate), str(read_json(folder / "asked.json")["task"]["name"])
    quality = (result.test or result.val) if result else None
    told = f"{quality.metric} {quality.value:.4f} on {task}, {quality.split}" if quality else "no quality"
    wanted = getattr(rule, "task", "")
    fits = quality is not None and wanted in ("", task)
    net = Net.load(store.candidate_folder(candidate) / "net")
    found = _counted(rule, net, _measured(quality) if fits else {}, f"run {folder}")
    note = f"measured: {told}" if fits else f"left out: {told}; the rule is about {wanted or 'another task'}"
    return replace(found, notes=(*found.notes, note))


def _measured(quality: Quality | None) -> dict[str, float]:
    return {quality.metric: quality.value} if quality else {}


def _compared(rule: Any, numbers: Any, folder: Path) -> Any:
    """Return the evidence with the differences between the two networks that it names, where it names them."""
    asks = "differences" in rule.evidence.model_fields
    if not asks or not isinstance(numbers, dict) or not {"reference", "submission"} <= set(numbers):
        return numbers
    ours, theirs = (freeze(_folded(folder / str(numbers[key]))) for key in ("reference", "submission"))
    rest = {key: value for key, value in numbers.items() if key not in ("reference", "submission")}
    return {**rest, "differences": differences(ours, theirs)}


def _folded(path: Path) -> Net:
    if path.suffix not in NETWORKS:
        raise BadInput(f"network {path} is of no known kind; allowed: {', '.join(NETWORKS)}")
    return fold_batchnorm(network_of(path))[0]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"log {path} cannot be read: {error}") from error
