"""Accuracy against file bytes: one width everywhere, widths by each sensitivity, and widths that HAQ finds.

    python bench/mixed_precision.py                                    # digits, three seeds, about fifteen minutes
    python bench/mixed_precision.py mnist cifar10-jpeg --seeds 0 --tune 5
    python bench/mixed_precision.py mnist --checkpoint runs/x/candidates/<id>/net      # a network that is trained already

The network (`--model`, JSON) is trained, its norms folded; from then on every row starts from the same weights. Files are .pdn,
accuracy is that of the file in its own runtime on the test split, which chooses nothing: harms are measured on calibration, HAQ's rewards on validation.
"uniform" rows are the same step with one width to choose from. To bench/results/mixed_precision_<task>.csv.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from paredown.core.plan import Plan
from paredown.core.task import Task
from paredown.core.work import Work
from paredown.cost.count import count
from paredown.data.tasks import load
from paredown.graph.fold import fold_batchnorm
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.quantize.haq import Haq
from paredown.methods.quantize.mixed import Mixed
from paredown.methods.quantize.uniform import Uniform
from paredown.methods.sensitivity.divergence import Divergence
from paredown.methods.sensitivity.fisher import Fisher
from paredown.methods.sensitivity.hessian import HessianTrace
from paredown.methods.sensitivity.leave_one_out import LeaveOneOut
from paredown.targets.deliver import deliver
from paredown.train.data import Data
from paredown.train.evaluate import evaluate, scores
from paredown.train.fit import fit
from paredown.zoo.resolve import network
from tables import write

SENSITIVITIES = {
    "leave one out": LeaveOneOut(), "divergence": Divergence(), "hessian": HessianTrace(), "fisher": Fisher(),
}  # fmt: skip
MODEL = {"model": "dense", "widths": [16, 32, 64], "head": "pool"}


def ways(bits: list[float], rounding: str, plan: Plan, episodes: int) -> Iterator[tuple[str, str, float, Any]]:
    """Yield (way, granularity, bits, step) for every row of one rounding."""
    for b in (2, 3, 4, 5):
        yield "uniform", "layer", b, Mixed(float(b), rounding=rounding, widths=(b,), plan=plan)
        if rounding == "mse":
            yield "quantize.uniform", "layer", b, Uniform(b, bias_bits=8)
    for mean in bits:
        for name, part in SENSITIVITIES.items():
            for granularity in ("layer", "channel"):
                widths = (0, 1, 2, 3, 4, 5, 6, 8) if granularity == "channel" else (1, 2, 3, 4, 5, 6, 8)
                yield name, granularity, mean, Mixed(mean, granularity, part, rounding, widths=widths, plan=plan)
        for reward in ("metric", "loss"):
            yield (
                f"haq, {reward}", "layer", mean,
                Haq(mean, 1, 8, episodes=episodes, warm=episodes // 5, reward=reward, rounding=rounding, plan=plan),
            )  # fmt: skip


def trained(task: Task, spec: dict[str, Any], checkpoint: str, plan: Plan, seed: int) -> Net:
    """Return the network to start from, its norms folded."""
    if checkpoint:
        return fold_batchnorm(Net.load(checkpoint.format(seed=seed)))[0].eval()
    net = network(spec, task.shape, len(task.classes), seed)
    fit(net, Data.of(task, "train"), CrossEntropy(), plan=plan, seed=seed)
    return fold_batchnorm(net)[0].eval()


def services(task: Task, seed: int) -> Work:
    """Return what steps may use."""
    train, calib, val = (Data.of(task, role) for role in ("train", "calib", "val"))

    def fitting(net: Net, loss: Any, habits: Any, plan: Plan) -> Any:
        return fit(net, train, loss, habits, plan, seed)

    calibration = (calib.x[:1024], calib.y[:1024])
    return Work(
        {"calib": calibration, "fit": fitting, "evaluate": lambda net: evaluate(net, val, task.metric, "val")}, seed
    )


def measured(net: Net, task: Task) -> dict[str, Any]:
    """Return a network's file bytes, where they go, its accuracy as a file on test, and its counted bits."""
    with tempfile.TemporaryDirectory() as folder:
        found = deliver(freeze(net), scores(net, Data.of(task, "test")), task, "test", "packed", Path(folder))
    assert found.quality is not None
    bits = [
        net.slot(name).code_bits() / net.slot(name).codes.numel()
        for name, _ in net.weighted()
        if hasattr(net.slot(name), "code_bits")
    ]
    sizes = [net.slot(name)().numel() for name, _ in net.weighted()]
    mean = sum(b * s for b, s in zip(bits, sizes, strict=True)) / sum(sizes) if bits else 32.0
    return {"bytes": found.bytes, "weight_bytes": found.itemised.get("weights", 0), "scale_bytes": found.itemised.get("scales", 0),
            "accuracy": round(found.quality.value, 4), "mismatches": found.mismatches, "mean_bits": round(mean, 3),
            "bops": count(net).bops, "widths": " ".join(f"{b:.2g}" for b in bits)}  # fmt: skip


def rows_of(name: str, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield one row for each way on one task, and print it."""
    task, spec = load(name), json.loads(asked.model)
    for seed in asked.seeds:
        net = trained(task, spec, asked.checkpoint, Plan(epochs=asked.epochs, augment=asked.augment), seed)
        tune = Plan(epochs=asked.tune, lr=asked.lr, augment=asked.augment)
        steps = [("float", "", "", 32.0, None)]
        for rounding in asked.rounding:
            found = ways(asked.bits, rounding, tune, asked.episodes)
            steps += [(rounding, *way) for way in found if not asked.only or way[0] in asked.only]
        for rounding, way, granularity, bits, step in steps:
            start = time.perf_counter()
            torch.manual_seed(seed)
            out = net if step is None else step.apply(net, services(task, seed)).eval()
            row = {"task": name, "seed": seed, "rounding": rounding, "way": way, "granularity": granularity, "asked_bits": bits,
                   **measured(out, task), "seconds": round(time.perf_counter() - start, 2),
                   "date": datetime.now(UTC).date().isoformat()}  # fmt: skip
            print(f"{name} {seed} {rounding:8s}{way:17s}{granularity:8s}{bits:5g} -> {row['mean_bits']:6.2f} bits"
                  f" {row['bytes']:8d} B  {row['accuracy']:.4f}  {row['widths'][:40]}", flush=True)  # fmt: skip
            yield row


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=["digits"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--model", default=json.dumps(MODEL))
    parser.add_argument(
        "--checkpoint",
        default="",
        help="a folder that Net.save wrote, {seed} in its name standing for the seed; else the model is trained",
    )
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--tune", type=float, default=20, help="epochs of the trained rounding")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--augment", type=float, default=0.0)
    parser.add_argument("--bits", type=float, nargs="+", default=[1.5, 2, 3, 4])
    parser.add_argument("--rounding", nargs="+", default=["mse", "trained"])
    parser.add_argument("--only", nargs="+", default=[], help="ways, by name; else all of them")
    parser.add_argument("--episodes", type=int, default=200)
    asked = parser.parse_args()
    for name in asked.tasks:
        write(f"mixed_precision_{name.replace('/', '_')}.csv", list(rows_of(name, asked)))


if __name__ == "__main__":
    main()
