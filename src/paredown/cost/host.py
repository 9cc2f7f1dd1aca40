"""This machine as a device: its peaks and its bandwidth, measured once and kept.

Peaks are the best of many matrix products (float32 in torch, int8 in ONNX Runtime), bandwidths the best of many triads
a = b + s c, three values moved each, over arrays that no cache holds and over arrays that the nearest ones do. The best, so
that a neighbour on the machine does not lower the roof; the median stands beside it as `low`. Kept as YAML in PAREDOWN_CACHE, else in
XDG_CACHE_HOME/paredown, else in ~/.cache/paredown, one file for each processor, version of torch and number of threads.
"""

import hashlib
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import yaml
from onnx import TensorProto, helper
from torch import nn

from paredown.core.cost import Measurement
from paredown.cost.devices import Constant, Device, Format, parse
from paredown.cost.measure import BUSY_LOAD, Repeats, all_threads, measure, pinned, processor, times_ms, toolchain

SIDE = 512
TRIAD_VALUES = 2**25
NEAR_VALUES = 2**16
REPEATS = Repeats(warm=3, measured=31)
LAST_CACHE = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")


def host(threads: int | None = None, fresh: bool = False) -> Device:
    """Return this machine as a device of so many threads (all, if None); measured the first time, or when `fresh`.

    What is measured while other work leaves too few cores is returned, with its load in `source`, and not kept.
    """
    taken = threads or all_threads()
    file = kept_at(taken)
    if file.exists() and not fresh:
        return parse(file.read_text(encoding="utf-8"), str(file))
    crowded = load() > all_threads() - taken + BUSY_LOAD
    found = measured(taken)
    if crowded:
        return found
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}")
    partial.write_text(yaml.safe_dump(found.model_dump(mode="json", exclude_defaults=True), sort_keys=False))
    partial.replace(file)
    return found


def load() -> float:
    """Return how many threads have been running of late (the load average of a minute); 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def cache_folder() -> Path:
    """Return where measurements of this machine are kept."""
    if named := os.environ.get("PAREDOWN_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paredown"


def kept_at(threads: int) -> Path:
    """Return the file of this machine's measurements."""
    key = f"{processor()}|torch {torch.__version__}|{threads} threads"
    return cache_folder() / f"host-{hashlib.sha256(key.encode()).hexdigest()[:12]}.yaml"


def measured(threads: int, side: int = SIDE, values: int = TRIAD_VALUES) -> Device:
    """Return this machine as measured now, on so many threads; side and values are the sizes of the benchmarks."""
    before = load()
    with on_threads(threads):
        peaks: dict[Format, Constant] = {
            "fp32": _best(_product_fp32(side), 2 * side**3, f"torch.mm of {side} × {side} float32"),
            "int8": _best(_product_int8(side, threads), 2 * side**3, f"MatMulInteger of {side} × {side}, U8 × S8"),
        }
        bandwidth, near = (
            _best(_triad(n), 12 * n, f"torch triad over 3 × {4 * n} bytes") for n in (values, NEAR_VALUES)
        )
    return Device(
        name=f"host-{threads}", title=f"this machine on {threads} of {all_threads()} threads", kind="cpu",
        source=f"measured here at load {before:.1f}; {toolchain()}", processor=processor(), peak_ops=peaks, bytes_per_second=bandwidth,
        cache_bytes=last_cache_bytes(), cache_bytes_per_second=near,
    )  # fmt: skip


def module_latency(
    module: nn.Module, example: torch.Tensor, threads: int = 1, repeats: Repeats = REPEATS
) -> Measurement:
    """Return the latency in ms of a torch module on an example: evaluation mode, no gradients, pinned."""
    was_training = module.training
    module.eval()
    try:
        with on_threads(threads), torch.inference_mode():
            return measure(lambda: module(example), repeats, f"torch, {threads} threads")
    finally:
        module.train(was_training)


@contextmanager
def on_threads(threads: int) -> Iterator[None]:
    """Run torch on so many threads and cores; give back what it had after."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with pinned(threads):
            yield
    finally:
        torch.set_num_threads(before)


def last_cache_bytes() -> int | None:
    """Return the size of the last cache where the system tells it."""
    text = LAST_CACHE.read_text().strip() if LAST_CACHE.exists() else ""
    return 1024 * int(text[:-1]) if text.endswith("K") else None


def _best(call: Callable[[], object], amount: int, how: str) -> Constant:
    times = times_ms(call, REPEATS)
    best, middle = 1e3 * amount / min(times), 1e3 * amount / statistics.median(times)
    date = datetime.now(UTC).date().isoformat()
    return Constant(value=best, low=middle, high=best, source=f"{how}, best of {REPEATS.measured}, {date}")


def _product_fp32(side: int) -> Callable[[], object]:
    a, b, out = torch.rand(side, side), torch.rand(side, side), torch.empty(side, side)
    return lambda: torch.mm(a, b, out=out)


def _triad(values: int) -> Callable[[], object]:
    a, b, c = torch.empty(values), torch.rand(values), torch.rand(values)
    return lambda: torch.add(b, c, alpha=3.0, out=a)


def _product_int8(side: int, threads: int) -> Callable[[], object]:
    shape = [side, side]
    node = helper.make_node("MatMulInteger", ["a", "b"], ["c"])
    weights = helper.make_tensor("b", TensorProto.INT8, shape, _noise(side, np.int8).tobytes(), raw=True)
    graph = helper.make_graph(
        [node], "product", [helper.make_tensor_value_info("a", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("c", TensorProto.INT32, shape)], [weights],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {"a": _noise(side, np.uint8)}
    return lambda: session.run(None, feeds)


def _noise(side: int, kind: type[np.generic]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, (side, side)).astype(kind)
