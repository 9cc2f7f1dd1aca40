"""Handing over a winner: its files, each measured on the test split, and what the report shows of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from paredown.core.artifact import Artifact
from paredown.core.candidate import Candidate, Result
from paredown.core.metric import Quality
from paredown.core.store import Store, write_whole
from paredown.core.task import Task
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.targets.deliver import backend, deliver, handed_over
from paredown.train.data import Data
from paredown.train.evaluate import scores


def hand_over(
    store: Store, candidate: Candidate, result: Result, data: Task, targets: tuple[str, ...], confidence: float = 0.95
) -> tuple[dict[str, Any], Quality]:
    """Write the winner's files beside the log, measure each on the test split, and return (JSON of `best`, test quality).

    confidence: of the intervals on test.
    """
    net = Net.load(store.candidate_folder(candidate.id) / "net")
    frozen, held = freeze(net), Data.of(data, "test")
    source = scores(net, held)
    artifacts = []
    for target in targets:
        made = handed_over(
            deliver(frozen, source, data, "test", target, store.folder / "artifacts", confidence), frozen
        )
        engine = backend(target)
        final = store.folder / f"best{engine.suffix}"
        Path(made.path).replace(final)
        artifacts.append(replace(made, path=str(final)))
    (store.folder / "artifacts").rmdir()
    test = artifacts[0].quality
    assert test is not None
    final_result = replace(result, test=test)
    write_whole(store.candidate_folder(candidate.id) / "result.json", json.dumps(final_result.to_json()))
    _winner(store, data, artifacts[0], source)
    cost = {k: result.cost[k] for k in ("params", "nonzero", "macs", "bops", "ram_bytes")}
    best = {
        "id": candidate.id, "recipe": candidate.recipe.to_json(), "spec": dict(candidate.spec), "file_bytes": artifacts[0].bytes,
        "artifacts": [_artifact_row(a) for a in artifacts], "cost": cost,
        "val": result.val.to_json() if result.val else None, "test": test.to_json(),
    }  # fmt: skip
    return best, test


def _artifact_row(artifact: Artifact) -> dict[str, Any]:
    return {k: v for k, v in artifact.to_json().items() if k != "quality"} | {
        "test": artifact.quality.value if artifact.quality else None
    }


def _winner(store: Store, data: Task, artifact: Artifact, source: np.ndarray) -> None:
    """Write what the report shows of the winner on the test split: the confusion matrix and some wrong answers."""
    labels, said = data.splits["test"].y, source.argmax(1)
    count = len(data.classes)
    confusion = np.zeros((count, count), dtype=int)
    np.add.at(confusion, (labels, said), 1)
    wrong = np.flatnonzero(labels != said)[:24]
    examples = [
        {"index": int(i), "label": int(labels[i]), "said": int(said[i]), "x": _picture(data, int(i))} for i in wrong
    ]
    document = {
        "schema": "paredown/winner/1",
        "classes": list(data.classes),
        "confusion": confusion.tolist(),
        "wrong": examples,
    }
    write_whole(store.folder / "winner.json", json.dumps(document))


def _picture(data: Task, at: int) -> Any:
    """Return one test sample as whole numbers 0…255 (channels × height × width), or None for what is no picture."""
    if len(data.shape) != 3:
        return None
    x = data.splits["test"].x[at].astype(float) * data.scale
    low, high = float(x.min()), float(x.max())
    return ((x - low) / max(high - low, 1e-9) * 255).round().astype(int).tolist()
