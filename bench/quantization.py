"""Accuracy against bits, ours beside NNCF, torchao and Brevitas on the same trained networks: MNIST and CIFAR-10-JPEG.

    pip install torch==2.13.0 nncf torchao brevitas      # in an environment of their own, with paredown
    python bench/quantization.py train mnist cifar10-jpeg            # three seeds each, into --work (resumes)
    python bench/quantization.py run mnist --tools paredown,brevitas # every width, with and without training (resumes)
    python bench/quantization.py table                               # bench/results/quantization.csv and _summary.csv

A row is one (task, seed, width, mode, tool). mode "ptq": 512 calibration pictures, no labels. mode "qat": then (or instead) the
same batches of the train split in the same loop (AdamW, cosine; the others with cross-entropy, ours with the float network's
softened scores, which are part of a recipe here): `--epochs`, or for a peer that would take
longer what fits the time that ours took. Accuracy is on all 10,000
test pictures, met once by each row (mode "either", in the summary: of the two the one that is better on validation, for each tool); ours is that of the exported ONNX file in ONNX Runtime, the others' that of their
own fake-quantized module. All layers have the width, the first and the last too.
"""

import argparse
import csv
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.data import tasks
from paredown.graph.capture import capture
from paredown.graph.fold import fold_batchnorm
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.loss.soften import Soften
from paredown.methods.quantize.activations import Activations
from paredown.methods.quantize.adaround import AdaRound
from paredown.methods.quantize.binary_weights import BinaryWeights
from paredown.methods.quantize.correct_bias import correct_
from paredown.methods.quantize.learned_step import LearnedStepQuantization
from paredown.methods.quantize.uniform import Uniform
from paredown.targets.onnx import Onnx
from paredown.targets.packed import Packed
from paredown.train.data import Data
from paredown.train.fit import Extras, fit
from paredown.zoo.resnet import resnet_small
from quantizers import PEERS, WIDTHS, Width
from tables import RESULTS, write

NETS = {"mnist": {"depth": 8, "width": 8}, "cifar10-jpeg": {"depth": 20, "width": 8}}
PLANS = {
    "mnist": Plan(epochs=4, batch=128, lr=5e-3, augment=0.5, precision="bfloat16"),
    "cifar10-jpeg": Plan(
        epochs=12, batch=128, lr=6e-3, schedule="onecycle", augment=0.5, weight_decay=0.02, precision="bfloat16"
    ),
}
SEEDS = (0, 1, 2)
TOOLS = ("paredown", *PEERS)
HARD, SOFT = CrossEntropy(), Soften(temperature=4.0, share=1.0)


@dataclass(frozen=True)
class Case:
    """A trained network, its data and the plan of a quantization-aware training."""

    task: str
    seed: int
    model: nn.Module
    data: dict[str, Data]
    plan: Plan

    limit_s: float = math.inf

    def fit(self, net: nn.Module, loss: Any = HARD, **kwargs: Any) -> Any:
        """Train in place on the train split, for as much of the plan as four steps promise to fit the limit."""
        data, plan = self.data["train"], self.plan
        if self.limit_s < math.inf:
            few, start = Data(data.x[: 4 * plan.batch], data.y[: 4 * plan.batch]), time.perf_counter()
            fit(net, few, loss, plan=replace(plan, epochs=1, lr=1e-6))
            epoch_s = (time.perf_counter() - start) / len(few) * len(data)
            plan = replace(plan, epochs=max(0.1, min(plan.epochs, self.limit_s / epoch_s)))
        return fit(net, data, loss, plan=plan, seed=self.seed, extras=Extras(teacher=self.model))


def trained(work: Path, name: str, seed: int, epochs: float) -> Case:
    """Return a case, training its network unless `work` holds it."""
    task, path = tasks.load(name), work / f"{name}-{seed}.safetensors"
    data = {role: Data.of(task, role) for role in ("train", "val", "calib", "test")}
    torch.manual_seed(seed)
    model = resnet_small(task.shape, len(task.classes), **NETS[name])
    if path.exists():
        model.load_state_dict(load_file(path))
    else:
        fit(model, data["train"], CrossEntropy(), plan=PLANS[name], seed=seed)
        save_file(model.state_dict(), path)
    return Case(name, seed, model.eval(), data, Plan(epochs=epochs, batch=128, lr=2e-3, augment=0.5))


def ours(case: Case, width: Width, train: bool) -> Net:
    """Return our quantized network: AdaRound (8 bits: nearest) with corrected biases; or learned steps, signs for one bit."""
    calib, notes = case.data["calib"].x, Work({"calib": (case.data["calib"].x, None), "fit": case.fit})
    net = capture(case.model, calib[:2])
    ranges = Activations(width.activation, "mse")
    if train and width.binary:
        learned = BinaryWeights(real_ends=False, loss=SOFT, plan=case.plan).apply(net, notes)
        return ranges.apply(fold_batchnorm(learned)[0], notes)
    if train:
        symmetric = width.low == -width.high
        step = LearnedStepQuantization(
            width.bits, 0, width.activation, SOFT, plan=case.plan, granularity="channel", symmetric=symmetric,
            start="mse",
        )  # fmt: skip
        return fold_batchnorm(step.apply(net, notes))[0]
    folded = fold_batchnorm(net)[0]
    rounded = ranges.apply(folded, notes)
    step = Uniform(8) if width.bits == 8 else AdaRound(width.bits, reach=0.0, iterations=400, batch=32)
    rounded = step.apply(rounded, notes)
    correct_(rounded, folded, calib, notes)
    return rounded


def predictions(
    case: Case, tool: str, width: Width, train: bool
) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Return (classes of val and test, what else is known) or None where the tool has no such width."""
    start = time.perf_counter()
    if tool == "paredown":
        net = ours(case, width, train)
        spent = time.perf_counter() - start
        with TemporaryDirectory() as folder:
            files = {target.suffix: target.write(freeze(net), Path(folder)) for target in (Onnx(), Packed())}
            run = Onnx().load(Path(files[".onnx"].path))
            found = {role: run(case.data[role].x.numpy()).argmax(1) for role in ("val", "test")}
        return found, {"seconds": spent, "onnx_bytes": files[".onnx"].bytes, "packed_bytes": files[".pdn"].bytes}
    made = PEERS[tool](case.model, case.data["calib"].x, width, case.fit if train else None)
    if made is None:
        return None
    spent = time.perf_counter() - start
    return {role: classes(made, case.data[role].x) for role in ("val", "test")}, {"seconds": spent}


@torch.no_grad()
def classes(model: Callable[[Tensor], Tensor], x: Tensor) -> np.ndarray:
    """Return the class of each sample."""
    return torch.cat([model(part).argmax(1) for part in x.split(500)]).numpy()


def run(asked: argparse.Namespace) -> None:
    """Fill in the rows that the folder of work lacks."""
    work, tools, modes = asked.work, asked.tools.split(","), asked.modes.split(",")
    for name in asked.tasks:
        for seed in asked.seeds:
            case = trained(work, name, seed, asked.epochs)
            keep(
                work,
                case,
                "float",
                "float",
                "float",
                {r: classes(case.model, case.data[r].x) for r in ("val", "test")},
                {},
            )
            for mode in modes:
                for width in (w for w in WIDTHS if w.name in asked.widths):
                    for tool in tools:
                        if not place(work, name, seed, width.name, mode, tool).exists():
                            attempt(work, case, width, mode, tool)


def attempt(work: Path, case: Case, width: Width, mode: str, tool: str) -> None:
    """Make one row; what a peer raises is kept as its answer. A peer trains at most as long as we did."""
    mark = place(work, case.task, case.seed, width.name, mode, "paredown")
    if tool != "paredown" and mode == "qat" and mark.exists():
        case = replace(case, limit_s=json.loads(mark.read_text())["seconds"])
    try:
        found = predictions(case, tool, width, mode == "qat")
    except Exception as error:  # a peer's failure is a result
        if tool == "paredown":
            raise
        found, why = None, f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
    else:
        why = "" if found else "has no such width"
    if found is None:
        path = place(work, case.task, case.seed, width.name, mode, tool)
        path.write_text(json.dumps({"why": why}))
        print(case.task, case.seed, width.name, mode, tool, why, flush=True)
    else:
        keep(work, case, width.name, mode, tool, *found)


def place(work: Path, task: str, seed: int, width: str, mode: str, tool: str) -> Path:
    """Return where a row is kept."""
    return work / f"{task}_{seed}_{width}_{mode}_{tool}.json"


def keep(
    work: Path, case: Case, width: str, mode: str, tool: str, found: dict[str, np.ndarray], known: dict[str, Any]
) -> None:
    """Write a row: accuracies, and which test pictures were right."""
    right = {role: found[role] == case.data[role].y.numpy() for role in found}
    row = {"val": float(right["val"].mean()), "test": float(right["test"].mean()), **known}
    path = place(work, case.task, case.seed, width, mode, tool)
    np.save(path.with_suffix(".npy"), np.packbits(right["test"]))
    path.write_text(json.dumps(row))
    print(case.task, case.seed, width, mode, tool, json.dumps(row), flush=True)


def table(work: Path) -> None:
    """Write every row, and ours against the best peer: the mean difference over seeds and pictures with its interval."""
    rows, rights, best = [], {}, {}
    for path in sorted(work.glob("*_*_*_*_*.json")):
        task, seed, width, mode, tool = path.stem.split("_")
        row = json.loads(path.read_text())
        rows.append({"task": task, "seed": int(seed), "width": width, "mode": mode, "tool": tool, "n": 10_000,
                     **{k: row.get(k, "") for k in ("val", "test", "seconds", "onnx_bytes", "packed_bytes", "why")}})  # fmt: skip
        if "test" not in row:
            continue
        right = np.unpackbits(np.load(path.with_suffix(".npy")))[:10_000].astype(int)
        rights.setdefault((task, width, mode), {}).setdefault(tool, {})[int(seed)] = right
        if row["val"] > best.get((task, width, tool, seed), 0):
            best[task, width, tool, seed] = row["val"]
            rights.setdefault((task, width, "either"), {}).setdefault(tool, {})[int(seed)] = right
    write("quantization.csv", rows)
    lines = [summary(key, tools) for key, tools in sorted(rights.items()) if "paredown" in tools and len(tools) > 1]
    write("quantization_summary.csv", lines)


def summary(key: tuple[str, str, str], tools: dict[str, dict[int, np.ndarray]]) -> dict[str, Any]:
    """Return one width's line: means over the seeds that all tools there have, and ours less the best peer's.

    The interval is 95 %, of the paired difference over all those seeds' pictures.
    """
    seeds = sorted(set.intersection(*(set(own) for own in tools.values())))
    line: dict[str, Any] = dict(zip(("task", "width", "mode"), key, strict=True)) | {"seeds": len(seeds)}
    if not seeds:
        return line | dict.fromkeys((*TOOLS, "best", "difference", "low", "high"), "")
    means = {tool: float(np.mean([own[seed].mean() for seed in seeds])) for tool, own in tools.items()}
    best = max((tool for tool in means if tool != "paredown"), key=means.__getitem__)
    pairs = np.concatenate([tools["paredown"][seed] - tools[best][seed] for seed in seeds])
    mean, half = float(pairs.mean()), 1.96 * float(pairs.std(ddof=1)) / math.sqrt(len(pairs))
    line |= {tool: round(means[tool], 4) if tool in means else "" for tool in TOOLS}
    return line | {
        "best": best,
        "difference": round(mean, 4),
        "low": round(mean - half, 4),
        "high": round(mean + half, 4),
    }


def shown(path: Path) -> None:
    """Print a table."""
    for row in csv.reader(path.open()):
        print("  ".join(f"{cell:>12}" for cell in row))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("train", "run", "table"))
    parser.add_argument("tasks", nargs="*", default=[])
    parser.add_argument("--work", type=Path, default=Path("runs/quantization"))
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--widths", nargs="*", default=[width.name for width in WIDTHS])
    parser.add_argument("--tools", default="paredown,nncf,torchao,brevitas")
    parser.add_argument("--modes", default="ptq,qat")
    parser.add_argument("--epochs", type=float, default=0.3)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    asked.work.mkdir(parents=True, exist_ok=True)
    if asked.verb == "train":
        for name in asked.tasks:
            for seed in asked.seeds:
                trained(asked.work, name, seed, asked.epochs)
    elif asked.verb == "run":
        run(asked)
    else:
        table(asked.work)
        shown(RESULTS / "quantization_summary.csv")
