"""The `packed` target: one entropy-coded file, run through ONNX Runtime after decoding. Reading needs no torch."""

import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import zstandard

from paredown.core.artifact import Artifact, sha256_of
from paredown.core.catalog import Card, part
from paredown.core.errors import BadInput
from paredown.core.store import write_whole
from paredown.graph.frozen import Frozen, Stored
from paredown.targets.container import read, write
from paredown.targets.lower import build
from paredown.targets.runtime import Predict, predictor

BESIDE_MOST = 1 << 26
"""Bytes of tensors beyond which general compressors are not tried: they take a second for two million."""


def beside(frozen: Frozen) -> dict[str, int]:
    """Return {"zstd -19": bytes, "xz -9": bytes} of the same tensors: codes as whole bytes, steps and tables as floats; no architecture.

    Nothing for tensors of more than 64 MiB. For what is handed over, not for each trial: it takes longer than packing.
    """
    data = b"".join(array.tobytes() for stored in frozen.tensors.values() for array in arrays_of(stored))
    if not 0 < len(data) <= BESIDE_MOST:
        return {}
    return {"zstd -19": len(zstandard.compress(data, 19)), "xz -9": len(lzma.compress(data, preset=9))}


def arrays_of(stored: Stored) -> list[np.ndarray]:
    """Return what a tensor holds, as arrays of the types that hold it whole."""
    return [value for value in vars(stored).values() if isinstance(value, np.ndarray)]


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
        return predictor(self.model(path), exact=True)

    def model(self, path: Path) -> onnx.ModelProto:
        """Return the ONNX model that a file is run as. Raises Damaged or BadInput."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BadInput(f"file {path} cannot be read: {error.strerror}") from error
        return build(read(data))
