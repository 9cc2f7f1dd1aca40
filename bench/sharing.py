"""Kill-the-bits and Deep k-Means next to plain k-means and uniform rounding, at equal bytes of files: one task, three seeds.

    PAREDOWN_DATA=… python bench/sharing.py run --seeds 0 1 2      # into --work (resumes)
    python bench/sharing.py table                                  # bench/results/sharing*.csv

MNIST at a third of its resolution (9 × 9), a network of four 3 × 3 convolutions and a linear layer, 60,816 weights: five epochs in float,
then batch norms folded into 186 biases, which every file holds in float32. From there every way has the same data, the same loss
(`loss.soften` with the float network as its teacher) and the same number of fine-tuning epochs, one; `uniform` has none. Two learning
rates, one for shared values and one for learned steps, from a few trials on the validation pictures of seed 0.

- uniform: max-abs rounding for each channel. learned_steps: LSQ, 2 and 3 bits, and signs with a scale for each filter (1 bit).
- kmeans: shared values for each layer (Deep Compression without pruning), then trained.
- deep_kmeans: kernel rows of 3 (8 numbers of the linear layer); the epoch is a training under the spectral penalty, and k-means
  ends it, as in the paper, tables in float32; or half of it is that and the other half trains the shared rows ("trained").
- kernel_rows: the same rows without the penalty, shared at once and then trained: what Deep k-Means adds to.
- product: product quantization of the weights, vectors of 4 or 8, then trained.
- bit_goes_down: vectors of 9 (3 × 3) and 4 (linear), weighed by the activations of the whole layer, the first layer real, then
  trained by distillation, as in the paper.
All tables that are trained are stored in half precision. Of the files of a way and a seed that are not larger than a budget the table takes the best on
the 10,000 validation pictures; that file alone meets the 10,000 test pictures, read back and run. `difference` is to `kmeans` under the same
budget; `low` and `high`: 95 %, Student's t over the seeds (n = 3 says little); `low_pictures` and `high_pictures`: of the mean over
these seeds, over pictures. Sizes are whole files, architecture included.
"""

import argparse
import json
import math
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from paredown.core.candidate import Candidate
from paredown.core.recipe import Recipe
from paredown.core.task import Task
from paredown.cost.measure import processor
from paredown.data import tasks
from paredown.search.trial import Bench
from paredown.search.trial import run as trial
from paredown.targets.deliver import load
from paredown.zoo.dense import dense
from tables import write

MODEL = f"{Path(__file__).resolve()}:small"
BUDGETS = (6_300, 8_600, 12_700, 15_500, 22_600)
"""Bytes: the last four are what the files of k-means take, so that the gaps between these cost it nothing."""
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Student's t for 95 %, by the number of seeds."""
Steps = list[dict[str, Any]]


def small(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Return the network: a third of the resolution, four convolutions with batch norm and ReLU, a linear layer on the means."""
    return dense(shape, classes, widths=(16, 32, 64, 64), reduce=3, head="pool")


def plan(epochs: float, lr: float) -> dict[str, Any]:
    """Return a training plan."""
    return {"epochs": epochs, "lr": lr, "batch": 128}


FLOAT: Steps = [{"part": "train.finetune", "plan": plan(5, 3e-3)}, {"part": "edit.fold_batchnorm"}]
TAUGHT = {"part": "loss.soften", "teacher": MODEL}
HALF = {"part": "habit.centroids", "half": True}


def taught(epochs: float = 1) -> Steps:
    """Return the training of what is shared."""
    return [{"part": "train.finetune", "loss": TAUGHT, "habits": [HALF], "plan": plan(epochs, 2e-2)}]


def shared(name: str, **settings: Any) -> Steps:
    """Return a step that shares, and the training of what is shared."""
    return [*FLOAT, {"part": f"share.{name}", **settings}, *taught()]


def learned(bits: int) -> Steps:
    """Return training with rounded weights."""
    step = {"part": "quantize.learned_step", "bits": bits, "bias_bits": 0, "start": "mse"}
    if bits == 1:
        step = {"part": "quantize.binary_weights", "real_ends": False}
    return [*FLOAT, {**step, "loss": TAUGHT, "plan": plan(1, 4e-3)}]


def spectral(clusters: int, after: float) -> Steps:
    """Return Deep k-Means: an epoch, less what comes `after`, under the penalty; kernel rows shared; these trained."""
    habit = {"part": "habit.spectral", "strength": 1e-3, "refresh": 100}
    first = {"part": "train.finetune", "loss": TAUGHT, "habits": [habit], "plan": plan(1 - after, 1e-3)}
    return [*FLOAT, first, {"part": "share.deep_kmeans", "clusters": clusters}, *(taught(after) if after else [])]


@cache
def ways() -> dict[str, dict[str, Steps]]:
    """Return {way: {setting: steps}}."""
    rows = (4, 16, 64)
    return {
        "float": {"": FLOAT},
        "uniform": {f"{b} bits": [*FLOAT, {"part": "quantize.uniform", "bits": b}] for b in (2, 3, 4)},
        "learned_steps": {f"{b} bits": learned(b) for b in (1, 2, 3)},
        "kmeans": {f"{k} values": shared("kmeans", clusters=k) for k in (2, 3, 4, 8)},
        "kernel_rows": {f"{k} rows": shared("deep_kmeans", clusters=k) for k in rows},
        "deep_kmeans": {
            f"{k} rows{', trained' if after else ''}": spectral(k, after) for k in rows for after in (0, 0.5)
        },
        "product": {
            f"{k} of {d}": shared("product", length=d, clusters=k) for d, k in ((8, 16), (8, 64), (4, 16), (4, 64))
        },
        "bit_goes_down": {
            f"{k} kernels": shared("bit_goes_down", clusters=k, activations="stacked", real_first=True)
            for k in (16, 32, 64, 128, 256)
        },
    }


def run(asked: argparse.Namespace) -> None:
    """Fill in the rows that the folder of work lacks."""
    task = tasks.load("mnist")
    for seed in asked.seeds:
        for way, settings in ways().items():
            for setting, steps in settings.items() if way in asked.ways else ():
                path = asked.work / "rows" / f"{seed}-{way}-{setting.replace(' ', '_').replace(',', '')}.json"
                if not path.exists():
                    attempt(path, task, (seed, way, setting), steps)


def attempt(path: Path, task: Task, key: tuple[int, str, str], steps: Steps) -> None:
    """Make one row: the recipe from the deepest prefix there is, its file, its accuracy on validation."""
    result, notes = trial(
        Candidate({"model": MODEL}, Recipe.of_json(steps), key[0], "mnist"),
        Bench(task, "cpu", path.parents[1] / "runs"),
    )
    row: dict[str, Any] = dict(zip(("seed", "way", "setting"), key, strict=True))
    if result.failed:
        row["failed"] = result.failed
    else:
        made = result.artifacts[0]
        assert made.quality is not None
        row |= {"bytes": made.bytes, "val": made.quality.value, "mismatches": made.mismatches, "path": made.path}
        row["untrained_val"] = result.steps[-2]["val"] if steps[-1].get("habits") == [HALF] else ""
        row |= {"left_alone": " ".join(note["layer"] for note in notes), "seconds": round(result.seconds, 1)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row))
    print(json.dumps(row), flush=True)


@cache
def met(path: str) -> np.ndarray:
    """Return which test pictures a file gets right; kept beside it, so that they are met once."""
    kept = Path(path).with_suffix(".test.npy")
    if not kept.exists():
        task = tasks.load("mnist")
        np.save(kept, load(path)(task.inputs("test")).argmax(1) == task.splits["test"].y)
    return np.load(kept)


def chosen(rows: list[dict[str, Any]], way: str, budget: int) -> list[dict[str, Any]]:
    """Return for each seed the row of a way that is best on validation within a budget; [] if a seed has none."""
    found = []
    for seed in sorted({row["seed"] for row in rows}):
        some = [row for row in rows if row["seed"] == seed and row["way"] == way and row["bytes"] <= budget]
        found += [max(some, key=lambda row: (row["val"], -row["bytes"]))] if some else []
    return found if len(found) == len({row["seed"] for row in rows}) else []


def interval(values: np.ndarray, factor: float) -> dict[str, float]:
    """Return the ends of mean ± factor · standard error."""
    half = factor * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return {"low": round(float(values.mean()) - half, 5), "high": round(float(values.mean()) + half, 5)}


def lines(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a line of the table for the float networks, and for each budget and way."""
    yield line(None, [row for row in rows if row["way"] == "float"], [])
    for budget in BUDGETS:
        beside = chosen(rows, "kmeans", budget)
        for way in [name for name in ways() if name != "float"]:
            if own := chosen(rows, way, budget):
                yield line(budget, own, beside)


def line(budget: int | None, own: list[dict[str, Any]], beside: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a way's chosen files, one for each seed, get right on test, beside k-means' under the same budget."""
    right = np.stack([met(row["path"]) for row in own]).astype(float)
    told: dict[str, Any] = {
        "budget": budget, "way": own[0]["way"], "settings": "; ".join(row["setting"] for row in own),
        "bytes": " ".join(str(row["bytes"]) for row in own), "val": round(float(np.mean([row["val"] for row in own])), 5),
        "test": round(float(right.mean()), 5), "test_by_seed": " ".join(f"{one:.4f}" for one in right.mean(1)),
    }  # fmt: skip
    if beside:
        pairs = right - np.stack([met(row["path"]) for row in beside])
        over_seeds, over_pictures = interval(pairs.mean(1), T_95.get(len(pairs), 1.96)), interval(pairs.mean(0), 1.96)
        told |= {"difference": round(float(pairs.mean()), 5), **over_seeds}
        told |= {f"{end}_pictures": value for end, value in over_pictures.items()}
    else:
        told |= dict.fromkeys(("difference", "low", "high", "low_pictures", "high_pictures"), "")
    return told | {
        "seeds": len(right), "pictures": right.shape[1], "threads": 1, "cpu": processor(), "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip


def table(asked: argparse.Namespace) -> None:
    """Write every file met on validation, and the chosen ones on test."""
    rows = [json.loads(path.read_text()) for path in sorted((asked.work / "rows").glob("*.json"))]
    rows = [row for row in rows if "failed" not in row and row["seed"] in asked.seeds]
    order = list(ways())
    points = sorted(rows, key=lambda row: (row["seed"], order.index(row["way"]), row["bytes"]))
    write("sharing_points.csv", [{k: v for k, v in row.items() if k != "path"} for row in points])
    made = list(lines(rows))
    write("sharing.csv", made)
    for one in made:
        print(*(one[k] for k in ("budget", "way", "bytes", "test", "test_by_seed", "difference", "low", "high", "low_pictures", "high_pictures")))  # fmt: skip


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("run", "table"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", default=list(ways()))
    parser.add_argument("--work", type=Path, default=Path("/tmp/sharing"))
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    {"run": run, "table": table}[asked.verb](asked)


if __name__ == "__main__":
    main()
