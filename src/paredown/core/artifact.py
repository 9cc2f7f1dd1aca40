"""What is handed over: a file, its checksum, where its bytes go, and how it does in its own runtime."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from paredown.core.metric import Quality


@dataclass(frozen=True)
class Artifact:
    """A written file. `bytes` is its size on disk; `itemised` splits it by what the bytes hold and sums to it.

    `mismatches` counts, over `n` inputs, the predictions that differ from the model the file came from. `beside`: what general
    compressors make of the same tensors, {compressor: bytes}, where that was tried. `note`: what explains mismatches, if known.
    """

    target: str
    path: str
    bytes: int
    sha256: str
    itemised: Mapping[str, int] = field(default_factory=dict)
    mismatches: int = 0
    n: int = 0
    quality: Quality | None = None
    beside: Mapping[str, int] = field(default_factory=dict)
    note: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the artifact as a JSON object."""
        data = {**vars(self), "itemised": dict(self.itemised), "beside": dict(self.beside)}
        data["quality"] = self.quality.to_json() if self.quality else None
        return data

    @staticmethod
    def of_json(data: dict) -> "Artifact":
        """Return the Artifact that `to_json` wrote."""
        fields = {k: data[k] for k in Artifact.__dataclass_fields__ if k in data}
        if fields.get("quality"):
            fields["quality"] = Quality.of_json(fields["quality"])
        return Artifact(**fields)


def sha256_of(path: str | Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
