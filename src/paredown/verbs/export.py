"""`paredown export`: further formats of a finished run."""

from pathlib import Path
from typing import Any

from paredown.core.artifact import Artifact
from paredown.core.errors import BadInput
from paredown.core.store import Store, read_json
from paredown.data.tasks import load
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.targets.deliver import backend, deliver, handed_over
from paredown.train.data import Data
from paredown.train.evaluate import scores


def export(
    run: Any, to: str | tuple[str, ...] | list[str], out: str | Path | None = None, task: Any = None
) -> list[Artifact]:
    """Write further formats of a run's winner or of any candidate, each verified on the validation split.

    run: a Run, a run's folder, or "folder:candidate". to: one target or several. out: where the files go (the run's
    folder when None). task: the run's task where it was not a built-in name or a path. Raises BadInput.
    """
    folder, candidate_id = located(run)
    targets = (to,) if isinstance(to, str) else tuple(to)
    for target in targets:
        backend(target)
    store = Store(folder)
    candidate = store.candidate(candidate_id)
    asked = read_json(folder / "asked.json")
    data = load(task if task is not None else asked["task"].get("given", asked["task"]["name"]))
    if data.digest != asked["task"]["digest"]:
        raise BadInput(f"task {data.name} is not the data that run {folder} was made with; its digest differs")
    net = Net.load(store.candidate_folder(candidate.id) / "net")
    source, frozen = scores(net, Data.of(data, "val")), freeze(net)
    place = Path(out) if out is not None else folder / "exports" / candidate.id
    return [handed_over(deliver(frozen, source, data, "val", target, place), frozen) for target in targets]


def located(run: Any) -> tuple[Path, str]:
    """Return (folder, candidate id) of a Run, "folder" (its winner) or "folder:candidate". Raises BadInput."""
    text = str(getattr(run, "folder", run))
    folder, colon, candidate_id = text.rpartition(":")
    if not colon or not Path(folder).exists():
        folder, candidate_id = text, ""
    if not (Path(folder) / "asked.json").exists():
        raise BadInput(f"{folder} is not a run's folder: it has no asked.json")
    if not candidate_id:
        found = read_json(Path(folder) / "found.json") if (Path(folder) / "found.json").exists() else {}
        if not found.get("best"):
            raise BadInput(
                f"run {folder} has no winner yet; go on with it (find … --resume), or name a candidate like {folder}:ID"
            )
        candidate_id = found["best"]["id"]
    return Path(folder), candidate_id
