"""How much the training loop costs over bare forward + backward + step, side by side in one run.

    python bench/training_speed.py            # about two minutes; MNIST where PAREDOWN_DATA has it, else made pictures of its size

For each way, an epoch over the same pictures with the same network and batch, one after the other, `REPEATS` times, interleaved; the
median and the quartiles of the ratio to the bare loop of the same round go to bench/results/training_speed.csv.
"""

import os
import platform
import statistics
import time
from datetime import UTC, datetime

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from paredown.core.errors import BadInput
from paredown.core.plan import Plan
from paredown.data.tasks import load
from paredown.methods.loss.cross_entropy import CrossEntropy
from paredown.train.data import Data
from paredown.train.fit import fit
from paredown.zoo.resolve import network
from tables import write

BATCH, REPEATS, SAMPLES = 128, 7, 10_000
SPEC = {"model": "dense", "widths": [8, 16, 16], "stem": [5, 2]}


def pictures() -> tuple[Data, str]:
    """Return 10,000 pictures of 28 x 28 and where they come from."""
    try:
        data = Data.of(load("mnist"), "train")
        return Data(data.x[:SAMPLES], data.y[:SAMPLES], data.moves), "mnist"
    except BadInput:
        draw = torch.Generator().manual_seed(0)
        x = torch.rand((SAMPLES, 1, 28, 28), generator=draw)
        return Data(x, torch.arange(SAMPLES) % 10, ("shift", "rotate", "zoom")), "made"


def bare(net: torch.nn.Module, ready: list, optimiser: torch.optim.Optimizer) -> None:
    """Forward, backward and step on batches already in memory."""
    loss = CrossEntropy()
    net.train()
    for x, y in ready:
        value = loss.of(net(x), y)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        optimiser.step()


def seconds(work: object) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - start


def main() -> None:
    """Measure, print and write the table."""
    data, source = pictures()
    net = network(SPEC, (1, 28, 28), 10)
    ready = [(data.x[at : at + BATCH], data.y[at : at + BATCH]) for at in range(0, len(data) - BATCH + 1, BATCH)]
    adam = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    loader = DataLoader(TensorDataset(data.x, data.y), BATCH, shuffle=True, drop_last=True, num_workers=2)
    plain, moved = Plan(epochs=1, batch=BATCH, lr=1e-3), Plan(epochs=1, batch=BATCH, lr=1e-3, augment=0.5)
    ways = {
        "bare": lambda: bare(net, ready, adam),
        "fit": lambda: fit(net, data, CrossEntropy(), plan=plain),
        "fit with augmentation": lambda: fit(net, data, CrossEntropy(), plan=moved),
        "DataLoader, 2 workers": lambda: bare(net, loader, adam),  # type: ignore[arg-type]
    }
    rows = []
    for threads in (1, os.cpu_count() or 1):
        torch.set_num_threads(threads)
        for work in ways.values():
            work()
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(REPEATS):
            for name, work in ways.items():
                times[name].append(seconds(work))
        for name, taken in times.items():
            ratios = [t / b for t, b in zip(taken, times["bare"], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            rows.append({"way": name, "threads": threads, "seconds": round(statistics.median(taken), 4), "ratio": round(middle, 3),
                         "ratio_low": round(low, 3), "ratio_high": round(high, 3), "repeats": REPEATS, "samples": len(data), "data": source,
                         "torch": torch.__version__, "machine": platform.machine(), "cores": os.cpu_count(),
                         "date": datetime.now(UTC).date().isoformat(), "load": round(np.mean(os.getloadavg()), 2)})  # fmt: skip
            print(
                f"{threads} threads  {name:24s} {rows[-1]['seconds']:8.4f} s   {middle:6.3f} x bare ({low:.3f}…{high:.3f})"
            )
    write("training_speed.csv", rows)


if __name__ == "__main__":
    main()
