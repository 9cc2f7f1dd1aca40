"""Packed products of 1, 2 and 4 bits beside float and int8, side by side in one run, on one thread; every sum is checked.

    python bench/low_bit.py            # about a minute

int8 is ONNX Runtime's QLinearConv and QLinearMatMul, uint8 codes times int8 weights to uint8 codes. Ours is timed three times: the product
alone on packed inputs; with the inputs packed and laid out; and from codes to codes, rounding included, as int8 is. Each round takes every
way in turn, its best of five calls or more; a ratio is that of the same round, its median and quartiles go to bench/results/low_bit.csv. Above 1: faster than that.

Whole networks, untrained, go to low_bit_networks.csv: as float and as int8 files in ONNX Runtime, and packed, by `kernels.execute`; `difference`
is the largest from the rounded network's outputs, in shares of the largest output. The int8 files are as `targets` writes them; ONNX Runtime
keeps a layer in integers only where nothing stands between its output and the next rounding, so they are no faster than float here.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import platform
import re
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from paredown.core.work import Work
from paredown.graph.activations import fix_activations
from paredown.graph.fold import fold_batchnorm
from paredown.graph.freeze import freeze
from paredown.graph.latent import signs
from paredown.graph.net import Net
from paredown.graph.slots import Grid
from paredown.kernels.codes import Levels, numbers
from paredown.kernels.execute import execute
from paredown.kernels.library import path_number, paths
from paredown.kernels.product import Weight, Window, convolve, laid_out, multiply, packed_pixels, planned
from paredown.kernels.real import requantized
from paredown.methods.quantize.uniform import Uniform, grid
from paredown.targets.lower import build
from paredown.targets.runtime import session as runtime
from paredown.zoo.resolve import network
from tables import write

ROUNDS, AT_LEAST = 21, 0.0015
Call = Callable[[], object]
SHAPES = {
    "conv 64-64, 3 x 3, 32 x 32": (64, 64, 3, 32, 1),
    "conv 256-256, 3 x 3, 14 x 14": (256, 256, 3, 14, 1),
    "linear 1024-1024, batch 1": (1024, 1024, 1, 1, 1),
    "linear 1024-1024, batch 64": (1024, 1024, 1, 1, 64),
}
"""Inputs, outputs, kernel, picture, batch."""
WAYS = {
    "1 x 1": (1, (-1, 1), Levels(1, signed=True), ""),
    "1 x 2": (1, (-1, 1), Levels(2), ""),
    "1 x 4": (1, (-1, 1), Levels(4), ""),
    "ternary x 2": (2, (-1, 0, 1), Levels(2), ""),
    "2 x 2": (2, (-2, -1, 0, 1), Levels(2), ""),
    "ternary x 4": (2, (-1, 0, 1), Levels(4), ""),
    "4 x 4": (4, tuple(numbers(4, False)), Levels(4), ""),
    "4 x 8": (4, tuple(numbers(4, False)), Levels(8), ""),
    "1 x 1, AVX2": (1, (-1, 1), Levels(1, signed=True), "avx2"),
    "1 x 1, portable": (1, (-1, 1), Levels(1, signed=True), "portable"),
}
"""Weight bits x input bits: the weight's bits and values, the input's levels, the path."""


def session(op: str, stored: dict[str, np.ndarray], names: list[str], x: np.ndarray, pads: list[int]) -> Call:
    """Return a call of one operator in ONNX Runtime, on one thread."""
    kind = TensorProto.UINT8 if x.dtype == np.uint8 else TensorProto.FLOAT
    node = helper.make_node(op, names, ["y"], **({"pads": pads} if "Conv" in op else {}))
    inside, out = (helper.make_tensor_value_info(name, kind, shape) for name, shape in (("x", x.shape), ("y", None)))
    graph = helper.make_graph(
        [node], "one", [inside], [out], [numpy_helper.from_array(v, k) for k, v in stored.items()]
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    made = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: made.run(None, {"x": x})


def theirs(shape: tuple[int, ...]) -> dict[str, Call]:
    """Return float and int8, by name."""
    inputs, outputs, kernel, side, batch = shape
    draw = np.random.default_rng(0)
    conv, pads = kernel > 1, [kernel // 2] * 4
    w = draw.integers(-127, 128, (outputs, inputs, kernel, kernel) if conv else (outputs, inputs)).astype(np.int8)
    x = draw.integers(0, 256, (batch, inputs, side, side) if conv else (batch, inputs)).astype(np.uint8)
    real, weight = x.astype(np.float32), w.astype(np.float32)
    rx, rw = torch.from_numpy(real), torch.from_numpy(weight)
    one, zero = np.float32(0.01), np.uint8(0)
    steps = {"xs": one, "xz": zero, "ws": one, "wz": np.int8(0), "ys": np.float32(30), "yz": np.uint8(128)}
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    stored = {"w": w if conv else np.ascontiguousarray(w.T), **{k: np.asarray(v) for k, v in steps.items()}}
    plain = {"w": weight if conv else np.ascontiguousarray(weight.T)}
    return {
        "float, torch": (lambda: torch.conv2d(rx, rw, None, 1, kernel // 2)) if conv else (lambda: rx @ rw.T),
        "float, ONNX Runtime": session("Conv" if conv else "MatMul", plain, ["x", "w"], real, pads),
        "int8, ONNX Runtime": session("QLinearConv" if conv else "QLinearMatMul", stored, names, x, pads),
    }


def ours(shape: tuple[int, ...], way: tuple) -> tuple[dict[str, Call], Weight, bool]:
    """Return the three calls, the weight, and whether every sum is the float product's."""
    (inputs, outputs, kernel, side, batch), (bits, values, levels, path) = shape, way
    draw = np.random.default_rng(0)
    codes = draw.choice(np.array(values), (outputs, inputs, kernel, kernel))
    raw = draw.integers(0, 2**levels.bits, (batch, side, side, inputs)).astype(np.uint8)
    window, number = Window(padding=(kernel // 2, kernel // 2)), path_number(path)
    weight = Weight(codes, bits, levels)
    plan = planned(weight, window, (side, side))
    factor, total = np.full(outputs, 0.01, np.float32), np.empty((batch, side, side, outputs), np.int32)
    rows = laid_out(packed_pixels(raw, weight, 0, number), plan)
    calls = {
        "product": lambda: multiply(rows, weight, plan, (0, number), total),
        "with packing": lambda: convolve(raw, weight, window, path),
        "codes to codes": lambda: requantized(convolve(raw, weight, window, path), factor, (128, 0, 255)),
    }
    scale, shift = levels.affine
    real = torch.from_numpy((raw.astype(np.float32) * scale - shift).transpose(0, 3, 1, 2).copy())
    wanted = torch.conv2d(real, torch.from_numpy(codes.astype(np.float32)), None, 1, kernel // 2)
    calls["product"]()
    same = (wanted.numpy().transpose(0, 2, 3, 1) == total).all() and (
        total == convolve(raw, weight, window, path)
    ).all()
    return calls, weight, bool(same)


def processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.machine()


def seconds(call: Call, times: int) -> float:
    """Return the least that one of that many calls takes, so that what else the machine does in between is left out."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)


def rounds(calls: dict[str, Call]) -> dict[str, list[float]]:
    """Return each call's seconds in every round."""
    times = {name: max(5, int(AT_LEAST / min(seconds(call, 1) for _ in range(3)))) for name, call in calls.items()}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            taken[name].append(seconds(call, times[name]))
    return taken


def ratios(name: str, taken: list[float], base: list[float]) -> dict[str, float]:
    """Return how many times faster than `base`: the median and the quartiles over the rounds."""
    low, middle, high = statistics.quantiles([b / t for b, t in zip(base, taken, strict=True)], n=4)
    return {name: round(middle, 2), f"{name}_low": round(low, 2), f"{name}_high": round(high, 2)}


def rounded(net: Net, x: torch.Tensor, bits: int, input_bits: int) -> Net:
    """Return the network with weights of `bits` bits and inputs of `input_bits`."""
    made = net.copy()
    fix_activations(made, input_bits, x)
    for name, _ in made.weighted():
        value = made.slot(name)().detach()
        made.set_slot(name, Grid(signs(value), value.abs().mean(), 1) if bits == 1 else Grid(*grid(value, bits), bits))
    return made.eval()


@torch.no_grad()
def networks(name: str, batch: int) -> tuple[dict[str, Call], dict[str, tuple[int, int, float]]]:
    """Return calls of one network by way, and {packed way: (layers packed, left, largest difference)}."""
    net = fold_batchnorm(network({"model": name}, (3, 32, 32), 10))[0].eval()
    x = torch.rand((batch, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    whole = Uniform(8, activation_bits=8).apply(net, Work({"calib": (x, None)}))
    calls: dict[str, Call] = {"float, torch": lambda: net(x)}
    for way, made in (("float, ONNX Runtime", net), ("int8, ONNX Runtime", whole)):
        file = runtime(build(freeze(made)))
        calls[way] = lambda file=file: file.run(None, {file.get_inputs()[0].name: x.numpy()})
    seen = {}
    for bits, inputs in ((1, 1), (1, 2), (2, 2), (2, 4), (4, 4)):
        low = rounded(net, x, bits, inputs)
        run, wanted = execute(low), low(x)
        gap = float((run(x) - wanted).abs().max() / wanted.abs().max())
        way = f"packed, {bits} x {inputs}" if bits != 2 else f"packed, ternary x {inputs}"
        calls[way], seen[way] = lambda run=run: run(x), (len(run.packed), len(run.left), gap)
    return calls, seen


def whole_networks(circumstances: dict[str, object]) -> None:
    """Measure networks, print and write their table."""
    rows = []
    for name, batch in (("vgg_11", 1), ("resnet_small", 1), ("resnet_small", 16)):
        calls, seen = networks(name, batch)
        with torch.no_grad():
            taken = rounds(calls)
        floats = [min(pair) for pair in zip(taken["float, torch"], taken["float, ONNX Runtime"], strict=True)]
        for way, times in taken.items():
            layers, left, gap = seen.get(way, ("", "", ""))
            rows.append({"network": name, "batch": batch, "way": way, "milliseconds": round(statistics.median(times) * 1e3, 3),
                         **ratios("over_float", times, floats), **ratios("over_int8", times, taken["int8, ONNX Runtime"]),
                         "layers_packed": layers, "layers_left": left, "difference": gap, **circumstances,
                         "load": round(os.getloadavg()[0], 2)})  # fmt: skip
            print(f"{name:14s} batch {batch:2d} {way:22s} {rows[-1]['milliseconds']:8.3f} ms  {rows[-1]['over_float']:6.2f} x float  "
                  f"{rows[-1]['over_int8']:6.2f} x int8  packed {layers} left {left}  difference {gap}")  # fmt: skip
    write("low_bit_networks.csv", rows)


def main() -> None:
    """Measure, print and write the table."""
    torch.set_num_threads(1)
    circumstances = {"rounds": ROUNDS, "threads": 1, "path": paths()[-1], "cpu": processor(), "onnxruntime": onnxruntime.__version__,
                     "torch": torch.__version__, "date": datetime.now(UTC).date().isoformat()}  # fmt: skip
    rows = []
    for shape_name, shape in SHAPES.items():
        calls = {(name, ""): call for name, call in theirs(shape).items()}
        kept = {name: ours(shape, way) for name, way in WAYS.items() if way[3] in ("", *paths())}
        calls |= {(name, part): call for name, (parts, _, _) in kept.items() for part, call in parts.items()}
        taken = rounds(calls)  # type: ignore[arg-type]
        macs = shape[0] * shape[1] * shape[2] ** 2 * shape[3] ** 2 * shape[4]
        floats = [min(pair) for pair in zip(taken["float, torch", ""], taken["float, ONNX Runtime", ""], strict=True)]
        for (name, part), times in taken.items():
            weight, same = (kept[name][1], kept[name][2]) if name in kept else (None, "")
            middle = statistics.median(times)
            rows.append({"shape": shape_name, "way": name, "part": part, "kernel": weight.way if weight else "",
                         "microseconds": round(middle * 1e6, 1), "gmacs_per_second": round(macs / middle / 1e9, 1),
                         **ratios("over_float", times, floats), **ratios("over_int8", times, taken["int8, ONNX Runtime", ""]),
                         "weight_bytes": weight.bytes if weight else macs // (shape[3] ** 2 * shape[4]) * (4 if "float" in name else 1),
                         "exact": same, **circumstances, "load": round(os.getloadavg()[0], 2)})  # fmt: skip
            print(f"{shape_name:30s} {name:20s} {part:15s} {rows[-1]['microseconds']:8.1f} us  {rows[-1]['over_float']:6.2f} x float  "
                  f"{rows[-1]['over_int8']:6.2f} x int8  exact {same}")  # fmt: skip
    write("low_bit.csv", rows)
    whole_networks(circumstances)


if __name__ == "__main__":
    main()
