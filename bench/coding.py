"""Packed files beside NNCodec 2 (the reference of ISO/IEC 15938-17) at equal accuracy, without training and with ours: three networks.

    python bench/coding.py networks [--networks resnet_20=FOLDER]    # trains, or takes a Net.save folder; folds; NAME/float.npz
    python bench/coding.py ours                                      # quantize.rate_distortion, a packed file at every price of a bit
    python bench/coding.py trained                                   # learned steps under a price of coded bytes, from the same network
    nnc/bin/python bench/coding_nncodec.py                           # every QP, in an environment of its own (said there)
    python bench/coding.py measure                                   # validation accuracy of all that is there
    python bench/coding.py table                                     # bench/results/coding.csv, coding_points.csv

All but `table` resume from --work. LeNet-5 and DS-CNN on MNIST, ResNet-20 on CIFAR-10-JPEG; batch norm is folded first, for both. Ours:
one calibration (512 samples, no labels) for each network, then a price of a bit from --least on, each --ladder times the last, with a step for each
channel and with one for a tensor; what `RateDistortion(bytes=…)` finds for the bytes that come out, without its search for the price; ResNet-20 has
prices between them where NNCodec's QPs are closer together. NNCodec needs no samples.
"trained": `LearnedStep` with `CodedSize`, taught by the float network, once for each size of TRAINED; the training split.

Bytes: NNCodec's are the bitstream (weights, biases, and what its format says of them; no architecture); ours are weights + biases + scales
as the file's items say, and the whole file, architecture included. `xz` and `zstd` are our codes in one piece, a byte for a weight and two for a bias, steps
not counted. Accuracy of both is that of the values which the file decodes to, in the float network, in torch. The smallest file (ours by the whole
file) that keeps float − floor on validation is chosen for each tool, among all its points; only then is it met with test.
"""

import argparse
import csv
import json
import lzma
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zstandard

from paredown.core.plan import Plan
from paredown.core.work import Work
from paredown.data import tasks
from paredown.graph.fold import fold_batchnorm
from paredown.graph.freeze import freeze
from paredown.graph.frozen import Rounded
from paredown.graph.net import Net
from paredown.graph.slots import Fixed, Free
from paredown.methods.habit.coded_size import CodedSize
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.methods.loss.soften import Soften
from paredown.methods.quantize.learned_step import LearnedStepQuantization
from paredown.methods.quantize.rate_distortion import RateDistortion
from paredown.targets.container import read, write
from paredown.train.data import Data
from paredown.train.fit import Extras, fit
from paredown.zoo.resolve import network
from tables import RESULTS
from tables import write as write_table

_SMALL = Plan(epochs=3, batch=128, lr=3e-3, schedule="onecycle")
NETWORKS: dict[str, tuple[str, dict[str, Any], Plan]] = {
    "lenet_5": ("mnist", {"model": "lenet_5"}, _SMALL),
    "ds_cnn": ("mnist", {"model": "ds_cnn"}, replace(_SMALL, epochs=2, lr=6e-3)),
    "resnet_20": ("cifar10-jpeg", {"model": "resnet_small", "depth": 20, "width": 16},
                  Plan(epochs=5, batch=128, lr=6e-3, schedule="onecycle", augment=0.5, weight_decay=0.02)),
}  # fmt: skip
TRAINED: dict[str, tuple[dict[int, float], Plan]] = {
    "lenet_5": ({14000: 10, 9000: 10, 7000: 3, 4500: 3, 3000: 3}, Plan(batch=128, lr=2e-3)),
    "ds_cnn": ({7500: 4, 6000: 1, 4500: 1, 3400: 1}, Plan(batch=128, lr=3e-3)),
    "resnet_20": ({75000: 5, 50000: 5, 60000: 1.5, 42000: 1.5}, Plan(batch=128, lr=3e-3, augment=0.5)),
}
"""The sizes to train for, in bytes of codes, the epochs of each, and how."""
FLOORS = (0.002, 0.005, 0.01, 0.02)
GLANCE, FAR = 500, 0.06
"""Files that lose more than FAR on so many samples of validation are looked at no longer."""
TOOLS = ("paredown", "trained", "nncodec")
BITS = 0.5, 6.0
"""Bits a weight between which our points lie."""


@cache
def data(name: str, role: str, most: int = 0) -> Data:
    """Return a role of a network's task, or `most` of its samples, evenly spread (they can be in order of class)."""
    found = Data.of(tasks.load(NETWORKS[name][0]), role)
    at = torch.linspace(0, len(found) - 1, min(most or len(found), len(found))).round().long()
    return Data(found.x[at], found.y[at])


@torch.no_grad()
def accuracy(net: Net, name: str, role: str, most: int = 0) -> float:
    """Return the share of a role's samples that are classified right."""
    held = data(name, role, most)
    right = sum(int((net(x).argmax(1) == y).sum()) for x, y in zip(held.x.split(250), held.y.split(250), strict=True))
    return right / len(held)


def make_networks(asked: argparse.Namespace) -> None:
    """Train or take each network, fold its norms, keep it and its tensors."""
    given = dict(pair.split("=", 1) for pair in asked.networks)
    for name in asked.names:
        folder = asked.work / name
        if (folder / "float.npz").exists():
            continue
        task, spec, plan = NETWORKS[name]
        if name in given:
            net = Net.load(given[name])
        else:
            held = tasks.load(task)
            net = network(spec, held.shape, len(held.classes), asked.seed)
            start = time.process_time()
            fit(net, data(name, "train"), CrossEntropy(), plan=plan, seed=asked.seed)
            print(f"{name}: trained in {time.process_time() - start:.0f} s of processor time", flush=True)
        net = fold_batchnorm(net.eval())[0].eval()
        net.save(folder / "net")
        np.savez(folder / "float.npz", **{key: value.numpy() for key, value in floats(net).items()})
        print(name, sum(value.numel() for value in floats(net).values()), "values", flush=True)


def floats(net: Net) -> dict[str, torch.Tensor]:
    """Return the float tensors that a network stores, by slot."""
    slots = {key: net.slot(key) for key in net.slot_names()}
    values = {key: slot().detach() for key, slot in slots.items() if isinstance(slot, Free | Fixed)}
    return {key: value for key, value in values.items() if value.is_floating_point()}


def make_ours(asked: argparse.Namespace) -> None:
    """Write a packed file for every price and kind of step, and what is in it."""
    for name in asked.names:
        folder = asked.work / name
        net = Net.load(folder / "net").eval()
        todo = [kind for kind in asked.steps if not (folder / f"ours_{kind}.done").exists()]
        if not todo:
            continue
        calib = data(name, "calib", asked.calib).x
        layers = RateDistortion().layers(net, calib, Work({"calib": (calib, None)}, asked.seed))
        weights = sum(layer.rows.numel() for layer in layers)
        for kind in todo:
            part, price = RateDistortion(step=kind), asked.least
            while True:
                out = net.copy()
                for slot, grid in part.grids(net, layers, price).items():
                    out.set_slot(slot, grid)
                bits = _keep(folder / f"ours_{kind}_{price:.3g}", out) * 8 / weights
                if bits < BITS[0]:
                    break
                price *= asked.ladder if bits < BITS[1] else max(asked.ladder, 4 ** int(bits - BITS[1]))
            (folder / f"ours_{kind}.done").touch()


def make_trained(asked: argparse.Namespace) -> None:
    """Train each network for each size, and write its packed file."""
    for name in asked.names:
        folder = asked.work / name
        net = Net.load(folder / "net").eval()
        sizes, plan = TRAINED[name]
        for size in asked.sizes or sizes:
            path = folder / f"trained_{size}"
            if path.with_name(path.name + ".json").exists():
                continue
            work = Work({"fit": partial(_fit, name, net, asked.seed, folder / f"{path.name}.checkpoint")}, asked.seed)
            learned = replace(plan, epochs=sizes.get(size, plan.epochs))
            part = LearnedStepQuantization(bits=4, loss=Soften(), habits=(CodedSize(bytes=size),), plan=learned)
            torch.manual_seed(asked.seed)
            _keep(path, part.apply(net, work).eval())


def _fit(name: str, teacher: Net, seed: int, checkpoint: Path, net: Net, **how: Any) -> None:
    start = time.process_time()
    extras = Extras(teacher=teacher, checkpoint=checkpoint)
    fit(net, data(name, "train"), how["loss"], how["habits"], how["plan"], seed, extras)
    print(f"{name}: trained in {time.process_time() - start:.0f} s of processor time", flush=True)


def _keep(path: Path, net: Net) -> int:
    """Write a network as `path`.pdn and its items as `path`.json; return the bytes of codes and scales."""
    frozen = freeze(net)
    packed, items = write(frozen)
    path.with_name(path.name + ".pdn").write_bytes(packed)
    rounded = [tensor for tensor in frozen.tensors.values() if isinstance(tensor, Rounded)]
    plain = b"".join(tensor.codes.astype(np.int8 if tensor.codes.ndim > 1 else "<i2").tobytes() for tensor in rounded)
    tensors = sum(items.get(item, 0) for item in ("weights", "biases", "scales"))
    row = {"bytes": tensors, "file_bytes": len(packed), **items, "xz": len(lzma.compress(plain, preset=9)),
           "zstd": len(zstandard.ZstdCompressor(19).compress(plain))}  # fmt: skip
    path.with_name(path.name + ".json").write_text(json.dumps(row))
    print(path.parent.name, path.name, json.dumps(row), flush=True)
    return tensors


def decoded(path: Path, net: Net) -> Net:
    """Return the float network with the values that a packed file, or NNCodec's decoder, gives."""
    out = net.copy().eval()
    if path.suffix == ".pdn":
        frozen = read(path.read_bytes())
        names = list(freeze(net).spec.slot_users())
        pairs = zip(names, frozen.spec.slot_users(), strict=True)
        values = {name: frozen.tensors[own].value for name, own in pairs}
    else:
        with np.load(path) as file:
            values = {name: file[name] for name in file.files if not name.startswith("__")}
    for name, value in values.items():
        assert value.shape == tuple(net.slot(name)().shape), name
        out.set_slot(name, Free(torch.from_numpy(np.ascontiguousarray(value, np.float32))))
    return out


def points(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield every point of a network that is there: its file, tool, setting and bytes."""
    for path in sorted(folder.glob("ours_*_*.pdn")):
        _, kind, price = path.stem.split("_")
        row = json.loads(path.with_name(path.stem + ".json").read_text())
        yield {"path": path, "tool": "paredown", "way": kind, "setting": float(price), **row}
    for path in sorted(folder.glob("trained_*.pdn")):
        row, size = json.loads(path.with_name(path.stem + ".json").read_text()), int(path.stem.rpartition("_")[2])
        epochs = TRAINED[folder.name][0].get(size, Plan().epochs)
        yield {"path": path, "tool": "trained", "way": f"{epochs:g} epochs", "setting": size, **row}
    for path in sorted(folder.glob("nncodec_*.npz")):
        way, qp = path.stem.removeprefix("nncodec_").rsplit("_", 1)
        with np.load(path) as file:
            size = int(file["__bytes__"])
        yield {"path": path, "tool": "nncodec", "way": way, "setting": int(qp), "bytes": size, "file_bytes": size}


def known(path: Path, asked: argparse.Namespace, role: str, net: Net) -> float:
    """Return the accuracy of a file, measured once and kept beside it."""
    most = asked.samples if role == "val" else 0
    mark = path.with_name(f"{path.name}.{role}{most or ''}")
    if not mark.exists():
        found = accuracy(decoded(path, net) if path.suffix in (".pdn", ".npz") else net, path.parent.name, role, most)
        mark.write_text(repr(found))
    return float(mark.read_text())


def judged(path: Path, asked: argparse.Namespace, net: Net, start: float) -> tuple[float, int]:
    """Return the accuracy of a file on validation and of how many samples: of GLANCE alone where it is far below `start`."""
    glance = known(path, replaced(asked, samples=GLANCE), "val", net)
    if glance < start - FAR:
        return glance, GLANCE
    return known(path, asked, "val", net), len(data(path.parent.name, "val", asked.samples))


def replaced(asked: argparse.Namespace, **new: Any) -> argparse.Namespace:
    """Return what was asked for, but for what is new."""
    return argparse.Namespace(**{**vars(asked), **new})


def measure(asked: argparse.Namespace) -> None:
    """Measure every point on validation, the float network too."""
    for name in asked.names:
        folder = asked.work / name
        net = Net.load(folder / "net").eval()
        start = known(folder / "net", asked, "val", net)
        print(name, "float", start, flush=True)
        for point in points(folder):
            value, count = judged(point["path"], asked, net, start)
            print(
                name,
                point["tool"],
                point["way"],
                point["setting"],
                point["bytes"],
                f"{value:.4f} of {count}",
                flush=True,
            )


def table(asked: argparse.Namespace) -> None:
    """Choose on validation, meet test with what was chosen, write both tables."""
    every, rows = [], []
    for name in asked.names:
        folder = asked.work / name
        net = Net.load(folder / "net").eval()
        start, count = known(folder / "net", asked, "val", net), len(data(name, "val", asked.samples))
        there = [
            point | dict(zip(("val", "val_n"), judged(point["path"], asked, net, start), strict=True))
            for point in points(folder)
        ]
        every += [_point(name, point) for point in there]
        for floor in FLOORS:
            row = {"network": name, "values": sum(value.numel() for value in floats(net).values()), "floor": floor, "val_n": count,
                   "float_val": round(start, 4), "test_n": len(data(name, "test")), "float_test": round(known(folder / "net", asked, "test", net), 4)}  # fmt: skip
            for tool in TOOLS:
                good = [point for point in there if point["tool"] == tool and point["val"] >= start - floor]
                best = min(good, key=lambda point: point["file_bytes"], default=None)
                row |= _chosen(tool, best, known(best["path"], asked, "test", net) if best else None)
            for ours, size in product(TOOLS[:2], ("bytes", "file_bytes")):
                pair = row[f"{ours}_{size}"], row["nncodec_bytes"]
                row[f"{ours}_{size}_of_nncodec"] = round(pair[0] / pair[1], 3) if all(pair) else ""
            rows.append(row)
    if every:
        write_table("coding_points.csv", every)
        write_table("coding.csv", rows)
        for line in csv.reader((RESULTS / "coding.csv").open()):
            print("  ".join(f"{cell:>12}" for cell in line))


def _point(name: str, point: dict[str, Any]) -> dict[str, Any]:
    own = ("tool", "way", "setting", "bytes", "file_bytes")
    items = ("weights", "biases", "scales", "graph", "header", "floats", "xz", "zstd")
    return {"network": name, **{key: point[key] for key in own}, **{key: point.get(key, "") for key in items},
            "val": round(point["val"], 4), "val_n": point["val_n"]}  # fmt: skip


def _chosen(tool: str, best: dict[str, Any] | None, test: float | None) -> dict[str, Any]:
    """Return the columns of a tool's choice; empty where no file keeps the floor."""
    keys = ("way", "setting", "bytes", "file_bytes", "val", *(("xz", "zstd") if tool != "nncodec" else ()))
    found = {f"{tool}_{key}": "" if best is None else best[key] for key in keys}
    return found | {f"{tool}_test": "" if test is None else round(test, 4)}


VERBS = {"networks": make_networks, "ours": make_ours, "trained": make_trained, "measure": measure, "table": table}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument("--work", type=Path, default=Path("runs/coding"))
    parser.add_argument("--names", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--networks", nargs="*", default=[], help="NAME=FOLDER of Net.save, taken instead of training")
    parser.add_argument("--steps", nargs="*", default=["channel", "tensor"])
    parser.add_argument("--sizes", nargs="*", type=int, default=[], help="to train for, in place of TRAINED's")
    parser.add_argument("--least", type=float, default=1e-12, help="the first price of a bit")
    parser.add_argument("--ladder", type=float, default=2.0)
    parser.add_argument("--calib", type=int, default=512, help="calibration samples")
    parser.add_argument("--samples", type=int, default=0, help="of validation, at most (0: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    VERBS[asked.verb](asked)
