"""How far the models of cost are off: microcontrollers on MLPerf Tiny's published results, the roofline on this machine.

    python bench/cost_models.py               # about a minute; --published for the part that measures nothing

Latency: every network on every board is predicted without having seen that board run it (`leave_one_out`), and once more
without any board having run it. Energy: that latency × the power the board drew on its other networks. Roofline: ten layers in
torch, one thread and all, against the least time that this machine's measured peak and bandwidth allow; a layer alone, again and
again, stays in the cache, so the cache's bandwidth bounds those that fit. On a busy machine the last part says nothing.
"""

import os
import statistics
import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

import torch
from torch import nn

import tables
from paredown.core.cost import Layer
from paredown.cost.devices import Device, devices
from paredown.cost.host import host, module_latency
from paredown.cost.mcu import Held, leave_one_out
from paredown.cost.measure import Repeats, all_threads, disturbances, processor, toolchain
from paredown.cost.roofline import point
from paredown.cost.tiny import convolution, depthwise, linear

MODELS = ("lean", "shared", "unseen", "own", "one rate")
LAYERS = (
    (3, 32, 112, 3, 1), (32, 64, 56, 3, 1), (64, 64, 56, 3, 1), (128, 128, 28, 3, 1), (256, 256, 14, 3, 1),
    (64, 256, 56, 1, 1), (512, 512, 14, 1, 1), (64, 64, 112, 3, 64), (512, 512, 14, 3, 512),
)  # fmt: skip
"""Inputs, outputs, side, kernel, groups; beside them a linear layer from 1,024 to 1,000."""

Row = dict[str, object]


def write(name: str, rows: list[Row]) -> None:
    """Write rows with the date as CSV."""
    tables.write(name, [{**row, "date": datetime.now(UTC).date().isoformat()} for row in rows])


def mean(errors: Iterable[float]) -> float:
    """Return the mean absolute error."""
    return statistics.mean(abs(error) for error in errors)


def summary(model: str, found: tuple[Held, ...]) -> str:
    """Return a model's errors over all boards and networks in one line."""
    errors = sorted(abs(held.error) for held in found)
    tenth = errors[int(0.9 * len(errors))]
    return f"{model:10s} mean {mean(errors):7.1%}   median {statistics.median(errors):6.1%}   nine in ten below {tenth:6.1%}"


def latencies(boards: list[Device]) -> tuple[Held, ...]:
    """Print and write the errors of all models of latency; return those of the one in use."""
    found = {model: leave_one_out(boards, model) for model in MODELS}
    print(f"latency of a network on a board that has published the others, {len(boards)} boards\n")
    for model in MODELS:
        print(" ", summary(model, found[model]))
    whole = [board.model_copy(update={"skips_dead_channels": False}) for board in boards]
    print(" ", summary("lean, *", leave_one_out(whole)), "  (* as if no board skipped dead channels)")
    print(f"\n  {'board':32s} {'kws':>7s} {'vww':>7s} {'ic':>7s} {'ad':>7s}    mean   unseen")
    for board in boards:
        own = [held for held in found["lean"] if held.device == board.name]
        unseen = mean(held.error for held in found["unseen"] if held.device == board.name)
        errors = " ".join(f"{held.error:+7.1%}" for held in own)
        print(f"  {board.name:32s} {errors} {mean(held.error for held in own):7.1%} {unseen:8.1%}")
    write("mcu_latency.csv", [
        {"device": h.device, "task": h.task, "model": h.model, "published_ms": h.published_ms,
         "predicted_ms": round(h.predicted_ms, 4), "error": round(h.error, 4)} for model in MODELS for h in found[model]
    ])  # fmt: skip
    return found["lean"]


def energies(boards: list[Device], predicted: tuple[Held, ...]) -> None:
    """Print and write the errors of board power × time, power from the board's other networks."""
    rows: list[Row] = []
    for held in predicted:
        board = next(one for one in boards if one.name == held.device)
        known = board.published[held.task].energy_uj  # type: ignore[index]
        others = [p.power_mw for task, p in board.published.items() if task != held.task and p.power_mw]
        if known and others:
            power = statistics.median(others)
            rows.append({
                "device": held.device, "task": held.task, "published_uj": known,
                "predicted_uj": round(power * held.predicted_ms, 3), "error": round(power * held.predicted_ms / known - 1, 4),
                "error_at_known_time": round(power * held.published_ms / known - 1, 4),
            })  # fmt: skip
    names = list(dict.fromkeys(str(row["device"]) for row in rows))
    print(f"energy of an inference, power × time, {len(names)} boards that published both\n")
    for name in names:
        own = [row for row in rows if row["device"] == name]
        total, power = (mean(float(str(row[key])) for row in own) for key in ("error", "error_at_known_time"))
        print(f"  {name:32s} mean error {total:6.1%}, of power alone {power:6.1%}")
    print(f"  {'all':32s} mean error {mean(float(str(row['error'])) for row in rows):6.1%}")
    write("mcu_energy.csv", rows)


def layer(inputs: int, outputs: int, side: int, kernel: int, groups: int) -> tuple[Layer, nn.Module, torch.Tensor]:
    """Return a float convolution as a counted layer, as a module, and its input."""
    size, name = (side, side), f"{inputs}-{outputs} at {side}, {kernel} × {kernel}, groups {groups}"
    counted = (
        depthwise(name, inputs, size) if groups > 1 else convolution(name, (inputs, outputs), size, (kernel, kernel))
    )
    module = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups)
    return counted, module, torch.rand(1, inputs, side, side)


def roofline() -> None:
    """Print and write measured against attainable time of ten layers, on one thread and all."""
    cases = [layer(*case) for case in LAYERS]
    cases.append((linear("linear 1024-1000", 1024, 1000), nn.Linear(1024, 1000), torch.rand(1, 1024)))
    rows: list[Row] = []
    for threads in dict.fromkeys((1, all_threads())):
        here = host(threads, fresh=True)
        peak, rate = here.peak_ops["fp32"], here.bytes_per_second
        assert rate is not None
        print(f"{processor()}, {threads} threads: {peak.value / 1e9:.1f} GFLOP/s, {rate.value / 1e9:.1f} GB/s\n")
        for counted, module, example in cases:
            wide = replace(counted, weight_bits=32, activation_bits=32, stored_bits=32 * counted.params)
            seen, best = (
                module_latency(module, example, threads, Repeats(10, 101)),
                point(wide, here, wide.traffic_bits / 8),
            )
            noise = "; ".join(disturbances(seen, threads))
            rows.append({
                "layer": wide.name, "threads": threads, "intensity": round(best.intensity, 2), "bound": best.bound,
                "roof_ms": round(best.ms, 4), "measured_ms": round(seen.value, 4), "low_ms": round(seen.low, 4),
                "high_ms": round(seen.high, 4), "of_roof": round(best.ms / seen.value, 3), "best_of_roof": round(best.ms / seen.low, 3), "repeats": seen.repeats,
                "disturbances": noise, "peak_gflops": round(peak.value / 1e9, 1), "gbytes": round(rate.value / 1e9, 1),
                "device": seen.device, "toolchain": toolchain(), "load": round(os.getloadavg()[0], 2),
            })  # fmt: skip
            print(f"  {wide.name:36s} {best.bound:8s} roof {best.ms:8.4f} ms   measured {seen.value:8.4f} ms   "
                  f"{best.ms / seen.value:6.1%} of the roof   {noise}")  # fmt: skip
        print()
    write("roofline.csv", rows)


def main() -> None:
    """Compare all models with what was published and, unless told otherwise, with this machine."""
    boards = [one for one in devices().values() if one.kind == "mcu"]
    energies(boards, latencies(boards))
    if "--published" not in sys.argv:
        roofline()


if __name__ == "__main__":
    main()
