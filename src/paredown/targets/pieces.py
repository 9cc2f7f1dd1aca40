"""A file cut into what its runtime makes of it: one-node files after the runtime's own fusions and layouts. Needs no torch."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from paredown.core.errors import BadInput

PROVIDERS = ["CPUExecutionProvider"]
WEIGHTED = ("Conv", "ConvTranspose", "FusedConv", "QLinearConv", "ConvInteger", "Gemm", "FusedGemm", "QGemm", "MatMul", "FusedMatMul",
            "QLinearMatMul", "MatMulInteger", "LSTM", "GRU", "RNN")  # fmt: skip
"""Operators that do most of a network's products, in ONNX and in ONNX Runtime's own domains."""

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Piece:
    """One node of a runtime's own graph as a file of its own.

    key: the same for every node of the same shape class (operator, attributes, shapes and types of what it reads and makes).
    bytes: of all that it reads and makes. text: the class in words. label: the layer that it computes, or its operator in brackets.
    """

    key: str
    text: str
    label: str
    model: bytes = field(repr=False)
    feeds: Feeds = field(repr=False)
    made: tuple[tuple[str, np.ndarray], ...] = field(repr=False)
    bytes: int = 0

    def call(self) -> Callable[[], object]:
        """Return a call that runs the node alone on one thread, into memory that is there already."""
        run = opened(self.model, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
        binding = run.io_binding()
        for name, value in self.feeds.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
        for name, value in self.made:
            binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(np.empty_like(value)))
        return lambda: run.run_with_iobinding(binding)


def opened(model: bytes, level: Any = None, written: str = "") -> onnxruntime.InferenceSession:
    """Return a session on one thread, optimised to a level (all of it, if None). written: where to put the optimised file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if level is not None:
        options.graph_optimization_level = level
    if written:
        options.optimized_model_filepath = written
    try:
        return onnxruntime.InferenceSession(model, options, providers=PROVIDERS)
    # ONNX Runtime's exceptions share no base class of their own below Exception.
    except Exception as error:
        raise BadInput(f"ONNX Runtime refuses this model: {str(error).splitlines()[0]}") from error


def optimised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph that ONNX Runtime runs on this machine: fused, and in its own memory layouts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        opened(model.SerializeToString(), written=str(path))
        return onnx.load(path)


def pieces(model: onnx.ModelProto, feeds: Feeds, layers: tuple[str, ...] = ()) -> list[Piece]:
    """Return the nodes that the runtime runs for a model, each alone, in order.

    feeds: the inputs by name. layers: the names of the layers with weights, in the order of their nodes in `model`.
    Raises BadInput for a model that does not run.
    """
    graph = optimised(model).graph
    opsets = list(optimised_opsets(model))
    stored = {t.name: t for t in graph.initializer}
    values = {**{name: numpy_helper.to_array(t) for name, t in stored.items()}, **_seen(graph, opsets, feeds)}
    labels = _Labels(model, layers)
    return [_piece(node, stored, values, opsets, labels.of(node)) for node in graph.node]


def optimised_opsets(model: onnx.ModelProto) -> tuple[Any, ...]:
    """Return the operator sets of a model, with those of ONNX Runtime's own domains."""
    own = {o.domain: o.version for o in model.opset_import}
    return tuple(
        helper.make_opsetid(*pair)
        for pair in {**own, "com.microsoft": 1, "com.microsoft.nchwc": 1, "ai.onnx.ml": 3}.items()
    )


def _seen(graph: onnx.GraphProto, opsets: list[Any], feeds: Feeds) -> dict[str, np.ndarray]:
    """Return every value that the graph makes."""
    whole = onnx.GraphProto()
    whole.CopyFrom(graph)
    names = [name for node in graph.node for name in node.output if name]
    del whole.output[:]
    whole.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    run = opened(_file(whole, opsets), onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    made = run.run(names, dict(feeds))
    return {**{k: np.asarray(v) for k, v in feeds.items()}, **dict(zip(names, made, strict=True))}


def _file(graph: onnx.GraphProto, opsets: list[Any]) -> bytes:
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


def _piece(
    node: onnx.NodeProto, stored: Mapping[str, TensorProto], values: Feeds, opsets: list[Any], label: str
) -> Piece:
    alone = onnx.NodeProto()
    alone.CopyFrom(node)
    alone.name = alone.doc_string = ""
    read = [name for name in dict.fromkeys(node.input) if name]
    given = {name: np.ascontiguousarray(values[name]) for name in read if name not in stored}
    made = tuple((name, values[name]) for name in node.output if name)
    inputs, outputs = ([_info(name, v) for name, v in pairs] for pairs in (given.items(), made))
    graph = helper.make_graph([alone], "piece", inputs, outputs, [stored[name] for name in read if name in stored])
    told = _told(node, stored, values)
    key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    size = sum(values[name].nbytes for name in (*read, *(name for name, _ in made)))
    return Piece(key, _words(node, told), label or f"({node.op_type})", _file(graph, opsets), given, made, size)


def _info(name: str, value: np.ndarray) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def _told(node: onnx.NodeProto, stored: Mapping[str, TensorProto], values: Feeds) -> dict[str, Any]:
    """Return what makes the class of a node; the values of short whole-number inputs, such as a shape's, belong to it."""
    reads: list[Any] = []
    for name in node.input:
        if not name:
            reads.append(None)
            continue
        value = values[name]
        short = value.dtype.kind in "iub" and value.size <= 16 and name in stored
        reads.append([name in stored, value.dtype.name, list(value.shape), value.tolist() if short else None])
    attributes = {a.name: str(helper.get_attribute_value(a)) for a in node.attribute}
    makes = [[values[name].dtype.name, list(values[name].shape)] for name in node.output if name]
    return {"op": node.op_type, "domain": node.domain, "attributes": attributes, "reads": reads, "makes": makes}


def _words(node: onnx.NodeProto, told: Mapping[str, Any]) -> str:
    shapes = [f"{'×'.join(map(str, r[2]))} {r[1]}" for r in told["reads"][:2] if r is not None]
    layout = " in blocks of channels" if node.domain.endswith("nchwc") else ""
    return f"{node.op_type}{layout}: {' by '.join(shapes)} to {'×'.join(map(str, told['makes'][0][1]))}"


class _Labels:
    """Which layer a node of the optimised graph computes, from the names that the runtime left."""

    def __init__(self, model: onnx.ModelProto, layers: tuple[str, ...]) -> None:
        stored = {t.name for t in model.graph.initializer}
        nodes = list(model.graph.node)
        self.maker = {name: node for node in nodes for name in node.output}
        held = _from_stored(nodes, stored)
        weighted = [n for n in nodes if n.op_type in WEIGHTED and len(n.input) > 1 and n.input[1] in held]
        named = layers if len(layers) == len(weighted) else tuple(n.output[0] for n in weighted)
        self.layer = {n.output[0]: name for n, name in zip(weighted, named, strict=True)}
        self.weight = {n.input[1]: name for n, name in zip(weighted, named, strict=True)}

    def of(self, node: onnx.NodeProto) -> str:
        """Return the layer's name, or nothing for a node without weights."""
        if node.op_type not in WEIGHTED or len(node.input) < 2:
            return ""
        if node.input[1] in self.weight:
            return self.weight[node.input[1]]
        value = node.name.removesuffix("_nchwc") if node.name.endswith("_nchwc") else node.output[0]
        return self._behind(value)

    def _behind(self, value: str) -> str:
        """Return the nearest layer that this value comes from; each is given once."""
        line = [value]
        for name in line:
            if name in self.layer:
                return self.layer.pop(name)
            maker = self.maker.get(name)
            line += [n for n in (maker.input if maker and maker.op_type not in WEIGHTED else ()) if n not in line]
        return ""


def _from_stored(nodes: list[onnx.NodeProto], stored: set[str]) -> set[str]:
    """Return the values that are stored, or computed from stored ones alone."""
    held = set(stored)
    for node in nodes:
        if node.input and all(name in held for name in node.input if name):
            held.update(node.output)
    return held
