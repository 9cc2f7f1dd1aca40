"""The integer reference beside ONNX Runtime on whole trained networks, and the exported int8 file's speed beside the runtime's own.

    export PAREDOWN_DATA=…
    python bench/integer_reference.py codes mnist cifar10-jpeg    # minutes; trains what --work does not hold, as bench/quantization.py
    python bench/integer_reference.py speed mnist cifar10-jpeg    # seconds, on a machine that does little else

Networks: norms folded, weights of 8 bits by channel, activations of 8 bits everywhere (ranges of least squared error over the
512 calibration pictures), so that the exported file is in integers from its input to its output.

codes: every output code of the 10,000 test pictures, the exported file in ONNX Runtime against `graph.integer_net` with each of
its roundings, and the accuracy of each. "float" is to have no mismatch. "fixed" has the mismatches of roundings that fall the other
way near a tie, at most one code in each layer; later layers carry them on. Into bench/results/integer_reference.csv.
speed: our file, ONNX Runtime's static quantization of our float file (QDQ, uint8 activations, int8 weights by channel, the same
calibration pictures), and the float file; in turns, in one process, median and least of --repeats. "to_onnxruntime" is our median
over theirs, "least_to_…" the ratio of the least, which other programs on the machine disturb less. "same_operators": the runtime
optimises both int8 files to the same operators. Into bench/results/integer_speed.csv.
Both run uint8 times int8, which saturates pairs of products on x86 processors that have no VNNI: there both files, and not the
reference, lose accuracy.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from paredown.core.work import Work
from paredown.graph.capture import capture
from paredown.graph.fold import fold_batchnorm
from paredown.graph.freeze import freeze
from paredown.graph.frozen import Frozen
from paredown.graph.integer_net import IntegerNet
from paredown.methods.quantize.activations import Activations
from paredown.methods.quantize.uniform import Uniform
from paredown.targets.lower import build
from paredown.targets.runtime import session
from quantization import Case, trained
from tables import write


class Pictures(CalibrationDataReader):
    """Calibration pictures as ONNX Runtime asks for them."""

    def __init__(self, name: str, x: np.ndarray) -> None:
        self.parts = iter([{name: x[at : at + 16]} for at in range(0, len(x), 16)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.parts, None)


def networks(case: Case) -> dict[str, Frozen]:
    """Return the folded network in float and in integers."""
    calib = case.data["calib"].x
    folded = fold_batchnorm(capture(case.model, calib[:2]))[0]
    work = Work({"calib": (calib, None)})
    integers = Uniform(8).apply(Activations(8, "mse", everywhere=True).apply(folded, work), work)
    return {"float": freeze(folded), "integers": freeze(integers)}


def by_runtime(model: onnx.ModelProto, x: np.ndarray, folder: Path) -> onnx.ModelProto:
    """Return ONNX Runtime's own static quantization of a float model."""
    plain, ready, done = (folder / name for name in ("float.onnx", "ready.onnx", "done.onnx"))
    onnx.save(model, plain)
    quant_pre_process(plain, ready, skip_symbolic_shape=True)
    reader = Pictures(model.graph.input[0].name, x)
    quantize_static(
        ready, done, reader, quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return onnx.load(done)


def models(case: Case) -> dict[str, onnx.ModelProto]:
    """Return the three files: ours, the runtime's own, float."""
    nets = networks(case)
    plain = build(nets["float"])
    with tempfile.TemporaryDirectory() as folder:
        own = by_runtime(plain, case.data["calib"].x.numpy(), Path(folder))
    return {"paredown": build(nets["integers"]), "onnxruntime": own, "float": plain}


def scores(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """Return a file's outputs."""
    run = session(model)
    name = run.get_inputs()[0].name
    return np.concatenate([run.run(None, {name: x[at : at + 500]})[0] for at in range(0, len(x), 500)])


def codes(case: Case) -> dict[str, Any]:
    """Return one network's line: mismatching codes and accuracies on the test pictures."""
    files, frozen = models(case), networks(case)["integers"]
    x, y = case.data["test"].x.numpy(), case.data["test"].y.numpy()
    found = {f"{tool}_file": scores(model, x) for tool, model in files.items()}
    last = frozen.spec.node(IntegerNet(frozen).output).args
    step, zero = np.float32(last["scale"]), last["zero_point"]
    file_codes = np.rint(found["paredown_file"] / step).astype(int) + zero
    line: dict[str, Any] = {"task": case.task, "seed": case.seed, "pictures": len(x), "codes": file_codes.size}
    for rounding in ("float", "fixed"):
        start = time.perf_counter()
        ours = IntegerNet(frozen, rounding).codes(x).astype(int)
        spent = time.perf_counter() - start
        off = np.abs(ours - file_codes)
        found[f"reference_{rounding}"] = ours
        line |= {f"{rounding}_mismatches": int((off > 0).sum()), f"{rounding}_furthest": int(off.max()),
                 f"{rounding}_by_one": int((off == 1).sum()), f"{rounding}_seconds": round(spent, 1)}  # fmt: skip
    return line | {f"{name}_accuracy": float((value.argmax(1) == y).mean()) for name, value in found.items()}


def operators(model: onnx.ModelProto) -> Counter[str]:
    """Return how often each operator stands in the graph that ONNX Runtime makes of a model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def speed(case: Case, repeats: int) -> list[dict[str, Any]]:
    """Return the medians of the three files for each number of threads and batch size."""
    files, x, rows = models(case), case.data["test"].x.numpy(), []
    same = operators(files["paredown"]) == operators(files["onnxruntime"])
    for threads in (1, 2):
        runs = {tool: session(model, threads) for tool, model in files.items()}
        order = list(runs)
        for batch in (1, 16):
            spent: dict[str, list[float]] = {tool: [] for tool in runs}
            for turn in range(repeats):
                for at in range(len(order)):
                    tool = order[(turn + at) % len(order)]
                    spent[tool].append(timed(runs[tool], x[:batch]))
            median = {tool: statistics.median(values) for tool, values in spent.items()}
            least = {tool: min(values) for tool, values in spent.items()}
            rows.append({"task": case.task, "seed": case.seed, "threads": threads, "batch": batch, "repeats": repeats,
                         **{f"{tool}_ms": round(1e3 * value, 4) for tool, value in median.items()},
                         **{f"{tool}_least_ms": round(1e3 * value, 4) for tool, value in least.items()},
                         **{f"to_{tool}": round(median["paredown"] / median[tool], 3) for tool in order[1:]},
                         **{f"least_to_{tool}": round(least["paredown"] / least[tool], 3) for tool in order[1:]},
                         "same_operators": same, "runtime": onnxruntime.__version__, "load": round(os.getloadavg()[0], 2)})  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def timed(run: onnxruntime.InferenceSession, x: np.ndarray) -> float:
    """Return the seconds of one run of a few in a row, the first of which warms up."""
    feed = {run.get_inputs()[0].name: x}
    run.run(None, feed)
    start = time.perf_counter()
    for _ in range(5):
        run.run(None, feed)
    return (time.perf_counter() - start) / 5


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("codes", "speed"))
    parser.add_argument("tasks", nargs="*", default=["mnist", "cifar10-jpeg"])
    parser.add_argument("--work", type=Path, default=Path("runs/quantization"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=60)
    asked = parser.parse_args()
    cases = [trained(asked.work, name, asked.seed, 0.5) for name in asked.tasks]
    if asked.verb == "codes":
        lines = [codes(case) for case in cases]
        print(*lines, sep="\n")
        write("integer_reference.csv", lines)
    else:
        write("integer_speed.csv", [row for case in cases for row in speed(case, asked.repeats)])
