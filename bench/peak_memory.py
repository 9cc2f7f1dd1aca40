"""Our peak memory beside what ONNX Runtime's planner really allocates, and LiteRT's where it is installed.

    python bench/peak_memory.py            # seconds; LiteRT's part wants an environment with litert-torch and paredown

ONNX Runtime plans one block for the intermediate tensors of a network once it has seen its shapes; its allocator says how large
that block is (profiling, second run, less what was in use before the first node of the first). Inputs, outputs and weights are not
in it, so ours leaves them out too. LiteRT's arena is read off the addresses of its tensors; it keeps the inputs all the while, so ours
adds them to every moment. Where the two differ, the runtime runs an operator of its own for what we hold to be in place: a clamp or a
batch norm that was not fused. Into bench/results/peak_memory.csv.
"""

import json
import math
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from paredown.core.work import Work
from paredown.cost.memory import timeline
from paredown.graph.freeze import freeze
from paredown.graph.net import Net
from paredown.graph.spec import references
from paredown.methods.edit.fold_batchnorm import FoldBatchnorm
from paredown.targets.onnx import build
from paredown.zoo.resolve import network
from tables import write

NETWORKS = (
    ("lenet_5", (1, 28, 28)), ("resnet_small", (3, 32, 32)), ("mobilenet_v2", (3, 96, 96)), ("vgg_11", (3, 64, 64)),
    ("squeezenet_1_1", (3, 96, 96)), ("densenet_small", (3, 32, 32)), ("mobilenet_v3_small", (3, 96, 96)),
)  # fmt: skip


def folded(model: str, shape: tuple[int, ...]) -> Net:
    """Return a network of the zoo with its batch norms folded, as runtimes fold them."""
    return FoldBatchnorm().apply(network({"model": model}, shape, 10).eval(), Work()).eval()


def counted(net: Net, inputs_stay: bool) -> int:
    """Return our peak of intermediate tensors in bytes, pointwise operators in place, and the inputs where they stay throughout."""
    inputs = {name for name, _ in net.spec.inputs}
    ends = inputs if inputs_stay else inputs | {str(value) for value in references(net.spec.output)}
    inside = max(
        sum(size for name, size in m.live.items() if name not in ends) for m in timeline(net, inplace="pointwise")
    )
    return inside + inputs_stay * 4 * sum(math.prod(shape) for _, shape in net.spec.inputs)


def onnxruntime_bytes(net: Net) -> int:
    """Return the size of the block that ONNX Runtime plans for the intermediate tensors of one sample."""
    model = build(freeze(net))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_value = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(model, path)
        options = onnxruntime.SessionOptions()
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        options.intra_op_num_threads = 1
        options.graph_optimization_level = (
            onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        )  # the next blocks channels
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feed = {i.name: np.zeros([1, *net.spec.inputs[0][1]], np.float32) for i in session.get_inputs()}
        for _ in range(2):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [
        e["args"]
        for e in sorted(events, key=lambda e: e["ts"])
        if e.get("cat") == "Node" and "mem_bytes_requested_in_use" in e["args"]
    ]
    half = len(nodes) // 2
    before = int(nodes[0]["mem_bytes_requested_in_use"]) - int(nodes[0]["mem_requested_in_use_delta"])
    return int(nodes[half]["mem_bytes_requested_in_use"]) - int(nodes[half]["mem_requested_in_use_delta"]) - before


def litert_bytes(net: Net) -> int | None:
    """Return the extent of LiteRT's arena for one sample, from the addresses of its tensors; None where it is not installed."""
    try:
        import litert_torch
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.tflite"
        litert_torch.convert(net.eval(), (torch.zeros(1, *net.spec.inputs[0][1]),)).export(str(path))
        plain = OpResolverType.BUILTIN_REF  # the optimised kernels plan their unfolded pictures into the arena too
        own = Interpreter(str(path), experimental_op_resolver_type=plain, experimental_preserve_all_tensors=False)
        own.allocate_tensors()
        made = {index for op in own._get_ops_details() for index in op["outputs"]}
        spans = []
        for index in made | {detail["index"] for detail in own.get_input_details()}:
            start = own.tensor(index)().__array_interface__["data"][0]
            spans.append((start, start + own.tensor(index)().nbytes))
    return max(end for _, end in spans) - min(start for start, _ in spans)


def main() -> None:
    """Write and print the table."""
    rows = []
    for model, shape in NETWORKS:
        net = folded(model, shape)
        ours, theirs = counted(net, inputs_stay=False), onnxruntime_bytes(net)
        whole, arena = counted(net, inputs_stay=True), litert_bytes(net)
        row = {
            "network": model, "input": "x".join(map(str, shape)), "ours_inside_bytes": ours, "onnxruntime_bytes": theirs,
            "onnxruntime_ratio": round(ours / theirs, 4), "ours_with_input_bytes": whole, "litert_bytes": arena,
            "litert_ratio": round(whole / arena, 4) if arena else None, "onnxruntime": onnxruntime.__version__,
            "torch": torch.__version__, "machine": platform.machine(), "date": datetime.now(UTC).date().isoformat(),
        }  # fmt: skip
        rows.append(row)
        print(
            f"{model:14} ours {ours:>9,}  ONNX Runtime {theirs:>9,} ({row['onnxruntime_ratio']})  with input {whole:>9,}  LiteRT {arena}"
        )
    write("peak_memory.csv", rows)


if __name__ == "__main__":
    main()
