"""The `packed` target: one entropy-coded file, run through ONNX Runtime after decoding. Reading needs no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from paredown.core.artifact import Artifact, sha256_of
from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.store import write_whole
from paredown.targets.container import read, write
from paredown.targets.lower import build
from paredown.targets.runtime import Predict, predictor


@part("packed", Card(title="Packed container (.pdn), decoded and run in ONNX Runtime", source="docs/packed-format.md"))
@dataclass(frozen=True)
class Packed:
    """The architecture and the entropy-coded tensors in one checked file."""

    suffix = ".pdn"

    def write(self, net: Any, folder: Path) -> Artifact:
        """Write `model.pdn` into `folder` and return it. net: a Frozen."""
        data, items = write(net)
        path = folder / "model.pdn"
        write_whole(path, data)
        return Artifact("packed", str(path), len(data), sha256_of(path), items)

    def load(self, path: Path) -> Predict:
        """Return `predict(inputs) -> scores` for a file. Raises Damaged or BadInput."""
        return predictor(self.model(path))

    def model(self, path: Path) -> onnx.ModelProto:
        """Return the ONNX model that a file is run as. Raises Damaged or BadInput."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BadInput(f"file {path} cannot be read: {error.strerror}") from error
        return build(read(data))
