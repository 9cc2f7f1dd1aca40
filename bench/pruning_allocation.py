"""How much goes where: channel pruning by a scan, NetAdapt, AMC and MetaPruning beside one share for all, at equal MACs.

    PAREDOWN_DATA=… python bench/pruning_allocation.py                 # MNIST, three seeds, about fifteen minutes of processor time
    python bench/pruning_allocation.py digits --seeds 0 --budgets 0.5  # resumes from --work: what is there is not run again
    python bench/pruning_allocation.py --table                         # from --work alone, nothing is run

One network a seed is trained (`--epochs`) on the first `--samples` of the train split; every way then takes it to the same share of its MACs,
and every result is trained for `--tune` epochs. NetAdapt goes
first; the MACs that it ends with are the others' budget, which they meet by single units. Units go by L1 in every way. Validation and calibration choose, test is met once.

uniform        one share for all groups                      uniform, repaired   the same, least squares before training
sensitivity    a scan by calibration loss                    netadapt            ΔR 8 % of the MACs, 0.1 epochs a proposal
amc            120 episodes, repaired, by calibration loss    meta, kept          MetaPruning's widths, the trained network's weights
uniform, fresh and meta, fresh: trained from scratch for --epochs + --tune, as MetaPruning does.

To bench/results/pruning_allocation.csv: one row for each way and budget, its mean over seeds, the interval (95 %, Student's t), and by how much it is
above "uniform" ("uniform, fresh" for what is trained from scratch), paired by seed, with an interval.
"""

import argparse
import dataclasses
import itertools
import json
import math
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from scipy.stats import t as student

from paredown.core.plan import Plan
from paredown.core.task import Task
from paredown.core.work import Work
from paredown.cost.count import count
from paredown.cost.priced import priced
from paredown.data.tasks import load
from paredown.graph.net import Net
from paredown.graph.rating import error_by
from paredown.graph.repair import repair_
from paredown.graph.thinning import Price, Thinning, filled, price_of, thinning_of, uniform
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.prune.amc import Amc
from paredown.methods.prune.meta import Meta, front, redraw_
from paredown.methods.prune.netadapt import NetAdapt
from paredown.methods.prune.sensitivity import Sensitivity, scan
from paredown.methods.score.l1 import L1
from paredown.train.data import Data
from paredown.train.evaluate import evaluate
from paredown.train.fit import fit
from paredown.zoo.resolve import network
from tables import write

MODEL = {"model": "dense", "widths": [16, 32, 64], "head": "pool", "reduce": 2}
WAYS = ("netadapt", "uniform", "uniform, repaired", "sensitivity", "amc", "meta, kept", "uniform, fresh", "meta, fresh")
FRESH = ("uniform, fresh", "meta, fresh")


@dataclasses.dataclass(frozen=True)
class Setting:
    """What one seed's runs share."""

    task: Task
    seed: int
    train: Data
    asked: argparse.Namespace

    def work(self) -> Work:
        """Return what the steps may use."""
        calib, val = (Data.of(self.task, role) for role in ("calib", "val"))

        def fitting(net: Any, loss: Any, habits: Any, plan: Plan) -> Any:
            return fit(net, self.train, loss, habits, plan, self.seed)

        def rate(net: Net) -> Any:
            return evaluate(net, val, self.task.metric, "val")

        return Work({"calib": (calib.x[:512], calib.y[:512]), "fit": fitting, "evaluate": rate}, self.seed)

    def tuned(self, net: Net, epochs: float) -> float:
        """Train a network in place and return its accuracy on test."""
        fit(net, self.train, CrossEntropy(), plan=Plan(epochs=epochs, lr=self.asked.lr), seed=self.seed)
        return self.tested(net)

    def tested(self, net: Net) -> float:
        """Return the accuracy on test."""
        return evaluate(net, Data.of(self.task, "test"), self.task.metric, "test").value


def nearest(thinning: Thinning, price: Price, gone: list[int], most: float) -> list[int]:
    """Return counts that cost just under `most`: every group gives or gets back up to two units, while that gets nearer."""
    found = filled(thinning, price, gone, most)
    for _ in range(3):
        moves = itertools.product((-2, -1, 0, 1, 2), repeat=len(found))
        near = (
            [n + m for n, m in zip(found, move, strict=True)] for move in sorted(moves, key=lambda m: sum(map(abs, m)))
        )
        able = [s for s in near if all(0 <= n <= m for n, m in zip(s, thinning.most, strict=True)) and price(s) <= most]
        close = [s for s in able if price(s) >= 0.995 * most]
        found = close[0] if close else max(able, key=price, default=found)
    return found


class Ways:
    """The ways at one budget, that of the network which NetAdapt ends with: the others can meet that nearer than it theirs."""

    def __init__(self, net: Net, share: float, setting: Setting) -> None:
        self.net, self.setting, self.asked, self.work = net, setting, setting.asked, setting.work()
        self.thinning = thinning_of(net, L1(), self.work)
        self.price = price_of(self.thinning, priced("macs"))
        self.share = share

    def counts(self, way: str) -> list[int]:
        """Return how many units of each group go."""
        share, work, asked = self.share, self.work, self.asked
        most = share * count(self.net).macs
        if way.startswith("uniform"):
            found = uniform(self.thinning, self.price, most)
        elif way == "sensitivity":
            step = Sensitivity(budget=share, judge="loss")
            found = step.counts(self.thinning, scan(self.thinning, step.ratios, error_by("loss", work)))
        elif way == "amc":
            amc = Amc(share, episodes=asked.episodes, warm=asked.episodes // 3, judge="loss")
            found = list(max(amc.tries(self.thinning, work), key=lambda e: e.reward).gone)
        else:
            plan = Plan(lr=asked.lr)
            meta = Meta(
                share, meta_epochs=asked.meta_epochs, generations=8, population=16, top=5, judge="loss", plan=plan
            )
            maker = meta.maker(front(self.thinning), work)
            found = list(meta.candidates(maker, (self.price, most), work)[0].gone)
        return nearest(self.thinning, self.price, found, most)

    def made(self, way: str, gone: list[int]) -> Net:
        """Return the thin network before it is trained."""
        out, went = self.thinning.removed(gone, self.work.skip)
        if way in FRESH:
            redraw_(out, lambda *_: None, self.setting.seed)
        elif way in ("uniform, repaired", "amc"):
            repair_(out, self.net, went, self.work.use("calib")[0], self.work.skip, self.work.seed)
        return out

    def netadapt(self) -> Net:
        """Return what NetAdapt makes, short trainings and all."""
        plan = Plan(lr=self.asked.lr / 3)
        return NetAdapt(self.share, step=0.08, score=L1(), short=0.1, judge="loss", plan=plan).apply(
            self.net, self.work
        )


def run(asked: argparse.Namespace) -> None:
    """Run what is not there yet, one JSON line for each way, budget and seed."""
    path = asked.work / f"{asked.task}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    done = {(row["way"], row["budget"], row["seed"]): row for row in read(path)}
    task = load(asked.task)
    for seed in asked.seeds:
        whole = Data.of(task, "train")
        setting = Setting(task, seed, Data(whole.x[: asked.samples], whole.y[: asked.samples]), asked)
        net = network(json.loads(asked.model), task.shape, len(task.classes), seed)
        before = setting.tuned(net, asked.epochs)
        for share in asked.budgets:
            there = {way: row for (way, at, of), row in done.items() if (at, of) == (share, seed)}
            _ways(Ways(net, share, setting), (share, before), there, path)


def _ways(ways: Ways, circumstances: tuple[float, float], there: dict[str, dict[str, Any]], path: Path) -> None:
    """Run the ways that are not there, NetAdapt first: its MACs are the others' budget. circumstances: budget, accuracy before."""
    net, setting, widths = ways.net, ways.setting, dict[str, list[int]]()
    for way in WAYS:
        if way not in there:
            start, kind = time.process_time(), way.split(",")[0]
            torch.manual_seed(setting.seed)
            if way != "netadapt" and kind not in widths:
                widths[kind] = ways.counts(way)
            out = ways.netadapt() if way == "netadapt" else ways.made(way, widths[kind])
            seconds, raw = round(time.process_time() - start, 1), setting.tested(out.eval())
            epochs = setting.asked.tune + (setting.asked.epochs if way in FRESH else 0)
            there[way] = {
                "way": way, "budget": circumstances[0], "seed": setting.seed, "macs": count(out).macs / count(net).macs, "raw": raw,
                "search_seconds": seconds, "accuracy": setting.tuned(out, epochs), "whole": circumstances[1], "widths": widths_of(out),
            }  # fmt: skip
            with path.open("a") as log:
                log.write(json.dumps(there[way]) + "\n")
            print(*there[way].values(), flush=True)
        if way == "netadapt":
            ways.share = there[way]["macs"] * (1 + 1e-9)


def widths_of(net: Net) -> str:
    """Return the channels of each layer but the last."""
    return " ".join(str(net.slot(name)().shape[0]) for name, _ in list(net.weighted())[:-1])


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows that are there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def half_width(values: list[float]) -> float:
    """Return half of the 95 % interval of a mean by Student's t."""
    if len(values) < 2:
        return math.nan
    return float(student.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))


def table(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Return one row for each way and budget."""
    rows = read(asked.work / f"{asked.task}.jsonl")
    found = []
    for share in sorted({row["budget"] for row in rows}):
        for way in WAYS:
            own = {row["seed"]: row for row in rows if row["way"] == way and row["budget"] == share}
            beside = "uniform, fresh" if way in FRESH else "uniform"
            other = {row["seed"]: row for row in rows if row["way"] == beside and row["budget"] == share}
            if not own or own.keys() - other.keys():
                continue
            accuracy = [100 * row["accuracy"] for row in own.values()]
            above = [100 * (row["accuracy"] - other[seed]["accuracy"]) for seed, row in own.items()]
            found.append({
                "task": asked.task, "budget": share, "way": way, "seeds": len(own),
                "macs_least": round(min(row["macs"] for row in own.values()), 4), "macs_most": round(max(row["macs"] for row in own.values()), 4),
                "untrained": round(statistics.mean(100 * row["raw"] for row in own.values()), 2),
                "accuracy": round(statistics.mean(accuracy), 2), "interval": round(half_width(accuracy), 2),
                "above_uniform": round(statistics.mean(above), 2), "above_interval": round(half_width(above), 2),
                "whole": round(statistics.mean(100 * row["whole"] for row in own.values()), 2),
                "search_seconds": round(statistics.mean(row["search_seconds"] for row in own.values()), 1),
                "widths": " | ".join(row["widths"] for row in own.values()), "samples": asked.samples, "epochs": asked.epochs,
                "tune": asked.tune, "date": datetime.now(UTC).date().isoformat(),
            })  # fmt: skip
    return found


def main() -> None:
    """Run, then write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", nargs="?", default="mnist")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.15, 0.3])
    parser.add_argument("--model", default=json.dumps(MODEL))
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--tune", type=float, default=3)
    parser.add_argument("--meta-epochs", type=float, default=10)
    parser.add_argument("--episodes", type=int, default=120)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--work", type=Path, default=Path("runs/pruning_allocation"))
    parser.add_argument("--table", action="store_true", help="write the table from --work and run nothing")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if not asked.table:
        run(asked)
    write("pruning_allocation.csv", table(asked))


if __name__ == "__main__":
    main()
