"""Measuring on this machine: time, peak memory and energy of a call, with the circumstances. Needs no torch.

A measurement is the median of warm repeats with its quartiles. What cannot be read here is a `NotReadable`, never a number.
"""

import glob
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
import onnxruntime

from paredown.core.cost import Measurement
from paredown.core.errors import BadInput

BUSY_LOAD = 0.5
"""Load average above which the machine is doing something else, beside what is measured."""
WIDE_SPREAD = 0.1
"""Distance of the quartiles, relative to the median, above which repeats disagree."""
RAPL = "/sys/class/powercap/intel-rapl:*/energy_uj"


@dataclass(frozen=True)
class NotReadable:
    """What cannot be measured on this machine, and why."""

    what: str
    why: str

    def to_json(self) -> dict[str, object]:
        """Return it as a JSON object whose value is null."""
        return {"what": self.what, "value": None, "why": self.why}


@dataclass(frozen=True)
class Repeats:
    """How often a call runs before and while it is measured."""

    warm: int = 5
    measured: int = 50


def measure(call: Callable[[], object], repeats: Repeats = Repeats(), command: str = "") -> Measurement:
    """Return a call's latency in ms: median of warm repeats, with quartiles."""
    return observed("latency_ms", times_ms(call, repeats), command)


def times_ms(call: Callable[[], object], repeats: Repeats = Repeats()) -> list[float]:
    """Return what each of the measured calls took, in ms, after the warm ones."""
    for _ in range(repeats.warm):
        call()
    found = []
    for _ in range(repeats.measured):
        start = time.perf_counter()
        call()
        found.append(1e3 * (time.perf_counter() - start))
    return found


def observed(what: str, values: Sequence[float], command: str = "") -> Measurement:
    """Return repeated values of one quantity as a measurement made here and now; a single one is its own spread."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return Measurement(
        what, middle, low, high, len(values), processor(), toolchain(), datetime.now(UTC).isoformat(timespec="seconds"),
        command or " ".join(sys.argv),
    )  # fmt: skip


def disturbances(seen: Measurement, threads: int = 1) -> tuple[str, ...]:
    """Return why a measurement just made should not be trusted: a busy machine, or repeats that disagree. Empty if quiet.

    The load average still holds what ran before, and what was measured itself; `threads` of it are forgiven.
    """
    found = []
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > threads + BUSY_LOAD:
        found.append(f"load {load:.1f} on {os.cpu_count()} cores")
    if seen.value > 0 and (spread := (seen.high - seen.low) / seen.value) > WIDE_SPREAD:
        found.append(f"quartiles {100 * spread:.0f} % of the median apart")
    return tuple(found)


@contextmanager
def pinned(threads: int = 1) -> Iterator[tuple[int, ...]]:
    """Hold the process and the threads it starts on as many cores, where the system can; give back what it had after."""
    if not hasattr(os, "sched_setaffinity"):
        yield ()
        return
    before = os.sched_getaffinity(0)
    cores = tuple(sorted(before)[-threads:])
    os.sched_setaffinity(0, cores)
    try:
        yield cores
    finally:
        os.sched_setaffinity(0, before)


def all_threads() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def onnx_latency(
    model: Path | bytes, inputs: np.ndarray, threads: int = 1, repeats: Repeats = Repeats()
) -> Measurement:
    """Return the latency in ms of an ONNX model in ONNX Runtime on `inputs`, pinned to as many cores as threads."""
    with pinned(threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        source = model if isinstance(model, bytes) else str(model)
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        feeds = {session.get_inputs()[0].name: inputs}
        return measure(lambda: session.run(None, feeds), repeats, f"onnxruntime, {threads} threads")


PEAK = """
import sys
import numpy as np
import onnxruntime as ort
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
given = session.get_inputs()[0]
for _ in range(3):
    session.run(None, {given.name: np.load(sys.argv[2])})
print(before, peak())
"""


def onnx_peak(model: Path, inputs: Path, repeats: int = 3) -> Measurement | NotReadable:
    """Return by how many bytes the peak resident memory of a fresh process grows when it loads and runs an ONNX model.

    `inputs` is an .npy file. What the interpreter and the runtime hold before the model is loaded does not count; graph,
    weights, arena and code do. One thread. Raises BadInput when the model does not run.
    """
    if not Path("/proc/self/status").exists():
        return NotReadable("peak_bytes", "the system has no /proc/self/status")
    grown = []
    for _ in range(repeats):
        argv = [sys.executable, "-c", PEAK, str(model), str(inputs)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BadInput(f"{model} does not run on {inputs}: {(done.stderr.strip().splitlines() or ['killed'])[-1]}")
        before, after = (1024 * int(part) for part in done.stdout.split())
        grown.append(float(after - before))
    return observed("peak_bytes", grown, f"onnxruntime on {model.name} in a fresh process")


def energy(call: Callable[[], object], repeats: Repeats = Repeats()) -> Measurement | NotReadable:
    """Return what the processor packages take for one call in µJ, by RAPL, idle power included; or why it cannot be read."""
    zones = [Path(file) for file in sorted(glob.glob(RAPL))]
    if not zones:
        return NotReadable("energy_uj", "this machine has no RAPL counters (/sys/class/powercap/intel-rapl)")
    if not all(os.access(zone, os.R_OK) for zone in zones):
        return NotReadable("energy_uj", "the RAPL counters may only be read by root here")
    for _ in range(repeats.warm):
        call()
    start = [_counter(zone) for zone in zones]
    for _ in range(repeats.measured):
        call()
    taken = sum(_since(zone, at) for zone, at in zip(zones, start, strict=True))
    seen = observed("energy_uj", [taken / repeats.measured], "RAPL, all packages")
    return replace(seen, repeats=repeats.measured)


def _counter(zone: Path) -> int:
    return int(zone.read_text())


def _since(zone: Path, start: int) -> int:
    passed = _counter(zone) - start
    return passed if passed >= 0 else passed + int((zone.parent / "max_energy_range_uj").read_text())


def processor() -> str:
    """Return the processor's model and how many cores the system has.

    >>> processor().endswith("cores")
    True
    """
    name = platform.processor() or platform.machine()
    about = Path("/proc/cpuinfo")
    if about.exists():
        lines = (line for line in about.read_text().splitlines() if line.startswith("model name"))
        name = next((line.partition(":")[2].strip() for line in lines), name)
    return f"{name}, {os.cpu_count()} cores"


def toolchain() -> str:
    """Return the versions of what computes: Python, ONNX Runtime, NumPy and, where installed, torch."""
    installed = {found.metadata["Name"] for found in metadata.distributions(name="torch")}
    names = ["onnxruntime", "numpy", *sorted(installed)]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    return f"Python {platform.python_version()}, {versions}"
