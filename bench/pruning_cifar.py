"""Channels of a residual network on CIFAR-10-JPEG: ours beside Torch-Pruning 1.6.1, at equal MACs after equal training.

    pip install torch==2.13.0 torch-pruning==1.6.1             # in an environment of their own, with paredown
    PAREDOWN_DATA=… python bench/pruning_cifar.py train        # three networks, into --work
    python bench/pruning_cifar.py choose --tune 2              # every candidate of every tool, seed 0, on validation
    python bench/pruning_cifar.py run                          # the chosen ones: seeds x speed-ups x tools
    python bench/pruning_cifar.py table                        # bench/results/pruning_cifar.csv and _summary.csv

A row is one (seed, speed-up, tool). All start from the same network and train for `--tune` epochs in all, over the same batches and
moves, AdamW under one cosine to zero for each of their trainings (Torch-Pruning's "own" loop: see pruners.py), bfloat16, channels last.

paredown                  a recipe: which channels, whether repaired, then distilled from the network as it was
torch_pruning             its group norm, global; all epochs with cross-entropy after pruning
torch_pruning_sparse      the same after training under its regulariser, which takes its share of the epochs
torch_pruning_distilled   torch_pruning with our loss: not a recipe of theirs, but says what is due to the choice of channels

Each tool's candidate is the one that is best on validation for seed 0 at the first speed-up; test is
met once by each row. MACs are counted by ours on the captured network, at most the whole's / speed-up.
Every verb resumes: rows, networks and, in our loop, epochs that are in --work are not made again. `prune_s`, `train_s`: processor seconds of one thread; those of a resumed training are projected from what was seen of it.
"""

import argparse
import copy
import csv
import functools
import json
import math
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from paredown.core.plan import Plan
from paredown.core.task import Task
from paredown.core.work import Work
from paredown.cost.count import count
from paredown.data import tasks
from paredown.graph.capture import capture
from paredown.graph.net import Net
from paredown.methods.habit.slimming import Slimming
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.loss.soften import Soften
from paredown.train.data import Data
from paredown.train.evaluate import evaluate
from paredown.train.fit import Extras, fit
from paredown.zoo.resnet import resnet_small
from pruners import CANDIDATES, Recipe, Setting, own_fit, pruner_of, regularized, thin, thinned
from tables import RESULTS, write

TASK = "cifar10-jpeg"
HARD = CrossEntropy()


DISTILLED = "torch_pruning_distilled"
TOOLS = (*CANDIDATES, DISTILLED)
PEERS = ("torch_pruning", "torch_pruning_sparse")


def last(model: nn.Module) -> nn.Module:
    """Lay the weights out channels last, in place; what the convolutions make follows. Halves the time of a step."""
    for p in model.parameters():
        if p.dim() == 4:
            p.data = p.data.contiguous(memory_format=torch.channels_last)
    return model


@functools.cache
def cifar() -> Task:
    """Return the task, whose pictures take ten seconds to decode."""
    return tasks.load(TASK)


class Clock:
    """Processor seconds of a training, projected to the whole of it where only its rest was seen."""

    def __init__(self) -> None:
        self.start, self.first = time.process_time(), (0.0, math.nan)

    def __call__(self, t: float) -> None:
        if math.isnan(self.first[1]):
            self.first = (t, time.process_time())

    def whole(self) -> float:
        """Return the seconds of the whole training, which ends now."""
        now, (t, at) = time.process_time(), self.first
        return now - self.start if math.isnan(at) or t > 0.9 else (now - at) / (1 - t)


@dataclass(frozen=True)
class Case:
    """A trained network, its data and how things are trained from here."""

    folder: Path
    seed: int
    model: nn.Module
    data: dict[str, Data]
    plan: Plan
    episodes: int
    net: Net = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "net", capture(self.model, self.data["calib"].x[:2]))

    def fit(self, net: nn.Module, share: float, loss: Any, key: str, habits: tuple[Any, ...] = ()) -> float:
        """Train in place for a share of the epochs; return the processor seconds. A training that is cut short resumes."""
        clock, plan = Clock(), replace(self.plan, epochs=max(0.1, share * self.plan.epochs))
        last(net)
        teacher = last(self.model) if isinstance(loss, Soften) else None
        extras = Extras(teacher=teacher, watch=clock, checkpoint=self.folder / f"{key}.ckpt", checkpoint_epochs=1)
        fit(net, self.data["train"], loss, habits, plan, self.seed, extras)
        return clock.whole()

    def work(self) -> Work:
        """Return what the steps may use."""
        calib, val, task = self.data["calib"], self.data["val"], cifar()
        rate = lambda net: evaluate(net, val, task.metric, "val")  # noqa: E731
        return Work({"calib": (calib.x, calib.y), "evaluate": rate}, self.seed)


def settled(asked: argparse.Namespace) -> None:
    """Write down what all rows of a folder share. Raises SystemExit where the folder was begun with something else."""
    names = ("depth", "width", "epochs", "lr", "tune_lr", "batch", "precision", "samples")
    mine, path = {name: getattr(asked, name) for name in names}, asked.work / "asked.json"
    if path.exists() and json.loads(path.read_text()) != mine:
        raise SystemExit(f"{path} says {path.read_text()}, not {json.dumps(mine)}: take another --work")
    path.write_text(json.dumps(mine))


def trained(asked: argparse.Namespace, seed: int) -> Case:
    """Return a case, training its network unless the folder holds it."""
    task, path = cifar(), asked.work / f"base-{seed}.safetensors"
    data = {role: Data.of(task, role) for role in ("train", "val", "calib", "test")}
    if asked.samples:
        data["train"] = replace(data["train"], x=data["train"].x[: asked.samples], y=data["train"].y[: asked.samples])
    torch.manual_seed(seed)
    model = resnet_small(task.shape, len(task.classes), depth=asked.depth, width=asked.width)
    plan = Plan(epochs=asked.tune, batch=asked.batch, lr=asked.tune_lr, weight_decay=0.02, augment=0.5, precision=asked.precision)  # fmt: skip
    if path.exists():
        model.load_state_dict(load_file(path))
    else:
        first = Case(asked.work, seed, model.eval(), data, replace(plan, lr=asked.lr, schedule="onecycle", epochs=asked.epochs), 0)  # fmt: skip
        seconds = first.fit(model, 1.0, HARD, f"base-{seed}")
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
        print("base", seed, "seconds", round(seconds), flush=True)
    return Case(asked.work, seed, model.eval(), data, plan, asked.episodes)


def ours(case: Case, recipe: Recipe, speed: float, key: str) -> tuple[Net, dict[str, Any]]:
    """Return our network, and what it took."""
    loss = Soften(temperature=4.0, share=recipe.share)
    net, left, spent = case.net.copy(), 1.0, {"prune_s": 0.0, "train_s": 0.0}
    whole = count(net).macs
    if recipe.slim:
        spent["train_s"] += case.fit(net, recipe.slim, HARD, f"{key}-slim", (Slimming(1e-4),))
        left -= recipe.slim
    for number in range(1, recipe.rounds + 1):
        start = time.process_time()
        net = thin(recipe, net, whole / speed ** (number / recipe.rounds), case.work(), case.episodes)
        spent["prune_s"] += time.process_time() - start
        share = left if number == recipe.rounds else 0.2
        raw = evaluate(net, case.data["val"], cifar().metric, "val").value
        spent["train_s"] += case.fit(net, share, loss, f"{key}-{number}")
        left -= share
    return net, spent | {"val_untrained": raw}


def sparsely(case: Case, setting: Setting, name: str) -> tuple[nn.Module, float]:
    """Return the network after Torch-Pruning's sparse learning, and its seconds; kept, for all speed-ups share it."""
    x, path = case.data["calib"].x, case.folder / f"sparse-{case.seed}-{name}-{case.plan.epochs:g}.safetensors"
    pruner = pruner_of(copy.deepcopy(case.model), x, setting)
    model = pruner.model
    if path.exists():
        model.load_state_dict(load_file(path))
        return model.eval(), json.loads(path.with_suffix(".json").read_text())["train_s"]
    if setting.loop == "own":
        seconds = _own(case, model, setting.sparse, pruner, setting)
    else:
        with regularized(pruner):
            seconds = case.fit(model, setting.sparse, HARD, path.stem)
    path.with_suffix(".json").write_text(json.dumps({"train_s": seconds}))
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return model.eval(), seconds


def theirs(case: Case, setting: Setting, speed: float, names: tuple[str, str], loss: Any) -> tuple[nn.Module, dict]:
    """Return Torch-Pruning's network, and what it took. names: of the candidate, and of the row."""
    x, spent = case.data["calib"].x, 0.0
    model = case.model
    if setting.sparse:
        model, spent = sparsely(case, setting, names[0])
    start = time.process_time()
    made = thinned(model, x, count(case.net).macs / speed, setting)
    known = {"prune_s": time.process_time() - start, "val_untrained": _right(made, case.data["val"]).mean().item()}
    if setting.loop == "own":
        spent += _own(case, made, 1 - setting.sparse, None, setting)
    else:
        spent += case.fit(made, 1 - setting.sparse, loss, names[1])
    return made, known | {"train_s": spent}


def _own(case: Case, model: nn.Module, share: float, pruner: Any, setting: Setting) -> float:
    start = time.process_time()
    last(model)
    own_fit(model, case.data["train"], replace(case.plan, epochs=max(0.1, share * case.plan.epochs)), case.seed, pruner, setting)  # fmt: skip
    return time.process_time() - start


@torch.no_grad()
def _right(model: nn.Module, data: Data) -> np.ndarray:
    """Return which samples are right, in eval mode: a net that was just captured is in training."""
    model.eval()
    found = torch.cat([model(part).argmax(1) for part in data.x.split(500)])
    return (found == data.y).numpy()


def row_of(case: Case, tool: str, candidate: str, speed: float, key: str, roles: tuple[str, ...]) -> dict[str, Any]:
    """Make one row: a thin network is trained, kept as a Net and rated on these roles."""
    kind = "torch_pruning" if tool == DISTILLED else tool
    asked = CANDIDATES[kind][candidate]
    made: nn.Module
    if tool == "paredown":
        made, known = ours(case, asked, speed, key)
    else:
        loss = Soften(temperature=4.0, share=0.7) if tool == DISTILLED else HARD
        setting = replace(asked, loop="ours") if tool == DISTILLED else asked
        made, known = theirs(case, setting, speed, (candidate, key), loss)
    net = capture(made, case.data["calib"].x[:2])
    net.save(case.folder / "thin" / key)
    whole, thin_cost = count(case.net), count(net)
    right = {role: _right(net, case.data[role]) for role in roles}
    if "test" in right:
        np.save(case.folder / f"{key}.npy", np.packbits(right["test"]))
    return {
        "candidate": candidate, **{role: float(own.mean()) for role, own in right.items()}, "n": len(case.data["test"]), "macs": thin_cost.macs, "whole_macs": whole.macs,
        "params": thin_cost.params, "whole_params": whole.params, "of_budget": thin_cost.macs * speed / whole.macs,
        **known, "epochs": case.plan.epochs, "batch": case.plan.batch, "lr": case.plan.lr, "precision": case.plan.precision,
    }  # fmt: skip


def attempt(case: Case, tool: str, candidate: str, speed: float, key: str, roles: tuple[str, ...]) -> dict[str, Any]:
    """Return a row, making it unless it is there. What a peer raises is kept as its answer."""
    path = case.folder / f"{key}.json"
    if not path.exists():
        torch.manual_seed(case.seed)
        try:
            row = row_of(case, tool, candidate, speed, key, roles)
        except Exception as error:  # a peer's failure is a result
            if tool == "paredown":
                raise
            row = {"candidate": candidate, "why": f"{type(error).__name__}: {str(error)[:120]}"}
        path.write_text(json.dumps(row))
        print(key, json.dumps(row), flush=True)
    row = json.loads(path.read_text())
    if row.get("epochs", case.plan.epochs) != case.plan.epochs:
        raise SystemExit(
            f"{path} was trained for {row['epochs']:g} epochs, not {case.plan.epochs:g}: take another --work"
        )
    return row


def choose(asked: argparse.Namespace) -> None:
    """Try every candidate at the first seed and speed-up, on validation alone; keep each tool's best."""
    case, speed, best = trained(asked, asked.seeds[0]), asked.speeds[0], {}
    for tool in (t for t in asked.tools if t in CANDIDATES):
        found = {}
        for name in CANDIDATES[tool]:
            if not asked.only or name in asked.only:
                row = attempt(case, tool, name, speed, f"choose_{case.plan.epochs:g}_{speed}_{tool}_{name}", ("val",))
                found[name] = row.get("val", 0.0)
        best[tool] = max(found, key=found.__getitem__)
    path = asked.work / "chosen.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | best))
    print("chosen", json.dumps(known | best))


def run(asked: argparse.Namespace) -> None:
    """Fill in the rows that the folder of work lacks, with each tool's chosen candidate."""
    path = asked.work / "chosen.json"
    chosen = {tool: next(iter(own)) for tool, own in CANDIDATES.items()}
    chosen |= json.loads(path.read_text()) if path.exists() else {}
    for seed in asked.seeds:
        case = trained(asked, seed)
        base = asked.work / f"row_{seed}_1_float.json"
        if not base.exists():
            right = {role: _right(case.model, case.data[role]) for role in ("val", "test")}
            np.save(base.with_suffix(".npy"), np.packbits(right["test"]))
            whole = count(case.net)
            known = {
                "macs": whole.macs,
                "whole_macs": whole.macs,
                "params": whole.params,
                "whole_params": whole.params,
                "n": len(case.data["test"]),
            }
            base.write_text(json.dumps({role: float(own.mean()) for role, own in right.items()} | known))
        for speed in asked.speeds:
            for tool in asked.tools:
                kind = "torch_pruning" if tool == DISTILLED else tool
                attempt(case, tool, chosen[kind], speed, f"row_{seed}_{speed}_{tool}", ("val", "test"))


def table(asked: argparse.Namespace) -> None:
    """Write every row, and ours against each other tool and the whole network: paired over seeds and test pictures."""
    rows, rights = [], dict[tuple[str, str], dict[str, np.ndarray]]()
    for path in sorted(asked.work.glob("row_*.json")):
        _, seed, speed, tool = path.stem.split("_", 3)
        row = json.loads(path.read_text())
        rows.append({"network": f"resnet_small {asked.depth} x {asked.width}", "seed": int(seed), "speed": float(speed), "tool": tool,
                     **{name: row.get(name, "") for name in COLUMNS}, "torch": torch.__version__, "torch_pruning": version("torch-pruning"),
                     "date": datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()})  # fmt: skip
        if "test" in row:
            packed = np.load(path.with_suffix(".npy"))
            rights.setdefault((speed, tool), {})[seed] = np.unpackbits(packed)[: row["n"]].astype(int)
    write("pruning_cifar.csv", rows)
    whole = rights.get(("1", "float"), {})
    lines = []
    for speed in sorted({speed for speed, _ in rights} - {"1"}):
        beside = {tool: own for (at, tool), own in rights.items() if at == speed}
        for tool, own in sorted((beside | {"float": whole}).items()):
            lines.append({"speed": speed, "tool": tool, **compared(beside.get("paredown", {}), own)})
    write("pruning_cifar_summary.csv", lines)


COLUMNS = ("candidate", "val", "test", "n", "macs", "whole_macs", "of_budget", "params", "whole_params", "val_untrained", "prune_s", "train_s", "epochs",
           "batch", "lr", "precision", "why")  # fmt: skip


def compared(ours: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return both means over the seeds that both have, and ours less the other: the mean and 95 % interval over pictures, and over seeds.

    over_seeds: the least difference of a seed.
    """
    seeds = sorted(ours.keys() & other.keys())
    if not seeds:
        return dict.fromkeys(("seeds", "test", "paredown", "difference", "low", "high", "over_seeds"), "")
    pairs = np.concatenate([ours[seed] - other[seed] for seed in seeds])
    mean, half = float(pairs.mean()), 1.96 * float(pairs.std(ddof=1)) / math.sqrt(len(pairs))
    return {
        "seeds": len(seeds), "test": round(float(np.mean([other[s].mean() for s in seeds])), 4),
        "paredown": round(float(np.mean([ours[s].mean() for s in seeds])), 4), "difference": round(mean, 4), "low": round(mean - half, 4),
        "high": round(mean + half, 4), "over_seeds": round(min(float((ours[s] - other[s]).mean()) for s in seeds), 4),
    }  # fmt: skip


def arguments() -> argparse.Namespace:
    """Return what was asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("train", "choose", "run", "table"))
    parser.add_argument("--work", type=Path, default=Path("runs/pruning_cifar"))
    parser.add_argument("--depth", type=int, default=56)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--speeds", type=float, nargs="+", default=[2.1, 2.6])
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--only", nargs="*", default=[], help="choose among these candidates")
    parser.add_argument("--epochs", type=float, default=20, help="of the networks that are pruned")
    parser.add_argument("--tune", type=float, default=8, help="epochs in all of each pruning")
    parser.add_argument("--lr", type=float, default=6e-3)
    parser.add_argument("--tune-lr", type=float, default=3e-3)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--samples", type=int, default=0, help="of the train split (0: all), for a try")
    parser.add_argument("--episodes", type=int, default=120, help="of AMC")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    """Do what the verb says."""
    asked = arguments()
    torch.set_num_threads(asked.threads)
    asked.work.mkdir(parents=True, exist_ok=True)
    settled(asked)
    if asked.verb == "train":
        for seed in asked.seeds:
            trained(asked, seed)
    elif asked.verb == "table":
        table(asked)
        for line in csv.reader((RESULTS / "pruning_cifar_summary.csv").open()):
            print("  ".join(f"{cell:>12}" for cell in line))
    else:
        {"choose": choose, "run": run}[asked.verb](asked)


if __name__ == "__main__":
    main()
