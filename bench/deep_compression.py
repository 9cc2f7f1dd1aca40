"""Deep Compression on its own two networks, in bytes of files: LeNet-300-100 and LeNet-5 on MNIST, beside two recipes that need no masks.

    PAREDOWN_DATA=… python bench/deep_compression.py run lenet_300_100 lenet_5 --seeds 0   # into --work (resumes)
    python bench/deep_compression.py table                                                 # bench/results/deep_compression*.csv

The paper (arxiv:1510.00149, table 1) says 1,070 KB to 27 KB (40 times) and 1,720 KB to 44 KB (39 times) at no loss of accuracy. Every
row here is a recipe that begins with the same float training, without augmentation; what comes after it augments the pictures by
0.3, in every recipe alike: in so many epochs these networks learn plain ones by heart. Of each way's sizes the table takes the
smallest file whose accuracy on the 10,000 validation pictures is not below the float file's, else the best on validation, and says which
in `holds`; that file alone meets the 10,000 test pictures, read back and run. `bytes` is the whole file, architecture included;
`paper_bytes` is the paper's own storage of the same network, written and read back here: for each weight the codebook in float32, and
Huffman codes with their tables of the codes and of the gaps (5 bits, convolutions 8), and biases in float32, no architecture.
`times` is the float32 parameters over `bytes`. `low` and `high`: 95 %, of the paired difference to the float file.
"""

import argparse
import json
import math
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paredown.core.candidate import Candidate, Result
from paredown.core.errors import Damaged
from paredown.core.recipe import Recipe
from paredown.core.task import Task
from paredown.cost.measure import processor
from paredown.data import tasks
from paredown.graph.frozen import Frozen, Plain, Shared
from paredown.methods.code.huffman import Huffman
from paredown.methods.code.relative_index import absolute, relative
from paredown.search.trial import Bench
from paredown.search.trial import run as trial
from paredown.targets.container import read
from paredown.targets.deliver import load
from tables import write

PARAMS = {"lenet_300_100": 266_610, "lenet_5": 431_080}
PAPER = {"lenet_300_100": 27_000, "lenet_5": 44_000}
PLANS: dict[str, dict[str, dict[str, Any]]] = {
    "lenet_300_100": {
        "float": {"epochs": 15, "lr": 2e-3, "batch": 256},
        "mend": {"epochs": 15, "lr": 2e-3, "batch": 256, "augment": 0.3},
        "last": {"epochs": 15, "lr": 2e-3, "batch": 256, "augment": 0.3},
        "share": {"epochs": 3, "lr": 1e-4, "batch": 256, "augment": 0.3},
        "code": {"epochs": 15, "lr": 2e-3, "batch": 256, "augment": 0.3},
    },
    "lenet_5": {
        "float": {"epochs": 5, "lr": 2e-3, "batch": 128},
        "mend": {"epochs": 3, "lr": 2e-3, "batch": 128, "augment": 0.3},
        "last": {"epochs": 8, "lr": 2e-3, "batch": 128, "augment": 0.3},
        "share": {"epochs": 0.5, "lr": 1e-4, "batch": 128, "augment": 0.3},
        "code": {"epochs": 8, "lr": 2e-3, "batch": 128, "augment": 0.3},
    },
}
ROUNDS = {"lenet_300_100": (0.5, 0.75, 0.88, 0.92), "lenet_5": (0.5, 0.8, 0.92)}
"""Shares of the weights at zero, one after the other; the paper has 0.92 of both networks' at zero in the end."""


def first(net: str) -> list[dict[str, Any]]:
    """Return the float training that every recipe begins with."""
    return [{"part": "train.finetune", "plan": PLANS[net]["float"]}]


def deep(net: str, rounds: tuple[float, ...], clusters: int) -> list[dict[str, Any]]:
    """Return Deep Compression: prune by size and train on, round after round; share by k-means and train the shared values."""
    plans = PLANS[net]
    steps = first(net)
    for sparsity in rounds:
        steps.append({"part": "prune.weights", "sparsity": sparsity, "scope": "global"})
        steps.append({"part": "train.finetune", "plan": plans["last" if sparsity == rounds[-1] else "mend"]})
    steps.append({"part": "share.kmeans", "clusters": clusters, "init": "linear"})
    return [*steps, {"part": "train.finetune", "habits": [{"part": "habit.centroids"}], "plan": plans["share"]}]


def coded(net: str, size: int, bits: int = 3, share: float = 0.3) -> list[dict[str, Any]]:
    """Return ours: learned steps under a price of coded bytes, taught by the float network."""
    return [*first(net), {
        "part": "quantize.learned_step", "bits": bits, "bias_bits": 6, "habits": [{"part": "habit.coded_size", "bytes": size}],
        "loss": {"part": "loss.soften", "share": share}, "plan": PLANS[net]["code"],
    }]  # fmt: skip


def rounded(net: str, size: int) -> list[dict[str, Any]]:
    """Return rounding without training, for a number of bytes."""
    return [*first(net), {"part": "quantize.rate_distortion", "bytes": size}]


def ways(net: str) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Return {way: {setting: steps}}."""
    dense = net == "lenet_300_100"
    rounds = [ROUNDS[net][:upto] for upto in range(3, len(ROUNDS[net]) + 1)]
    sizes = (5600, 8000, 11000) if dense else (8000, 14000, 20000)
    posts = (34000, 48000) if dense else (40000, 56000)
    return {
        "float": {"": first(net)},
        "deep_compression": {f"{100 * (1 - some[-1]):.0f} %, {k} values": deep(net, some, k) for some in rounds for k in ((32, 16) if dense else (32,))},
        "ours": {f"{size} bytes": coded(net, size) for size in sizes},
        "rate_distortion": {f"{size} bytes": rounded(net, size) for size in posts},
    }  # fmt: skip


def paper_file(net: Frozen) -> bytes:
    """Return the paper's storage of a network whose weights are shared; raises Damaged unless it reads back the same."""
    out, huffman = bytearray(), Huffman()
    for name, stored in net.tensors.items():
        if isinstance(stored, Plain):
            out += stored.array.astype(np.float32).tobytes()
            continue
        if not isinstance(stored, Shared):
            raise Damaged(f"{name} is neither plain nor shared")
        order = np.argsort(np.abs(stored.centroids), kind="stable")
        values, codes = stored.centroids[order], np.argsort(order)[stored.codes.astype(np.int64)]
        if values[0] != 0:  # nothing was pruned here: the code 0 is for zeros all the same
            values, codes = np.concatenate([[0], values]), codes + 1
        v, z = relative(codes, 8 if codes.ndim > 2 else 5)
        parts = [huffman.encode(v), huffman.encode(z)]
        back = absolute(huffman.decode(parts[0], len(v)), huffman.decode(parts[1], len(z)), codes.size)
        if (values[back] != stored.value.ravel()).any():
            raise Damaged(f"{name} does not read back")
        out += len(values).to_bytes(2, "little") + values.astype(np.float32).tobytes()
        for one in parts:
            out += len(v).to_bytes(4, "little") + len(one).to_bytes(4, "little") + one
    return bytes(out)


def densities(net: Frozen) -> str:
    """Return the percentage of each weight that is not zero."""
    weights = [stored.value for stored in net.tensors.values() if stored.value.ndim > 1]
    return " ".join(f"{100 * np.count_nonzero(w) / w.size:.1f}" for w in weights)


def place(work: Path, net: str, seed: int, way: str, setting: str) -> Path:
    """Return where a row is kept."""
    name = setting.replace(" ", "_").replace("%", "pc").replace(",", "")
    return work / "rows" / f"{net}-{seed}-{way}-{name}.json"


def run(asked: argparse.Namespace) -> None:
    """Fill in the rows that the folder of work lacks."""
    task = tasks.load("mnist")
    for seed in asked.seeds:
        for net in asked.nets:
            for way, settings in ways(net).items():
                for setting, steps in settings.items() if way in asked.ways else ():
                    path = place(asked.work, net, seed, way, setting)
                    if not path.exists() and (not asked.settings or setting in asked.settings):
                        attempt(path, task, (net, seed, way, setting), steps)


def attempt(path: Path, task: Task, key: tuple[str, int, str, str], steps: list[dict[str, Any]]) -> None:
    """Make one row: the recipe from the deepest prefix there is, its file, its accuracy on validation."""
    candidate = Candidate({"model": key[0]}, Recipe.of_json(steps), key[1], "mnist")
    result, _ = trial(candidate, Bench(task, "cpu", path.parents[1] / key[0]))
    row: dict[str, Any] = dict(zip(("net", "seed", "way", "setting"), key, strict=True))
    if result.failed:
        row |= {"failed": result.failed}
    else:
        row |= facts(result)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".yaml").write_text(candidate.recipe.to_yaml())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row))
    print(json.dumps(row), flush=True)


def facts(result: Result) -> dict[str, Any]:
    """Return what is known of a written file before test is met."""
    made = result.artifacts[0]
    net, quality = read(Path(made.path).read_bytes()), made.quality
    assert quality is not None
    shared = any(isinstance(stored, Shared) for stored in net.tensors.values())
    return {
        "bytes": made.bytes, "paper_bytes": len(paper_file(net)) if shared else "", "val": quality.value, "mismatches": made.mismatches,
        "nonzero_percent": densities(net), "steps": [dict(step) for step in result.steps], "seconds": round(result.seconds, 1),
        "path": made.path,
    }  # fmt: skip


@cache
def met(path: str) -> np.ndarray:
    """Return which test pictures a file gets right; kept beside it, so that they are met once."""
    kept = Path(path).with_suffix(".test.npy")
    if not kept.exists():
        task = tasks.load("mnist")
        scores = load(path)(task.inputs("test"))
        np.save(kept, scores.argmax(1) == task.splits["test"].y)
    return np.load(kept)


def chosen(rows: list[dict[str, Any]], floor: float) -> tuple[dict[str, Any], bool]:
    """Return the smallest row that is not below the floor on validation, else the best one; and whether it holds."""
    held = [row for row in rows if row["val"] >= floor]
    return (min(held, key=lambda row: row["bytes"]), True) if held else (max(rows, key=lambda row: row["val"]), False)


def table(asked: argparse.Namespace) -> None:
    """Write every file met on validation, and the chosen ones on test."""
    found = [json.loads(path.read_text()) for path in sorted((asked.work / "rows").glob("*.json"))]
    rows = [row for row in found if "failed" not in row]
    plain = ("net", "seed", "way", "setting", "bytes", "paper_bytes", "val", "mismatches", "nonzero_percent", "seconds")
    lines = []
    for net, seed in sorted({(row["net"], row["seed"]) for row in rows}):
        own = [row for row in rows if (row["net"], row["seed"]) == (net, seed)]
        whole = next(row for row in own if row["way"] == "float")
        for way in ways(net):
            if some := [row for row in own if row["way"] == way]:
                lines.append(line(*chosen(some, whole["val"]), whole))
    write("deep_compression_validation.csv", sorted(({k: row[k] for k in plain} for row in rows), key=lambda r: [str(r[k]) for k in plain[:3]] + [r["bytes"]]))  # fmt: skip
    write("deep_compression.csv", lines)
    for one in lines:
        print(*(one[k] for k in ("net", "seed", "way", "setting", "bytes", "times", "paper_bytes", "test", "low", "high", "holds")))  # fmt: skip


def line(row: Mapping[str, Any], holds: bool, whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return a chosen file's line of the table."""
    right, base = met(row["path"]), met(whole["path"])
    pairs, size = right.astype(float) - base.astype(float), 4 * PARAMS[row["net"]]
    half = 1.96 * float(pairs.std(ddof=1)) / math.sqrt(len(pairs))
    return {
        "net": row["net"], "seed": row["seed"], "way": row["way"], "setting": row["setting"], "bytes": row["bytes"],
        "times": round(size / row["bytes"], 1), "paper_bytes": row["paper_bytes"],
        "paper_times": round(size / row["paper_bytes"], 1) if row["paper_bytes"] else "", "published_bytes": PAPER[row["net"]],
        "holds": holds, "val": row["val"], "test": round(float(right.mean()), 4), "n": len(right), "float_val": whole["val"],
        "float_test": round(float(base.mean()), 4), "difference": round(float(pairs.mean()), 4), "low": round(float(pairs.mean()) - half, 4),
        "high": round(float(pairs.mean()) + half, 4), "nonzero_percent": row["nonzero_percent"], "mismatches": row["mismatches"],
        "seconds": row["seconds"], "threads": 1, "cpu": processor(), "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("run", "table"))
    parser.add_argument("nets", nargs="*", default=list(PARAMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--ways", nargs="+", default=["float", "deep_compression", "ours", "rate_distortion"])
    parser.add_argument("--settings", nargs="+", default=[], help="only these settings")
    parser.add_argument("--work", type=Path, default=Path("/tmp/deep_compression"))
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    {"run": run, "table": table}[asked.verb](asked)


if __name__ == "__main__":
    main()
