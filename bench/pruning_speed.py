"""Is a pruned network faster, and was that told before? Expected beside measured ratios, and what masks bring.

    python bench/pruning_speed.py            # about three minutes; OpenVINO is timed too where it is installed

Part "channels": `targets.expected` (the sum of measured shape classes) beside the whole files' ratio in ONNX Runtime, one thread,
files before and after in turn; `error` is expected over measured, less 1, and `macs_error` what the ratio of multiply-accumulates would
have promised. Files are written from folded networks ("folded"), and from networks as a training leaves them ("as trained").
Part "masks": bytes of the packed file beside what an index costs (a bit for each weight, 4-bit relative positions, the entropy bound
H(s)·n, or for N:M log2(M over N) a group), and dense over masked time of the same file in ONNX Runtime and OpenVINO. `predicted_*` add the
32-bit values that stay and all that is no mask, as the dense file has it; `coding_bytes` is the packed file with its zeros positive.
Part "kernels": one product, dense in ONNX Runtime beside sparse formats, two in turn, each checked against the dense one; above 1 is
faster than dense.

Times are of the calling thread alone, each call warmed by one untimed; a ratio is that of the same round, its median and quartiles are written.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
import scipy
import scipy.sparse
import torch
from onnx import TensorProto, helper, numpy_helper

from paredown.core.work import Work
from paredown.cost.count import count
from paredown.cost.index_cost import bitmask_bits, choices_bits, entropy_bits, relative_bits
from paredown.cost.measure import processor
from paredown.graph.fold import fold_batchnorm
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.graph.slots import Free, Masked
from paredown.methods.prune.channels import Channels
from paredown.methods.prune.weights import Weights
from paredown.methods.structure.block import Block
from paredown.methods.structure.granularity import Granularity
from paredown.methods.structure.n_m import NM
from paredown.targets.classes import Book, whole
from paredown.targets.container import write as pack
from paredown.targets.expected import Side, expected
from paredown.targets.pieces import opened
from paredown.targets.reasons import reasons
from paredown.verbs.expect import side
from paredown.zoo.resolve import network
from tables import write

Row = dict[str, Any]
Call = Callable[[], object]

NETWORKS = {"resnet_small": (3, 32, 32), "mobilenet_v2": (3, 96, 96), "vgg_11": (3, 32, 32)}
RATIOS = ((0.25, 1), (0.4, 1), (0.4, 16), (0.5, 1), (0.75, 1))
"""The share of the channels that go, and of how many a multiple stays."""
MASKS = {
    "unstructured 50 %": (0.5, Granularity()), "unstructured 75 %": (0.75, Granularity()), "unstructured 90 %": (0.9, Granularity()),
    "2:4": (0.5, NM(2, 4)), "4:8": (0.5, NM(4, 8)), "block 4 x 4, 50 %": (0.5, Block(4, 4)), "block 4 x 4, 90 %": (0.9, Block(4, 4)),
}  # fmt: skip
MASKED = {"resnet_small": (3, 32, 32), "lenet_300_100": (1, 28, 28)}
PRODUCTS = {"linear 1024-1024, batch 1": (1024, 1024, 1), "1 x 1, 256-256, 14 x 14": (256, 256, 196)}
"""Outputs, inputs, columns."""
ROUNDS = 41
COLUMNS = ("part", "network", "way", "runtime", "macs_ratio", "expected", "measured", "measured_low", "measured_high", "error",
           "macs_error", "fixed_share", "before_ms", "after_ms", "classes", "seconds", "weights", "zeros", "dense_bytes", "file_bytes",
           "coding_bytes", "predicted_bitmask", "predicted_relative4", "predicted_entropy", "predicted_choices", "reason")  # fmt: skip


def ratio(before: list[float], after: list[float]) -> tuple[float, float, float]:
    """Return the median and the quartiles of how many times faster, round by round."""
    low, middle, high = statistics.quantiles([b / a for b, a in zip(before, after, strict=True)], n=4)
    return middle, low, high


def timed(calls: dict[str, Call], base: str) -> dict[str, tuple[float, float, float]]:
    """Return the ratios of every call to the first one; each runs once untimed before it is timed, so that all are warm."""
    took: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            call()
            start = time.thread_time_ns()
            call()
            took[name].append((time.thread_time_ns() - start) / 1e6)
    return {name: ratio(took[base], own) for name, own in took.items() if name != base}


def measured(seen: tuple[float, float, float]) -> Row:
    """Return a ratio as columns."""
    return dict(zip(("measured", "measured_low", "measured_high"), (round(v, 3) for v in seen), strict=True))


def file(one: Side) -> Call:
    """Return a call of a side's whole file in ONNX Runtime."""
    return whole(one.model, one.feeds)


def in_openvino(one: Side) -> Call | None:
    """Return a call of a side's whole file in OpenVINO, on one thread, or None where it is not installed."""
    try:
        openvino = importlib.import_module("openvino")
    except ImportError:
        return None
    settings = {"INFERENCE_NUM_THREADS": 1, "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE": 0.4}
    core = openvino.Core()
    made = core.compile_model(core.read_model(one.model.SerializeToString()), "CPU", settings)
    request = made.create_infer_request()
    (given,) = one.feeds.values()
    return lambda: request.infer([given])


def thinner(name: str, shape: tuple[int, ...]) -> Iterator[Row]:
    """Yield expected beside measured ratios of one network, folded at every ratio and as trained at a half."""
    net = network({"model": name}, shape, 10).eval()
    for state, ratios in (("folded", RATIOS), ("as trained", RATIOS[3:4])):
        own = fold_batchnorm(net)[0].eval() if state == "folded" else net
        before, book = side(own), Book(None)
        for share, multiple in ratios:
            thin = Channels(share, multiple_of=multiple).apply(own, Work()).eval()
            after, start = side(thin), time.perf_counter()
            told = expected(before, after, "onnx", book)
            seconds = time.perf_counter() - start
            seen = timed({"before": file(before), "after": file(after)}, "before")["after"]
            macs = count(own).macs / count(thin).macs
            why = "; ".join(f"{one.about}: {one.text}" for one in reasons(told, before, after))
            yield {
                "part": "channels", "network": f"{name}, {state}", "way": f"{share:.0%} of channels" + (f", {multiple} k" if multiple > 1 else ""), "runtime": "onnx",
                "macs_ratio": round(macs, 3), "expected": round(told.ratio.value, 3), **measured(seen),
                "error": round(told.ratio.value / seen[0] - 1, 3), "macs_error": round(macs / seen[0] - 1, 3),
                "fixed_share": round(told.fixed_ms[1] / told.after.value, 3), "before_ms": round(told.before.value, 4),
                "after_ms": round(told.after.value, 4), "classes": told.fresh, "seconds": round(seconds, 2), "reason": why,
            }  # fmt: skip


def positive(net: Net) -> Net:
    """Return a copy whose masked weights are plain, with zeros that have no sign."""
    out = net.copy()
    for name in out.slot_names():
        slot = out.slot(name)
        if isinstance(slot, Masked):
            out.set_slot(name, Free(torch.where(slot.mask, slot.value.detach(), 0.0)))
    return out


def predicted(net: Net, dense_bytes: int, structure: Any) -> Row:
    """Return what a file with these masks should take, by index."""
    marks = [net.slot(name).mask.numpy() for name in net.slot_names() if isinstance(net.slot(name), Masked)]
    size, staying = sum(m.size for m in marks), sum(int(m.sum()) for m in marks)
    rest = dense_bytes - 4 * size
    relative = [relative_bits(m) for m in marks]
    bits = {
        "bitmask": 32 * staying + sum(bitmask_bits(m.size) for m in marks),
        "relative4": 32 * (staying + sum(fillers for _, fillers in relative)) + sum(b for b, _ in relative),
        "entropy": 32 * staying + sum(entropy_bits(m.size, int(m.sum())) for m in marks),
    }
    if isinstance(structure, NM):
        whole_groups = sum(m.shape[1] // structure.m * (m.size // m.shape[1]) for m in marks)
        bits["choices"] = 32 * staying + choices_bits(structure.n, structure.m, whole_groups)
    if isinstance(structure, Block):
        tiles = [-(-m.shape[0] // structure.rows) * -(-(m.size // m.shape[0]) // structure.columns) for m in marks]
        bits["choices"] = 32 * staying + sum(
            entropy_bits(t, round(t * m.mean())) for t, m in zip(tiles, marks, strict=True)
        )
    found = {f"predicted_{name}": round(rest + own / 8) for name, own in bits.items()}
    return {"weights": size, "zeros": round(1 - staying / size, 4), **found}


def masks(name: str, shape: tuple[int, ...]) -> Iterator[Row]:
    """Yield bytes and times of one network under every mask."""
    net = fold_batchnorm(network({"model": name}, shape, 10))[0].eval()
    before, dense = side(net), len(pack(freeze(net))[0])
    for way, (sparsity, structure) in MASKS.items():
        masked = Weights(sparsity, structure=structure).apply(net, Work()).eval()
        after, start = side(masked), time.perf_counter()
        told = expected(before, after, "onnx", Book(None))
        sizes = {"dense_bytes": dense, "file_bytes": len(pack(freeze(masked))[0]),
                 "coding_bytes": len(pack(freeze(positive(masked)))[0]), **predicted(masked, dense, structure)}  # fmt: skip
        for runtime, make in (("onnx", file), ("openvino", in_openvino)):
            pair = [make(one) for one in (before, after)]
            if None in pair:
                continue
            seen = timed(dict(zip(("before", "after"), pair, strict=True)), "before")["after"]
            yield {"part": "masks", "network": name, "way": way, "runtime": runtime, **measured(seen), **sizes,
                   "expected": round(told.ratio.value, 3) if runtime == "onnx" else "",
                   "seconds": round(time.perf_counter() - start, 2),
                   "error": round(told.ratio.value / seen[0] - 1, 3) if runtime == "onnx" else ""}  # fmt: skip


def dense_call(weight: np.ndarray, x: np.ndarray) -> Call:
    """Return weight · x in ONNX Runtime, the weight stored."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", x.T.shape), ("y", None))]
    stored = numpy_helper.from_array(np.ascontiguousarray(weight.T), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "product", ends[:1], ends[1:], [stored])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    run, rows = opened(model.SerializeToString()), np.ascontiguousarray(x.T)
    return lambda: run.run(None, {"x": rows})[0]


def sparse_calls(weight: np.ndarray, x: np.ndarray, blocks: bool) -> dict[str, Call]:
    """Return weight · x in sparse formats, by name."""
    formats: dict[str, Any] = {"scipy CSR": scipy.sparse.csr_matrix(weight)}
    if blocks:
        formats["scipy BSR 4 x 4"] = scipy.sparse.bsr_matrix(weight, blocksize=(4, 4))
    calls: dict[str, Call] = {name: partial(matrix.dot, x) for name, matrix in formats.items()}
    matrix, columns = torch.from_numpy(weight).to_sparse_csr(), torch.from_numpy(x)
    calls["torch CSR (MKL)"] = lambda: matrix @ columns
    if blocks:
        tiled = torch.from_numpy(weight).to_sparse_bsr((4, 4))
        calls["torch BSR 4 x 4 (MKL)"] = lambda: tiled @ columns
    return calls


def products(name: str, outputs: int, inputs: int, columns: int) -> Iterator[Row]:
    """Yield sparse kernels beside the dense product, at every mask."""
    draw = np.random.default_rng(0)
    weight = draw.standard_normal((outputs, inputs)).astype(np.float32)
    x = draw.standard_normal((inputs, columns)).astype(np.float32)
    for way, (sparsity, structure) in MASKS.items():
        stays = structure.stays({"w": torch.from_numpy(weight).abs()}, sparsity, "layer")["w"].numpy()
        masked = np.where(stays, weight, 0).astype(np.float32)
        wanted = masked @ x
        calls: dict[str, Call] = {"dense": dense_call(weight, x), "masked": dense_call(masked, x)}
        calls |= sparse_calls(masked, x, isinstance(structure, Block))
        for kernel, call in calls.items():
            got = np.asarray(call()).reshape(-1, outputs).T if kernel in ("dense", "masked") else np.asarray(call())
            assert kernel == "dense" or np.allclose(got, wanted, atol=1e-3), (name, way, kernel)
        dense = calls.pop("dense")
        for kernel, call in calls.items():
            seen = timed({"dense": dense, kernel: call}, "dense")[kernel]
            runtime = "onnx" if kernel == "masked" else kernel
            yield {"part": "kernels", "network": name, "way": way, "runtime": runtime, **measured(seen), "weights": weight.size,
                   "zeros": round(1 - float(stays.mean()), 4)}  # fmt: skip


def shown(row: Row) -> str:
    """Return a row as a line."""
    keys = ("macs_ratio", "expected", "measured", "error", "macs_error", "dense_bytes", "file_bytes", "coding_bytes", "predicted_bitmask",
            "predicted_relative4", "predicted_entropy", "predicted_choices")  # fmt: skip
    told = "  ".join(f"{key} {row[key]}" for key in keys if row.get(key, "") != "")
    return f"{row['part']:9s}{row['network']:27s}{row['way']:20s}{row['runtime']:22s}{told}"


def main() -> None:
    """Measure, print and write the table."""
    torch.set_num_threads(1)
    found = importlib.util.find_spec("openvino")
    versions = f"onnxruntime {onnxruntime.__version__}, scipy {scipy.__version__}, torch {torch.__version__}"
    versions += f", openvino {importlib.import_module('openvino').__version__}" if found else ""
    circumstances = {
        "cpu": processor(),
        "versions": versions,
        "threads": 1,
        "date": datetime.now(UTC).date().isoformat(),
    }
    rows: list[Row] = []
    parts = [thinner(*pair) for pair in NETWORKS.items()] + [masks(*pair) for pair in MASKED.items()]
    parts += [products(name, *sizes) for name, sizes in PRODUCTS.items()]
    for part in parts:
        for row in part:
            rows.append({**dict.fromkeys(COLUMNS, ""), **row, **circumstances, "load": round(os.getloadavg()[0], 2)})
            print(shown(row), flush=True)
    write("pruning_speed.csv", rows)


if __name__ == "__main__":
    main()
