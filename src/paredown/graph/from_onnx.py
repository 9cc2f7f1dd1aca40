"""From an ONNX file to a Net, verified against ONNX Runtime."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data
from onnx.inliner import inline_local_functions
from onnx.shape_inference import InferenceError
from torch.utils._pytree import tree_leaves

from paredown.core.errors import BadInput, Damaged
from paredown.graph import raise_layers, raise_moves, raise_points, raise_recurrent  # noqa: F401  (they register the translations)
from paredown.graph.net import Net
from paredown.graph.onnx_exact import OPTION, exact_allowed
from paredown.graph.onnx_fold import FOLDED, fold
from paredown.graph.raised import BATCH, RAISERS, Call, Const, Raised, known
from paredown.graph.spec import Spec, Value, references

STORED_FORMS = frozenset({"Constant", "DequantizeLinear", "Gather", "Identity", "Shape", "Transpose"})
"""Operators whose translation sees to constants itself: they keep integer codes and codebooks as such."""

REFUSALS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError, InferenceError)
"""What torch, numpy and the shape inference raise for attributes that the checker lets through."""

Shape = tuple[int, ...]


def from_onnx(source: str | Path | onnx.ModelProto, shape: Shape | None = None) -> Net:
    """Return an ONNX network as a Net of ATen operators, its weights trainable; the batch size is left open.

    source: a file, or a loaded model. shape: of one sample, for the sizes that the file leaves open, if it does.
    Float initializers become Free slots; statistics and constants Fixed ones; integers with DequantizeLinear Grid ones;
    a constant Gather from up to 256 values a Codebook. QuantizeLinear and DequantizeLinear on values that flow become
    quantizers with constant steps. The result is run beside ONNX Runtime on random inputs.
    Raises Damaged for what is no ONNX model, BadInput for an operator that is not translated, weights outside the
    model's folder, a misfit of shapes, or a result that differs (rtol 1e-3, atol 1e-4).
    """
    label = f"model {source}" if isinstance(source, str | Path) else "the ONNX model"
    try:
        model = _sound(_read(Path(source)) if isinstance(source, str | Path) else source)
        net, batch = _raised(model, shape)
        _verify(net, model, batch)
    except BadInput as error:
        raise type(error)(f"{label}: {error}") from error
    return net


def _read(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load_from_string(path.read_bytes())
    except OSError as error:
        raise BadInput(f"it cannot be read: {error.strerror or error}") from error
    except DecodeError as error:
        raise Damaged("it is not an ONNX file") from error
    folder = path.resolve().parent
    for tensor in model.graph.initializer:
        if uses_external_data(tensor):
            _load_beside(tensor, folder)
    return model


def _load_beside(tensor: onnx.TensorProto, folder: Path) -> None:
    """Load the values of a tensor from a file in the model's own folder. Raises BadInput for one anywhere else."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    beside = (folder / location).resolve()
    if not location or Path(location).is_absolute() or not beside.is_relative_to(folder):
        raise BadInput(f"its weights are in {location!r}, outside its folder; put them beside it")
    if not beside.is_file():
        raise BadInput(f"its weights are in {location}, which is not beside it; copy that file too")
    try:
        load_external_data_for_tensor(tensor, str(folder))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise Damaged(f"its weights in {location} cannot be read: {_line(error)}") from error
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _sound(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model, its local functions written out, after the checker has seen it. Raises Damaged or BadInput."""
    try:
        onnx.checker.check_model(model)
        model = inline_local_functions(model) if model.functions else model
    # The checker and the inliner raise classes of several packages for models that make no sense.
    except Exception as error:
        raise Damaged(f"it is not a sound ONNX model: {_line(error)}") from error
    if any(uses_external_data(tensor) for tensor in _tensors(model.graph)):
        raise BadInput("some of its tensors are in other files; write it again with its weights as initializers")
    return model


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor that a graph stores, those in attributes and in graphs inside it included."""
    yield from graph.initializer
    for attribute in (a for node in graph.node for a in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inside in (attribute.g, *attribute.graphs):
            yield from _tensors(inside)


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _raised(model: onnx.ModelProto, shape: Shape | None) -> tuple[Net, int | None]:
    """Return (network, the batch size that the file fixes or None)."""
    graph = model.graph
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    stored = {tensor.name for tensor in graph.initializer}
    given = [info for info in graph.input if info.name not in stored]
    if not given or graph.sparse_initializer:
        raise BadInput("it has no input" if not given else "it has sparse weights; store them dense")
    sizes = [_sample(info, shape) for info in given]
    batches = {size[0] for size in sizes}
    fixed = batches.pop() if len(batches) == 1 else None
    uses = Counter([name for node in graph.node for name in node.input] + [out.name for out in graph.output])
    raised = Raised(opset, fixed, uses)
    inputs = tuple((raised.input(info.name, size[1:]), size[1:]) for info, size in zip(given, sizes, strict=True))
    for tensor in graph.initializer:
        raised.env[tensor.name] = known(tensor, tensor.name, trained=True)
    for node in _needed(graph):
        _translate(raised, node)
    outputs = [raised.env.get(out.name) for out in graph.output]
    if not outputs or not all(isinstance(out, Value) for out in outputs):
        raise BadInput("an output does not depend on its input")
    spec = Spec(inputs, raised.live(outputs), outputs[0] if len(outputs) == 1 else tuple(outputs))
    used = spec.slot_users()
    return Net(spec, {name: slot for name, slot in raised.slots.items() if name in used}), fixed


def _sample(info: onnx.ValueInfoProto, shape: Shape | None) -> tuple[Any, ...]:
    """Return an input's sizes: first the batch size that the file fixes or None, then one sample's shape."""
    kind = info.type.tensor_type
    if not info.type.HasField("tensor_type") or kind.elem_type != TensorProto.FLOAT:
        names = {number: name.lower() for name, number in TensorProto.DataType.items()}
        raise BadInput(
            f"its input {info.name!r} is {names.get(kind.elem_type, 'of no known type')}; it must be float32"
        )
    dims = [dim.dim_value or None for dim in kind.shape.dim]
    if not kind.HasField("shape") or len(dims) < 2:
        raise BadInput(f"its input {info.name!r} has {len(dims)} dimensions; it needs a batch and at least one more")
    wanted = dims[1:] if shape is None else list(shape)
    if len(wanted) != len(dims) - 1 or any(d not in (None, w) for d, w in zip(dims[1:], wanted, strict=True)):
        takes = ", ".join("?" if d is None else str(d) for d in dims[1:])
        raise BadInput(f"it takes samples of shape ({takes}), not {tuple(wanted)}")
    if None in wanted:
        raise BadInput(f"its input {info.name!r} leaves the shape of a sample open; give it, like --input 3x32x32")
    return (dims[0], *wanted)


def _needed(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes that the outputs depend on, in order."""
    wanted, kept = {out.name for out in graph.output}, []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _translate(raised: Raised, node: onnx.NodeProto) -> None:
    """Add what an ONNX node does to the network. Raises BadInput naming its operator and itself."""
    inputs = tuple(raised.env.get(name) if name else None for name in node.input)
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    call, raised.hint = Call(node, inputs, raised.opset, attributes), node.output[0]
    where = f"operator {node.op_type!r} at node {node.name or node.output[0]!r}"
    constant = all(found is None or isinstance(found, Const) for found in inputs) and node.op_type not in STORED_FORMS
    if constant and node.op_type in ("Expand", "Tile"):  # to as many samples as there are
        constant = BATCH not in (call.numbers(1) or [])
    if node.domain not in ("", "ai.onnx") or node.op_type not in (FOLDED if constant else RAISERS):
        raise BadInput(f"{where} is not supported; rewrite the layer that uses it")
    try:
        made = fold(call) if constant else RAISERS[node.op_type](raised, call)
    except REFUSALS as error:
        raise BadInput(f"{where} cannot be translated: {_line(error)}") from error
    outputs = made if isinstance(made, list) else [made]
    raised.env.update({name: found for name, found in zip(node.output, outputs, strict=False) if name})


@torch.no_grad()
def _verify(net: Net, model: onnx.ModelProto, batch: int | None) -> None:
    """Run both on random inputs, in batches as large as the file allows, and compare. Raises BadInput."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    if exact_allowed(model):  # what saturates is a property of the processor, not of the file
        options.add_session_config_entry(OPTION, "1")
    draw, count = np.random.default_rng(0), (batch or 1) * 3
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs() if i.name not in {t.name for t in model.graph.initializer}]
        for shift in (0.0, 0.5):
            xs = [(draw.random((count, *shape)) - shift).astype(np.float32) for _, shape in net.spec.inputs]
            wanted = _run(session, dict(zip(names, xs, strict=True)), batch or count)
            got = [y.numpy() for y in tree_leaves(net.eval()(*map(torch.from_numpy, xs)))]
            for a, b in zip(wanted, got, strict=True):
                _compare(net, a, b)
    except BadInput:
        raise
    # ONNX Runtime's exceptions share no base class of their own below Exception.
    except Exception as error:
        raise BadInput(f"it does not run: {_line(error)}") from error
    finally:
        net.train()


def _run(session: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray], batch: int) -> list[np.ndarray]:
    """Return the outputs, computed in batches of this size."""
    count = len(next(iter(inputs.values())))
    parts = [session.run(None, {n: x[at : at + batch] for n, x in inputs.items()}) for at in range(0, count, batch)]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def _compare(net: Net, wanted: np.ndarray, got: np.ndarray) -> None:
    """Raise BadInput where outputs differ. A value half-way between two levels of a quantizer may fall either way.

    So with quantizers 5 % of the largest value is allowed, or three levels where the outputs are on levels themselves.
    """
    if wanted.shape != got.shape:
        raise BadInput(f"ONNX Runtime gives the shape {wanted.shape}, the translated network {got.shape}")
    steps = {node.name: node.args["scale"] for node in net.spec.nodes if node.op.startswith("fake_quantize")}
    last = max((steps[str(leaf)] for leaf in references(net.spec.output) if str(leaf) in steps), default=0.0)
    largest = float(np.abs(np.nan_to_num(wanted)).max(initial=0.0))
    room = 1e-4 + (max(0.05 * largest, 3.01 * last) if steps else 0.0)
    if not np.allclose(wanted, got, rtol=1e-3, atol=room, equal_nan=True):
        gap = float(np.nan_to_num(np.abs(wanted - got), nan=np.inf).max())
        raise BadInput(f"the translated network differs from ONNX Runtime by {gap:.2g}")
