"""Whether ONNX Runtime can be told to multiply int8 exactly on processors without VNNI. Needs no torch."""

import onnx
from onnx import TensorProto, helper

OPTION = "session.x64quantprecision"
"""The session option: by default, x86-64 processors without VNNI saturate pairs of int8 products at 16 bits."""


def exact_allowed(model: onnx.ModelProto) -> bool:
    """Return whether the model multiplies in integers at all, and runs with OPTION.

    With it ONNX Runtime 1.31 makes int8 weights unsigned, gives those without zero points a single one, and then fails where
    there is more than one step.
    """
    nodes = model.graph.node
    stored = {t.name: t for t in model.graph.initializer}
    casts = {
        n.output[0] for n in nodes if n.op_type == "Cast" and helper.get_node_attr_value(n, "to") == TensorProto.INT8
    }

    def fails(node: onnx.NodeProto) -> bool:
        held = (
            stored[node.input[0]].data_type == TensorProto.INT8 if node.input[0] in stored else node.input[0] in casts
        )
        return held and len(node.input) < 3 and not (node.input[1] in stored and not stored[node.input[1]].dims)

    if not any(node.op_type == "QuantizeLinear" for node in nodes):
        return False
    return not any(fails(node) for node in nodes if node.op_type == "DequantizeLinear")
