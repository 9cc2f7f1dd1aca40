"""Arithmetic on constants and shapes inside an ONNX graph, worked out while it is read."""

import math
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.shape_inference import infer_node_outputs

from paredown.core.errors import BadInput
from paredown.graph.frozen import Plain
from paredown.graph.raised import BATCH, LARGEST, Call, Const

_NAMES = """
Abs Add And BitShift BitwiseAnd BitwiseXor Cast Ceil Concat ConstantOfShape Div Equal Expand Flatten Floor Gather Greater GreaterOrEqual Less
LessOrEqual Max Min Mod Mul Neg Not Or Pow Range Reciprocal ReduceMax ReduceMin ReduceProd ReduceSum Reshape Slice Split
Sqrt Squeeze Sub Tile Transpose Unsqueeze Where
"""
FOLDED = frozenset(_NAMES.split())
"""Operators that are computed when all that they read is known."""


def fold(call: Call) -> list[Const]:
    """Return the outputs of a node whose inputs are all known. Raises BadInput for one that grows too large."""
    node = call.node
    given = zip(node.input, call.inputs, strict=True)
    arrays = {name: found.array for name, found in given if isinstance(found, Const)}
    tensors = {name: numpy_helper.from_array(np.array(array, order="C"), name) for name, array in arrays.items()}
    inputs = [helper.make_tensor_value_info(name, t.data_type, list(t.dims)) for name, t in tensors.items()]
    opsets = [helper.make_opsetid("", call.opset)]
    schema = onnx.defs.get_schema(node.op_type, call.opset)
    types = infer_node_outputs(schema, node, {i.name: i.type for i in inputs}, tensors, opset_imports=opsets)
    outputs = [helper.make_value_info(name, types[name]) for name in node.output if name]
    for output in outputs:
        _check_size(output.type)
    graph = helper.make_graph([node], "fold", inputs, outputs)
    evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets))
    made: list[Any] = evaluator.run(None, arrays)  # type: ignore[assignment]
    trained = any(found.trained for found in call.inputs if isinstance(found, Const))
    return [Const(Plain(np.asarray(array)), o.name, trained) for array, o in zip(made, outputs, strict=True)]


def _check_size(kind: onnx.TypeProto) -> None:
    dims = kind.tensor_type.shape.dim
    if not kind.tensor_type.HasField("shape") or not all(dim.HasField("dim_value") for dim in dims):
        raise BadInput("the size of the constant it makes is not known beforehand")
    sizes = [dim.dim_value for dim in dims]
    if any(size and size % BATCH == 0 for size in sizes):
        raise BadInput("it makes a constant as large as the batch; the batch size must stay open")
    if math.prod(sizes) > LARGEST:
        raise BadInput(f"it makes a constant of {math.prod(sizes):,} entries; at most {LARGEST:,}")
