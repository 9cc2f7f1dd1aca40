"""The `onnx` target: integers with DequantizeLinear, activations as QDQ. Reading needs no torch."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from paredown.core.artifact import Artifact, sha256_of
from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput, Damaged
from paredown.core.store import write_whole
from paredown.targets.lower import build
from paredown.targets.onnx_writer import ITEMS, OPSET
from paredown.targets.runtime import Predict, predictor


def itemised(model: onnx.ModelProto, size: int) -> dict[str, int]:
    """Return {item: bytes} that sum to `size`: initializers by the letter that their names begin with, the rest graph."""
    items: dict[str, int] = defaultdict(int)
    for tensor in model.graph.initializer:
        if tensor.name[0] in ITEMS:
            items[ITEMS[tensor.name[0]]] += tensor.ByteSize()
    return {**items, "graph": size - sum(items.values())}


@part("onnx", Card(title="ONNX with QDQ, run in ONNX Runtime", source=f"ONNX opset {OPSET}; onnxruntime.ai"))
@dataclass(frozen=True)
class Onnx:
    """An ONNX file that any ONNX runtime of opset 21 runs."""

    suffix = ".onnx"

    def write(self, net: Any, folder: Path) -> Artifact:
        """Write `model.onnx` into `folder` and return it. net: a Frozen."""
        model = build(net)
        path = folder / "model.onnx"
        write_whole(path, model.SerializeToString())
        size = path.stat().st_size
        return Artifact("onnx", str(path), size, sha256_of(path), itemised(model, size))

    def load(self, path: Path) -> Predict:
        """Return `predict(inputs) -> scores` for a file. Raises Damaged or BadInput."""
        return predictor(self.model(path))

    def model(self, path: Path) -> onnx.ModelProto:
        """Return the model that a file holds. Raises Damaged or BadInput."""
        try:
            model = onnx.load_from_string(path.read_bytes())
            onnx.checker.check_model(model)
        except OSError as error:
            raise BadInput(f"file {path} cannot be read: {error.strerror}") from error
        # protobuf and the checker raise classes of several packages for bytes that are no model.
        except Exception as error:
            raise Damaged(f"file {path} is not a sound ONNX model: {str(error).splitlines()[0]}") from error
        return model
